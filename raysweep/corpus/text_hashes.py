"""Hashes columns of texts, so that equal texts can be found.

A kernel normalises ASCII texts, which are nearly all, as `normalising.normalise_text` does; that function itself
normalises the others.
"""

from hashlib import blake2b
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raysweep.corpus.normalising import normalise_text
from raysweep.readers.compiled import kernel

Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]
Longs = npt.NDArray[np.int64]
Shorts = npt.NDArray[np.int32]

_MIX = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


def keyed_hashes(texts: pa.Array, key: bytes) -> Hashes:
    """Hash each normalised text to 64 bits (BLAKE2b, little endian) under a key."""
    folded, ends, others = _normalise(texts)
    view, borders = folded.data, ends.tolist()
    digests = [blake2b(view[start:end], digest_size=8, key=key).digest() for start, end in pairwise(borders)]
    for place, text in others.items():
        digests[place] = blake2b(text, digest_size=8, key=key).digest()
    return np.frombuffer(b"".join(digests), dtype="<u8")


def plain_hashes(cells: pa.Array) -> Hashes:
    """Hash each cell to 64 bits without normalising it."""
    data, begins = text_bytes(cells)
    return _hash_all(data, begins)


def normalised_hashes(texts: pa.Array) -> Hashes:
    """Hash each normalised text to 64 bits, with another function than `keyed_hashes`."""
    folded, ends, others = _normalise(texts)
    hashes = _hash_all(folded, ends)
    if others:
        encoded = list(others.values())
        data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        hashes[list(others)] = _hash_all(data, np.cumsum([0, *map(len, encoded)]))
    return hashes


def number_by_appearance(hashes: Hashes) -> tuple[Shorts, Longs]:
    """Number the distinct values in the order of their first appearance; also returns the index of each appearance."""
    order = np.argsort(hashes, kind="stable")
    in_order = hashes[order]
    is_first = np.ones(len(order), dtype=np.bool_)
    np.not_equal(in_order[1:], in_order[:-1], out=is_first[1:])
    del in_order
    firsts = order[is_first]
    ranks = np.empty(len(firsts), dtype=np.int32)
    ranks[np.argsort(firsts)] = np.arange(len(firsts), dtype=np.int32)
    codes = np.empty(len(order), dtype=np.int32)
    codes[order] = ranks[np.cumsum(is_first, dtype=np.int32) - 1]
    firsts.sort()
    return codes, firsts


def text_bytes(texts: pa.Array) -> tuple[Bytes, Longs]:
    """Return the UTF-8 bytes of all texts, and the start of each text and the end of the last one; nulls are empty."""
    plain = texts.cast(pa.large_string())
    begins = np.frombuffer(plain.buffers()[1], dtype=np.int64)[plain.offset : plain.offset + len(plain) + 1]
    return np.frombuffer(plain.buffers()[2] or b"", dtype=np.uint8), begins


def _normalise(texts: pa.Array) -> tuple[Bytes, Longs, dict[int, bytes]]:
    """Return the bytes of the normalised ASCII texts, the start of each and the end of the last one, and the other
    normalised texts by their index."""
    data, begins = text_bytes(texts)
    folded = np.empty(int(begins[-1] - begins[0]), dtype=np.uint8)
    ends = np.zeros(len(begins), dtype=np.int64)
    is_other = np.zeros(len(texts), dtype=np.bool_)
    size = _fold(data, begins, folded, ends, is_other)
    places = np.flatnonzero(is_other)
    others = [normalise_text(text).encode() for text in texts.take(pa.array(places)).to_pylist()]
    return folded[:size], ends, dict(zip(places.tolist(), others, strict=True))


def _hash_all(data: Bytes, begins: Longs) -> Hashes:
    hashes = np.empty(len(begins) - 1, dtype=np.uint64)
    _hash(data, begins, hashes)
    return hashes


@kernel
def _fold(data: Bytes, begins: Longs, folded: Bytes, ends: Longs, is_other: npt.NDArray[np.bool_]) -> int:
    """Write ASCII texts in lower case with collapsed white space (as `str.split` defines it); mark the other texts."""
    written = 0
    for text in range(len(is_other)):
        first, is_gap = written, False
        for place in range(begins[text], begins[text + 1]):
            byte = data[place]
            if byte >= 128:
                is_other[text] = True
                written = first
                break
            if byte == 32 or 9 <= byte <= 13 or 28 <= byte <= 31:
                is_gap = written > first
                continue
            if is_gap:
                folded[written] = 32
                written += 1
                is_gap = False
            folded[written] = byte + 32 if 65 <= byte <= 90 else byte
            written += 1
        ends[text + 1] = written
    return written


@kernel
def _hash(data: Bytes, begins: Longs, hashes: Hashes) -> None:
    """Hash eight bytes at a time by multiplying and folding, with the finaliser of SplitMix64 (Steele et al. 2014)."""
    for text in range(len(hashes)):
        place, end = begins[text], begins[text + 1]
        state = np.uint64(end - place) * _MIX
        while place < end:
            word = np.uint64(0)
            for offset in range(min(8, end - place)):
                word |= np.uint64(data[place + offset]) << np.uint64(8 * offset)
            state = (state ^ word) * _MIX
            state ^= state >> _HALF
            place += 8
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        hashes[text] = state ^ (state >> np.uint64(31))
