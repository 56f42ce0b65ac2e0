"""The hot loops of the search for near duplicates, compiled by numba at their first call and cached on disk.

Words are 32-bit hashes (`word_hashes`); a pair of neighbouring words is a shingle, and a text's signature is made of
the minima of hash functions over its shingles.
"""

import numpy as np
import numpy.typing as npt

from raysweep.readers.compiled import kernel

BANDS = 20
ROWS = 3
SIGNATURE = BANDS * ROWS
"""Minima in a signature; `BANDS` × `ROWS` = 20 × 3 finds 99.7 % of pairs that share two thirds of their shingles."""
_IN_PART = 15
PACKED = SIGNATURE // _IN_PART
"""Number of 64-bit integers that hold four bits of each minimum of a signature."""

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
_LOWEST = np.uint64(0x1111111111111111)
"""The lowest bit of each group of four."""
_OPENING = 16
"""Words at the start of a text, and at its end, of which four bits each are kept in a 64-bit integer."""
_NOT_NEAR = np.uint8(255)
_LOW_HALVES = np.uint64(0x0F0F0F0F0F0F0F0F)
_SIGNATURES = 1 << 12
"""Signatures that are cached while pairs are measured: 1 MB."""
_EACH_BYTE = np.uint64(0x0101010101010101)


@kernel
def sketch_texts(words: Hashes, counts: Longs, factors: Wides, terms: Wides, band_keys: Wides, packed: Wides) -> None:
    """Compute the band keys and packed signatures by which candidates are found; texts without words are skipped.

    Args:
        counts: (D,) the number of words of each text.
        factors, terms: the parameters of the hash functions of the minima.
        band_keys: (BANDS, D) output; two texts have the same key if all their minima of the band are equal.
        packed: (PACKED + 2, D) output: four bits of each minimum, of each of the first words, and of each of the last
            words in reverse order.
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
    """Compute the minima of `SIGNATURE` hash functions over pairs of neighbouring words; a single word is a pair."""
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
    few_differing: int,
    allowed: float,
    at: Longs,
    pairs: Longs,
) -> int:
    """Write pairs of texts of the same bucket that may be similar enough; returns how many were written.

    Args:
        packed: (PACKED + 2, R) the packed signatures of the texts of all buckets, one bucket after the other.
        lengths: (R,) the number of words of the same texts.
        begins: the start of each bucket, and the end of the last one.
        reach: how many later texts of its bucket each text is compared with; `pairs` has room for as many.
        agreeing: minima that two signatures must share for their texts to be compared.
        few_differing: long texts whose signatures differ in fewer minima are nearly all similar, so their first and
            last words are not checked.
        allowed: the fraction of words that may differ.
        at: the bucket and the text to continue from; both are updated.
        pairs: output, indices into `packed`.
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
                    if (differing[place] < few_differing and lengths[left] >= 2 * _OPENING) or (
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
    """Write how many minima of each text after `left` differ from its own, or `_NOT_NEAR` for a text that cannot be
    similar; returns how many may be similar."""
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
        # Each group of four bits counts up to four; a product adds them up as bytes.
        pairs = (marks & _LOW_HALVES) + ((marks >> np.uint64(4)) & _LOW_HALVES)
        count = (pairs * _EACH_BYTE) >> np.uint64(56)
        alike = count <= differing
        alike &= (sizes[place] >= shortest) & (sizes[place] <= longest)
        minima[place] = np.uint8(count) if alike else _NOT_NEAR
        found += alike
    return found


@kernel
def _may_agree(packed: Wides, lengths: Shorts, left: int, right: int, allowed: float) -> bool:
    """Tell whether the first and the last words of two texts are compatible with the allowed number of edits.

    A word that no edit touches has its equal at a distance of at most the number of edits.  This rules out most pairs.
    """
    most = int(allowed * max(lengths[left], lengths[right]) + 1e-6)
    known = min(_OPENING - most, lengths[left])
    if known <= most:
        return True
    inside = ~np.uint64(0) >> np.uint64(64 - 4 * known)
    for part in range(PACKED, PACKED + 2):
        one, other = packed[part, left], packed[part, right]
        missing = _differing(one ^ other) & inside
        for shift in range(4, 4 * most + 1, 4):
            missing &= _differing(one ^ (other << np.uint64(shift)))
            missing &= _differing(one ^ (other >> np.uint64(shift)))
        # A sum of 16, which overflows four bits, occurs only if no edit is allowed; then the words are compared later.
        if np.int64((missing * _LOWEST) >> np.uint64(60)) > most:
            return False
    return True


@kernel
def _note_places(packed: Wides, lengths: Shorts, text: int, places: Wides) -> None:
    """For each value of four bits, write the positions among a text's first, and last, words that have it: bit n stands
    for the n-th position."""
    places[:] = _NONE
    for end in range(2):
        for place in range(min(_OPENING, lengths[text])):
            places[end, (packed[PACKED + end, text] >> np.uint64(4 * place)) & _FOUR_BITS] |= _ONE << np.uint64(place)


@kernel
def _ends_may_agree(packed: Wides, lengths: Shorts, places: Wides, left: int, right: int, allowed: float) -> bool:
    """Tell whether the first and the last words of two texts need no more edits than allowed.

    Args:
        places: the positions of the left text's words, from `_note_places`.
    """
    most = int(allowed * max(lengths[left], lengths[right]) + 1e-6)
    size, other_size = min(_OPENING, lengths[left]), min(_OPENING, lengths[right])
    edits = _least_edits(places[0], size, packed[PACKED, right], other_size)
    if edits > most:
        return False
    of_end = _least_edits(places[1], size, packed[PACKED + 1, right], other_size)
    # In longer texts the first and the last words do not overlap, so their edits add up.
    return (edits + of_end if min(lengths[left], lengths[right]) >= 2 * _OPENING else of_end) <= most


@kernel
def _least_edits(places: Wides, size: int, other: np.uint64, other_size: int) -> int:
    """Return the fewest edits that turn one of two prefixes into a prefix of the other.

    This is a lower bound of the distance between the texts, whatever follows: a path through the table of distances
    leaves the part of the prefixes by its last row or its last column.  A column of the table is encoded in two bit
    vectors, of the steps up and the steps down (Myers 1999, in the form of Hyyrö 2003).

    Args:
        places: for each value of four bits, its positions in the first prefix.
        size: length of the first prefix, in words.
        other: four bits of each word of the other prefix.
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
def _differing(bits: np.uint64) -> np.uint64:
    """Set the lowest bit of each group of four bits that is not 0."""
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
    """Write the similarity of each pair of texts, or −1 if it is not similar enough.

    The pairs of a large group of similar texts share their texts, so recent signatures are cached.

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
        # The tolerance keeps rounding errors from refusing 1 word in 10 at a fraction of 0.1.
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
    """Return the edit distance (Levenshtein) between two texts in words, or −1 if it is more than `most`.

    For each number of edits the farthest row of each diagonal is computed (Ukkonen 1985; Myers 1986), so the cost grows
    with the length of the texts plus the square of the edits.

    Args:
        reached: working memory for two rows of 2 × most + 3.
    """
    aim = len(b) - len(a)
    if abs(aim) > most:
        return -1
    middle = most + 1
    reached[:, : 2 * most + 3] = -2
    before, here = 0, 1
    for edits in range(most + 1):
        for diagonal in range(-edits, edits + 1):
            # A word of `a` is replaced or deleted, or a word of `b` inserted; without edits this is the first row.
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
