"""The hot loops of the search for near duplicates, compiled by numba at their first call and cached on disk.

Words come as 32-bit hashes (`word_hashes`); a pair of neighbouring words is a shingle, and the shingles of a text
become a signature of minima.  Kernels hold no state and start no threads.  They call only functions of this file, so
numba's check of the file's age is enough to recompile them after a change.
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
_MIX = np.uint64(0x9E3779B97F4A7C15)
_HIGH = np.uint64(32)
_NONE = np.uint64(0)
_ONE = np.uint64(1)
_FOUR_BITS = np.uint64(15)
_LOWEST = np.uint64(0x111111111111111)
"""The lowest of each four bits, of `_IN_PART` groups."""
_LOWEST_OF_ALL = np.uint64(0x1111111111111111)
_OPENING = 16
"""Words at the beginning of a text of which four bits are kept, in one word of 64 bits; as many at its end."""
_NOT_NEAR = np.uint8(255)
_LOW_HALVES = np.uint64(0x0F0F0F0F0F0F0F0F)
_SIGNATURES = 1 << 12
"""Signatures that are kept while pairs are measured: 1 MB."""
_EACH_BYTE = np.uint64(0x0101010101010101)


@kernel
def sketch_texts(words: Hashes, counts: Longs, factors: Wides, terms: Wides, band_keys: Wides, packed: Wides) -> None:
    """Write what candidates are found by; texts without words are left out.

    Args:
        counts: (D,) the number of words of each text.
        factors, terms: of the hash functions of the minima.
        band_keys: (BANDS, D) output, equal where all minima of a band are.
        packed: (PACKED + 2, D) output, four bits of each minimum, of each of the first words, and of each of the last
            words, the last one first.
    """
    minima = np.empty(SIGNATURE, dtype=np.uint32)
    first = 0
    for text in range(len(counts)):
        if counts[text] == 0:
            continue
        own = words[first : first + counts[text]]
        _sign(own, factors, terms, minima)
        first += counts[text]
        for place in range(min(_OPENING, len(own))):
            packed[PACKED, text] |= np.uint64(own[place] & 15) << np.uint64(4 * place)
            packed[PACKED + 1, text] |= np.uint64(own[len(own) - 1 - place] & 15) << np.uint64(4 * place)
        for band in range(BANDS):
            key = np.uint64(minima[band * ROWS])
            for row in range(band * ROWS + 1, (band + 1) * ROWS):
                key = (key ^ (key >> np.uint64(29))) * _MIX + np.uint64(minima[row])
            band_keys[band, text] = key
        for part in range(PACKED):
            state = _NONE
            for row in range(_IN_PART):
                state |= (np.uint64(minima[part * _IN_PART + row]) & np.uint64(15)) << np.uint64(4 * row)
            packed[part, text] = state


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
    surely: int,
    allowed: float,
    at: Longs,
    pairs: Longs,
) -> int:
    """Write pairs of bucket mates that may be similar enough; returns how many were written.

    Args:
        packed: (PACKED + 2, R) of the texts of all buckets, one bucket after the other.
        lengths: (R,) of the same texts.
        begins: where the buckets begin, and where the last ends.
        reach: how many later texts of its bucket each is compared with; there is room for as many pairs.
        agreeing: minima that two signatures must share for their texts to be compared.
        surely: long texts with fewer minima that differ are nearly all similar, and are not looked at before.
        allowed: the fraction of words that may differ.
        at: the bucket and the text to go on with; both are moved on.
        pairs: output, places in `packed`.
    """
    count = 0
    differing, places = np.empty(reach, dtype=np.uint8), np.empty((2, 16), dtype=np.uint64)
    while at[0] < len(begins) - 1:
        end = begins[at[0] + 1]
        while at[1] < end:
            left = at[1]
            if count + reach > len(pairs):
                return count
            after = min(end, left + 1 + reach)
            if _find_near(packed, lengths, left, after, agreeing, allowed, differing):
                _note_places(packed, lengths, left, places)
                for place in range(after - left - 1):
                    right = left + 1 + place
                    if (differing[place] < surely and lengths[left] >= 2 * _OPENING) or (
                        differing[place] < _NOT_NEAR
                        and _may_agree(packed, lengths, left, right, allowed)
                        and _ends_may_agree(packed, lengths, places, left, right, allowed)
                    ):
                        pairs[count, 0], pairs[count, 1] = left, right
                        count += 1
            at[1] += 1
        at[0] += 1
    return count


@kernel
def _find_near(
    packed: Wides, lengths: Shorts, left: int, end: int, agreeing: int, allowed: float, minima: Bytes
) -> int:
    """Write how many minima of each text after `left` differ, or `_NOT_NEAR`; returns how many texts may be similar."""
    size = lengths[left]
    shortest = size - int(allowed * size + 1e-6)
    longest = size
    while longest + 1 - size <= allowed * (longest + 1) + 1e-6:
        longest += 1
    first, second, third, fourth = packed[0, left], packed[1, left], packed[2, left], packed[3, left]
    firsts, seconds = packed[0, left + 1 : end], packed[1, left + 1 : end]
    thirds, fourths, sizes = packed[2, left + 1 : end], packed[3, left + 1 : end], lengths[left + 1 : end]
    differing = np.uint64(SIGNATURE - agreeing)
    found = 0
    for place in range(len(firsts)):
        marks = (
            _differing(first ^ firsts[place])
            + _differing(second ^ seconds[place])
            + _differing(third ^ thirds[place])
            + _differing(fourth ^ fourths[place])
        )
        # Each four bits count up to four; as bytes they are added up by a product.
        pairs = (marks & _LOW_HALVES) + ((marks >> np.uint64(4)) & _LOW_HALVES)
        count = (pairs * _EACH_BYTE) >> np.uint64(56)
        alike = count <= differing
        alike &= (sizes[place] >= shortest) & (sizes[place] <= longest)
        minima[place] = np.uint8(count) if alike else _NOT_NEAR
        found += alike
    return found


@kernel
def _may_agree(packed: Wides, lengths: Shorts, left: int, right: int, allowed: float) -> bool:
    """Tell whether the first, and the last, words of two texts allow so few edits; most pairs are told apart by that.

    A word that no edit touches has its equal at most as many places away as there are edits.
    """
    most = int(allowed * max(lengths[left], lengths[right]) + 1e-6)
    known = min(_OPENING - most, lengths[left])
    if known <= most:
        return True
    inside = ~np.uint64(0) >> np.uint64(64 - 4 * known)
    for part in range(PACKED, PACKED + 2):
        one, other = packed[part, left], packed[part, right]
        missing = _differing_of_all(one ^ other) & inside
        for shift in range(4, 4 * most + 1, 4):
            missing &= _differing_of_all(one ^ (other << np.uint64(shift)))
            missing &= _differing_of_all(one ^ (other >> np.uint64(shift)))
        # A sum of 16, which exceeds four bits, comes only where no edit is allowed; then the words are compared.
        if np.int64((missing * _LOWEST_OF_ALL) >> np.uint64(60)) > most:
            return False
    return True


@kernel
def _note_places(packed: Wides, lengths: Shorts, text: int, places: Wides) -> None:
    """Write at which of its first, and of its last, words a text has each four bits: bit n for the n-th place."""
    places[:] = _NONE
    for end in range(2):
        for place in range(min(_OPENING, lengths[text])):
            places[end, (packed[PACKED + end, text] >> np.uint64(4 * place)) & _FOUR_BITS] |= _ONE << np.uint64(place)


@kernel
def _ends_may_agree(packed: Wides, lengths: Shorts, places: Wides, left: int, right: int, allowed: float) -> bool:
    """Tell whether the edits that the first words of two texts need, and the last ones, are not too many.

    Args:
        places: of the left text, from `_note_places`.
    """
    most = int(allowed * max(lengths[left], lengths[right]) + 1e-6)
    size, other_size = min(_OPENING, lengths[left]), min(_OPENING, lengths[right])
    edits = _least_edits(places[0], size, packed[PACKED, right], other_size)
    if edits > most:
        return False
    of_end = _least_edits(places[1], size, packed[PACKED + 1, right], other_size)
    # Of longer texts these are other words than the first.
    return (edits + of_end if min(lengths[left], lengths[right]) >= 2 * _OPENING else of_end) <= most


@kernel
def _least_edits(places: Wides, size: int, other: np.uint64, other_size: int) -> int:
    """The fewest edits with which either of two beginnings becomes a beginning of the other.

    Whatever follows, the texts are at least so far apart: a path through the table of distances leaves it by its last
    row or its last column.  A column of the table is two numbers, of the steps up and the steps down (Myers 1999, as
    Hyyrö 2003 wrote it).

    Args:
        places: of each four bits, where the first beginning has them.
        size: of the first beginning, in words.
        other: four bits of each word of the other one.
    """
    up, down = ~_NONE, _NONE
    last = np.uint64(size - 1)
    distance = least = np.int64(size)
    for place in range(other_size):
        equal = places[(other >> np.uint64(4 * place)) & _FOUR_BITS]
        vertical = equal | down
        horizontal = (((equal & up) + up) ^ up) | equal
        more, less = down | ~(horizontal | up), up & horizontal
        distance += np.int64((more >> last) & _ONE) - np.int64((less >> last) & _ONE)
        least = min(least, distance)
        more, less = (more << _ONE) | _ONE, less << _ONE
        up, down = less | ~(vertical | more), more & vertical
    distance = np.int64(other_size)
    for place in range(size):
        distance += np.int64((up >> np.uint64(place)) & _ONE) - np.int64((down >> np.uint64(place)) & _ONE)
        least = min(least, distance)
    return int(least)


@kernel
def _differing_of_all(bits: np.uint64) -> np.uint64:
    """The same of all sixteen groups of four bits as `_differing` of fifteen."""
    bits |= bits >> np.uint64(2)
    bits |= bits >> np.uint64(1)
    return bits & _LOWEST_OF_ALL


@kernel
def _differing(bits: np.uint64) -> np.uint64:
    """A one in the lowest of each four bits that are not all 0."""
    bits |= bits >> np.uint64(2)
    bits |= bits >> np.uint64(1)
    return bits & _LOWEST


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

    Pairs of a crowd of like texts have their texts in common, so signatures made lately are kept.

    Args:
        agreeing: minima that the signatures of the two texts must share.
        allowed: the fraction of words that may differ.
    """
    longest = 0
    for pair in range(len(pairs)):
        longest = max(longest, lengths[pairs[pair, 0]], lengths[pairs[pair, 1]])
    reached = np.empty((2, longest + 4), dtype=np.int32)
    signed, signatures = np.full(_SIGNATURES, -1, dtype=np.int64), np.empty((_SIGNATURES, SIGNATURE), dtype=np.uint32)
    one, signed_left = np.empty(SIGNATURE, dtype=np.uint32), np.int64(-1)
    for pair in range(len(pairs)):
        left, right = pairs[pair, 0], pairs[pair, 1]
        a = words[starts[left] : starts[left] + lengths[left]]
        b = words[starts[right] : starts[right] + lengths[right]]
        longer = max(len(a), len(b))
        # Slightly more than the fraction, so that rounding keeps 1 word in 10 a tenth.
        distance = edit_distance(a, b, int(allowed * longer + 1e-6), reached)
        similarities[pair] = -1.0
        if distance >= 0:
            if signed_left != left:
                _sign(a, factors, terms, one)
                signed_left = left
            place = right % _SIGNATURES
            if signed[place] != right:
                _sign(b, factors, terms, signatures[place])
                signed[place] = right
            if np.sum(one == signatures[place]) >= agreeing:
                similarities[pair] = 1.0 - distance / longer


@kernel
def edit_distance(a: Hashes, b: Hashes, most: int, reached: Shorts) -> int:
    """The edit distance (Levenshtein) between two texts in words; −1 if more than `most`.

    For each number of edits the farthest row of each diagonal is computed (Ukkonen 1985; Myers 1986), so the cost is
    the length of the texts and the square of the edits.

    Args:
        reached: room for two rows of 2 × most + 3.
    """
    aim = len(b) - len(a)
    if abs(aim) > most:
        return -1
    middle = most + 1
    reached[:, : 2 * most + 3] = -2
    before, here = 0, 1
    for edits in range(most + 1):
        for diagonal in range(-edits, edits + 1):
            # A word of `a` replaced or left out, or one of `b` put in; without edits the first row.
            row = np.int64(0)
            if edits:
                at = middle + diagonal
                row = np.int64(max(reached[before, at] + 1, reached[before, at + 1] + 1, reached[before, at - 1]))
            row = min(row, np.int64(len(a)), np.int64(len(b) - diagonal))
            while 0 <= row < len(a) and 0 <= row + diagonal < len(b) and a[row] == b[row + diagonal]:
                row += 1
            reached[here, middle + diagonal] = row
        if reached[here, middle + aim] == len(a) and abs(aim) <= edits:
            return edits
        before, here = here, before
    return -1
