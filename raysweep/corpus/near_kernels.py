"""The hot loops of the search for near duplicates, compiled by numba at their first call and cached on disk.

A text is split into words (lower-case letters and digits, without apostrophes; in scripts without spaces each
character), a word becomes a 32-bit hash, a pair of neighbouring words a shingle, and the shingles a signature of
minima.  Kernels hold no state and start no threads.  They call only functions of this file, so numba's check of
the file's age is enough to recompile them after a change.
"""

import numpy as np
import numpy.typing as npt

from raysweep.readers.compiled import kernel

BANDS = 20
ROWS = 3
SIGNATURE = BANDS * ROWS
"""Minima of a signature; `BANDS` × `ROWS` = 20 × 3 finds 99.7 % of pairs that share two thirds of their shingles."""
_IN_PART = 15
PACKED = SIGNATURE // _IN_PART
"""Words of 64 bits that hold four bits of each minimum."""

Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint32]
Longs = npt.NDArray[np.int64]
Shorts = npt.NDArray[np.int32]
Wides = npt.NDArray[np.uint64]

_PRIME = np.uint64(1099511628211)
_BASIS = np.uint64(14695981039346656037)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_HIGH = np.uint64(32)
_NONE = np.uint64(0)
_LOWEST = np.uint64(0x111111111111111)
"""The lowest of each four bits, of `_IN_PART` groups."""


@kernel
def _wide_character(text: Bytes, place: int, end: int) -> tuple[int, bool, bool]:
    """Look at a character of three or four bytes of UTF-8.

    Returns:
        Its bytes; whether it is of a script without spaces, as in `masking.languages`; whether it is East Asian
        punctuation, which separates words.
    """
    if text[place] >= 0xF0:
        if place + 3 >= end:
            return 1, False, False
        code = (
            (text[place] & 7) << 18 | (text[place + 1] & 63) << 12 | (text[place + 2] & 63) << 6 | text[place + 3] & 63
        )
        return 4, 0x20000 <= code <= 0x323AF, False
    if place + 2 >= end:
        return 1, False, False
    code = (text[place] & 15) << 12 | (text[place + 1] & 63) << 6 | text[place + 2] & 63
    if 0x3000 <= code <= 0x303F:
        is_apart = 0x3005 <= code <= 0x3007 or 0x3031 <= code <= 0x3035
        return 3, is_apart, not is_apart
    is_apart = (
        0x0E00 <= code <= 0x0EFF  # Thai, Lao
        or 0x1000 <= code <= 0x109F  # Burmese
        or 0x1780 <= code <= 0x17FF  # Khmer
        or 0x2E80 <= code <= 0x2FFF  # radicals
        or (0x3040 <= code <= 0x31FF and code != 0x30FB)  # kana; a middle dot separates
        or 0x3400 <= code <= 0x4DBF
        or 0x4E00 <= code <= 0x9FFF
        or 0xA9E0 <= code <= 0xA9FF
        or 0xAA60 <= code <= 0xAA7F
        or 0xF900 <= code <= 0xFAFF
    )
    return 3, is_apart, code == 0x30FB


@kernel
def hash_words(text: Bytes, ends: Longs, words: Hashes, counts: Longs) -> int:
    """Write the hashes of all words in order; returns how many there are.

    Args:
        text: UTF-8 of all texts, one after the other.
        ends: (D + 1,) where each text begins, and where the last ends.
        words: output; needs room for half as many words as there are bytes, and one more for each text.
        counts: (D,) output, the number of words of each text.
    """
    written = 0
    for document in range(len(counts)):
        first = written
        state = _NONE
        place, end = ends[document], ends[document + 1]
        while place < end:
            byte = text[place]
            step, is_word, is_skipped = 1, False, False
            if 65 <= byte <= 90:
                byte, is_word = byte + 32, True
            elif 97 <= byte <= 122 or 48 <= byte <= 57:
                is_word = True
            elif byte == 39:
                is_skipped = True
            elif byte == 0xE2 and place + 2 < end and text[place + 1] == 0x80:
                # General punctuation: quotes, dashes, the ellipsis; the single quotes are apostrophes.
                step = 3
                is_skipped = text[place + 2] == 0x98 or text[place + 2] == 0x99
            elif byte >= 0xE0:
                step, is_apart, is_separator = _wide_character(text, place, end)
                if is_apart and state != _NONE:
                    words[written] = np.uint32((state * _MIX) >> _HIGH)
                    written += 1
                    state = _NONE
                if not is_separator:
                    for part in text[place : place + step]:
                        state = ((_BASIS if state == _NONE else state) ^ np.uint64(part)) * _PRIME
                # A character of its own is a word, which ends here.
                is_skipped = not (is_apart or is_separator)
            elif byte >= 128:
                is_word = True
            if is_word:
                state = ((_BASIS if state == _NONE else state) ^ np.uint64(byte)) * _PRIME
            elif not is_skipped and state != _NONE:
                words[written] = np.uint32((state * _MIX) >> _HIGH)
                written += 1
                state = _NONE
            place += step
        if state != _NONE:
            words[written] = np.uint32((state * _MIX) >> _HIGH)
            written += 1
        counts[document] = written - first
    return written


@kernel
def hash_sequences(words: Hashes, starts: Longs, hashes: npt.NDArray[np.uint64]) -> None:
    """Write a 64-bit hash of each text's sequence of words; texts without words keep their value."""
    for text in range(len(hashes)):
        first, end = starts[text], starts[text + 1]
        if end > first:
            state = _BASIS
            for place in range(first, end):
                state = (state ^ np.uint64(words[place])) * _PRIME
                state = (state ^ (state >> _HIGH)) * _MIX
            hashes[text] = state


@kernel
def sketch_texts(words: Hashes, counts: Longs, factors: Wides, terms: Wides, band_keys: Wides, packed: Wides) -> None:
    """Write what candidates are found by; texts without words are left out.

    Args:
        counts: (D,) the number of words of each text.
        factors, terms: of the hash functions of the minima.
        band_keys: (BANDS, D) output, equal where all minima of a band are.
        packed: (D, PACKED) output, the low four bits of each minimum.
    """
    minima = np.empty(SIGNATURE, dtype=np.uint32)
    first = 0
    for text in range(len(counts)):
        if counts[text] == 0:
            continue
        _sign(words[first : first + counts[text]], factors, terms, minima)
        first += counts[text]
        for band in range(BANDS):
            key = np.uint64(minima[band * ROWS])
            for row in range(band * ROWS + 1, (band + 1) * ROWS):
                key = (key ^ (key >> np.uint64(29))) * _MIX + np.uint64(minima[row])
            band_keys[band, text] = key
        for part in range(PACKED):
            state = _NONE
            for row in range(_IN_PART):
                state |= (np.uint64(minima[part * _IN_PART + row]) & np.uint64(15)) << np.uint64(4 * row)
            packed[text, part] = state


@kernel
def _sign(words: Hashes, factors: Wides, terms: Wides, minima: Hashes) -> None:
    """Write the minima of `SIGNATURE` hash functions over pairs of neighbouring words; a single word is a pair."""
    minima[:] = np.uint32(0xFFFFFFFF)
    for place in range(max(len(words) - 1, 1)):
        pair = np.uint64(words[place]) * _PRIME
        if place + 1 < len(words):
            pair += np.uint64(words[place + 1])
        pair = (pair * _MIX) >> _HIGH
        for function in range(SIGNATURE):
            value = np.uint32((factors[function] * pair + terms[function]) >> _HIGH)
            minima[function] = min(minima[function], value)


@kernel
def find_candidates(
    packed: Wides,
    lengths: Shorts,
    begins: Longs,
    reach: int,
    agreeing: int,
    allowed: float,
    at: Longs,
    pairs: Longs,
) -> int:
    """Write pairs of bucket mates that may be similar enough; returns how many were written.

    Args:
        packed, lengths: of the texts of all buckets, one bucket after the other.
        begins: where the buckets begin, and where the last ends.
        reach: how many later texts of its bucket each is compared with; there is room for as many pairs.
        agreeing: minima that two signatures must share for their texts to be compared.
        allowed: the fraction of words that may differ.
        at: the bucket and the text to go on with; both are moved on.
        pairs: output, places in `packed`.
    """
    count = 0
    while at[0] < len(begins) - 1:
        end = begins[at[0] + 1]
        while at[1] < end:
            left = at[1]
            if count + reach > len(pairs):
                return count
            for right in range(left + 1, min(end, left + 1 + reach)):
                longer = max(lengths[left], lengths[right])
                if 2 * longer - lengths[left] - lengths[right] > allowed * longer + 1e-6:
                    continue
                differing = np.uint64(0)
                for part in range(PACKED):
                    # Four bits that differ anywhere become a one in the lowest of them; the product adds these up.
                    bits = packed[left, part] ^ packed[right, part]
                    bits |= bits >> np.uint64(2)
                    bits |= bits >> np.uint64(1)
                    differing += ((bits & _LOWEST) * _LOWEST) >> np.uint64(56) & np.uint64(15)
                if SIGNATURE - np.int64(differing) >= agreeing:
                    pairs[count, 0], pairs[count, 1] = left, right
                    count += 1
            at[1] += 1
        at[0] += 1
    return count


@kernel
def measure_pairs(
    pairs: Longs,
    words: Hashes,
    starts: Longs,
    lengths: Shorts,
    agreeing: int,
    allowed: float,
    factors: Wides,
    terms: Wides,
    similarities: npt.NDArray[np.float32],
) -> None:
    """Write the similarity of each pair of texts, −1 if it is not similar enough.

    Args:
        agreeing: minima that the signatures of the two texts must share.
        allowed: the fraction of words that may differ.
    """
    longest = 0
    for pair in range(len(pairs)):
        longest = max(longest, lengths[pairs[pair, 1]])
    distances = np.empty((2, longest + 2), dtype=np.int32)
    one, other = np.empty(SIGNATURE, dtype=np.uint32), np.empty(SIGNATURE, dtype=np.uint32)
    for pair in range(len(pairs)):
        left, right = pairs[pair, 0], pairs[pair, 1]
        a = words[starts[left] : starts[left] + lengths[left]]
        b = words[starts[right] : starts[right] + lengths[right]]
        longer = max(len(a), len(b))
        # Slightly more than the fraction, so that rounding keeps 1 word in 10 a tenth.
        distance = edit_distance(a, b, int(allowed * longer + 1e-6), distances)
        similarities[pair] = -1.0
        if distance >= 0:
            _sign(a, factors, terms, one)
            _sign(b, factors, terms, other)
            if np.sum(one == other) >= agreeing:
                similarities[pair] = 1.0 - distance / longer


@kernel
def edit_distance(a: Hashes, b: Hashes, most: int, rows: npt.NDArray[np.int32]) -> int:
    """The edit distance (Levenshtein) between two texts in words; −1 if more than `most`.

    Only cells within `most` of the diagonal are computed (Ukkonen 1985).

    Args:
        rows: room for two rows of len(b) + 1.
    """
    if abs(len(a) - len(b)) > most:
        return -1
    far = np.int32(most + 1)
    above, here = 0, 1
    for column in range(min(len(b), most) + 1):
        rows[above, column] = column
    for row in range(1, len(a) + 1):
        low, high = max(1, row - most), min(len(b), row + most)
        rows[here, low - 1] = row if low == 1 else far
        least = rows[here, low - 1]
        for column in range(low, high + 1):
            best = rows[above, column - 1] + (a[row - 1] != b[column - 1])
            if column < row + most:
                best = min(best, rows[above, column] + 1)
            best = min(best, rows[here, column - 1] + 1)
            rows[here, column] = best
            least = min(least, best)
        if least > most:
            return -1
        above, here = here, above
    distance = int(rows[above, len(b)])
    return distance if distance <= most else -1
