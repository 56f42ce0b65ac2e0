"""The hot loops of the search for near duplicates, compiled by numba at their first call and kept on disk.

A text becomes its words (letters and digits, small, without apostrophes), a word a 32-bit hash, a pair
of neighbouring words a shingle, and the shingles a signature of minima.  Kernels hold no state and
start no threads; all that they call stands in this file, so numba's own check of the file's age is
enough to compile them anew.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

BANDS = 20
ROWS = 3
SIGNATURE = BANDS * ROWS
"""Minima of a signature; `BANDS` × `ROWS` = 20 × 3 finds 99.7 % of pairs that share two thirds of their shingles."""

Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint32]
Longs = npt.NDArray[np.int64]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])

_PRIME = np.uint64(1099511628211)
_BASIS = np.uint64(14695981039346656037)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_HIGH = np.uint64(32)
_NONE = np.uint64(0)


def kernel(function: Kernel) -> Kernel:
    """Compile without Python's lock, and keep what was compiled."""
    return cast("Kernel", numba.njit(cache=True, nogil=True)(function))


@kernel
def hash_words(text: Bytes, ends: Longs, words: Hashes, counts: Longs) -> int:
    """Write the hash of every word of every text, in order; returns how many there are.

    Args:
        text: UTF-8 of all texts, one after the other.
        ends: (D + 1,) where each begins, and where the last ends.
        words: room for half as many words as there are bytes, rounded up, and one for each text.
        counts: (D,) gets the words of each text.
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
    """A 64-bit hash of each text's words in their order; a text without words keeps what stands there."""
    for text in range(len(hashes)):
        first, end = starts[text], starts[text + 1]
        if end > first:
            state = _BASIS
            for place in range(first, end):
                state = (state ^ np.uint64(words[place])) * _PRIME
                state = (state ^ (state >> _HIGH)) * _MIX
            hashes[text] = state


@kernel
def sign(
    words: Hashes,
    starts: Longs,
    chosen: Longs,
    factors: npt.NDArray[np.uint64],
    terms: npt.NDArray[np.uint64],
    signatures: Hashes,
) -> None:
    """The minima of `SIGNATURE` hash functions over the pairs of neighbouring words; a lone word counts as a pair."""
    for row in range(len(chosen)):
        first, end = starts[chosen[row]], starts[chosen[row] + 1]
        minima = np.full(SIGNATURE, 0xFFFFFFFF, dtype=np.uint32)
        for place in range(first, max(end - 1, first + 1)):
            pair = np.uint64(words[place]) * _PRIME
            if place + 1 < end:
                pair += np.uint64(words[place + 1])
            pair = (pair * _MIX) >> _HIGH
            for function in range(SIGNATURE):
                value = np.uint32((factors[function] * pair + terms[function]) >> _HIGH)
                minima[function] = min(minima[function], value)
        signatures[row] = minima


@kernel
def compare_bucket_mates(
    band: int,
    order: Longs,
    begins: Longs,
    reach: int,
    agreeing: int,
    allowed: float,
    chosen: Longs,
    words: Hashes,
    starts: Longs,
    signatures: Hashes,
    is_whole: npt.NDArray[np.bool_],
    pairs: Longs,
    similarities: npt.NDArray[np.float32],
) -> int:
    """Write the pairs of one band that are similar enough; returns how many, more than there is room for if need be.

    Args:
        order: rows of `signatures`, equal ones in the band side by side.
        begins: where the buckets of equal ones begin in `order`, and where the last ends.
        reach: how many later mates each row is compared with.
        agreeing: minima that two signatures must share to be looked at.
        allowed: the share of words that may differ.
        chosen: the text of each row.
        is_whole: (bands, rows) whether the row's bucket was compared as a whole, set here.
    """
    found = 0
    length = 0
    for row in range(len(starts) - 1):
        length = max(length, starts[row + 1] - starts[row])
    distances = np.empty((2, length + 2), dtype=np.int32)
    for bucket in range(len(begins) - 1):
        first, end = begins[bucket], begins[bucket + 1]
        for left in range(first, end):
            one = order[left]
            is_whole[band, one] = end - first <= reach + 1
            for right in range(left + 1, min(end, left + 1 + reach)):
                other = order[right]
                if not _look_alike(signatures[one], signatures[other], band, is_whole[:, one], agreeing):
                    continue
                a = words[starts[chosen[one]] : starts[chosen[one] + 1]]
                b = words[starts[chosen[other]] : starts[chosen[other] + 1]]
                longer = max(len(a), len(b))
                # A hair more than the share, so that 1 word in 10 counts as a tenth.
                distance = edit_distance(a, b, int(allowed * longer + 1e-6), distances)
                if distance >= 0:
                    if found < len(pairs):
                        pairs[found, 0], pairs[found, 1] = chosen[one], chosen[other]
                        similarities[found] = 1.0 - distance / longer
                    found += 1
    return found


@kernel
def _look_alike(one: Hashes, other: Hashes, band: int, whole: npt.NDArray[np.bool_], agreeing: int) -> bool:
    """Whether signatures agree enough, and no earlier band has compared the two."""
    equal = 0
    for each in range(BANDS):
        in_band = 0
        for row in range(each * ROWS, (each + 1) * ROWS):
            in_band += one[row] == other[row]
        if each < band and in_band == ROWS and whole[each]:
            return False
        equal += in_band
    return equal >= agreeing


@kernel
def edit_distance(a: Hashes, b: Hashes, most: int, rows: npt.NDArray[np.int32]) -> int:
    """Words to change, leave out or put in to make `b` of `a` (Levenshtein); −1 if more than `most`.

    Only cells within `most` of the diagonal are looked at (Ukkonen 1985).

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
