"""Finds texts that are almost the same: one corrected, lengthened or changed by a word here and there.

Two texts are near duplicates if at most a share of 1 − `threshold` of the longer one's words must be
changed, left out or put in to make one of the other (word-level edit distance; case, punctuation and
white space do not count).  Comparing all with all is out of the question for 700,000 texts, so
candidates come from MinHash over pairs of neighbouring words with banding (Broder 1997; Leskovec,
Rajaraman and Ullman 2014, chapter 3), and every candidate is then measured: what is reported is so.
What can be missed: at a threshold of 0.9 about 3 pairs in 1,000 of those just above it, and pairs in
buckets so large that not all were compared (`not_compared` counts them).

The result depends on the texts, their order and the threshold alone; the hash functions are fixed.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raysweep.corpus.near_kernels import (
    BANDS,
    ROWS,
    SIGNATURE,
    compare_bucket_mates,
    hash_sequences,
    hash_words,
    sign,
)
from raysweep.seeding import generator_for

Longs = npt.NDArray[np.int64]

_TEXTS_AT_ONCE = 1 << 16
_PAIRS_AT_FIRST = 1 << 16
_REACH = 256
"""Mates in its bucket that a text is compared with; more only in corpora of very similar texts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NearDuplicates:
    """Which texts are almost the same.  D documents, P pairs."""

    threshold: float
    words: Longs
    """(D,) a code of each document's sequence of words: equal ones differ in case, spaces or punctuation at most."""
    pairs: Longs
    """(P, 2) codes of sequences that are similar, the smaller first; sorted, each pair once."""
    similarities: npt.NDArray[np.float32]
    """(P,) 1 − edit distance in words / words of the longer one."""
    not_compared: int
    """Pairs of candidates that were passed over because too many texts looked alike."""


def find_near_duplicates(texts: pa.ChunkedArray, *, threshold: float) -> NearDuplicates:
    """Find all pairs of texts that differ in a share of at most 1 − `threshold` of their words.

    Args:
        threshold: in [0.5, 1]; below 0.8 many pairs that are only just similar enough are missed.
    """
    words, starts = _words_of(texts)
    codes, firsts = _number_sequences(words, starts)
    # A text without words is near to nothing.
    chosen = firsts[starts[firsts + 1] > starts[firsts]]
    pairs, similarities, not_compared = _compare(words, starts, chosen, threshold)
    pairs = np.sort(codes[pairs], axis=1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    pairs, similarities = pairs[order], similarities[order]
    is_new = np.ones(len(pairs), dtype=np.bool_)
    is_new[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    return NearDuplicates(
        threshold=threshold,
        words=codes,
        pairs=pairs[is_new],
        similarities=similarities[is_new],
        not_compared=not_compared,
    )


def _words_of(texts: pa.ChunkedArray) -> tuple[npt.NDArray[np.uint32], Longs]:
    """Hashes of all words in order, and where each text's begin; one more entry than texts."""
    parts, counts = [], []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        text, ends = _bytes_of(texts.slice(start, _TEXTS_AT_ONCE))
        inside = np.zeros(len(ends) - 1, dtype=np.int64)
        found = np.empty(len(text) // 2 + len(ends), dtype=np.uint32)
        parts.append(found[: hash_words(text, ends, found, inside)].copy())
        counts.append(inside)
    words = np.concatenate([np.zeros(0, dtype=np.uint32), *parts])
    starts = np.concatenate([np.zeros(1, dtype=np.int64), *counts]).cumsum()
    return words, starts


def _bytes_of(texts: pa.ChunkedArray) -> tuple[npt.NDArray[np.uint8], Longs]:
    """UTF-8 of some texts (NFKC, small letters), and where each begins."""
    plain = texts.combine_chunks().cast(pa.large_string())
    if not pc.all(pc.string_is_ascii(plain)).as_py():
        plain = pc.utf8_lower(pc.utf8_normalize(plain, form="NFKC"))
    if isinstance(plain, pa.ChunkedArray):
        plain = pa.concat_arrays(plain.chunks)
    offsets = np.frombuffer(plain.buffers()[1], dtype=np.int64)[plain.offset : plain.offset + len(plain) + 1]
    data = plain.buffers()[2]
    return np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, dtype=np.uint8), offsets


def _number_sequences(words: npt.NDArray[np.uint32], starts: Longs) -> tuple[Longs, Longs]:
    """A code for each text, equal for equal sequences of words, and the first text of each code."""
    # Texts without words are told apart by their place.
    hashes = np.arange(len(starts) - 1, dtype=np.uint64)
    hash_sequences(words, starts, hashes)
    _, firsts, codes = np.unique(hashes, return_index=True, return_inverse=True)
    # Codes in the order of the texts, not of a hash.
    order = np.argsort(firsts)
    renumbered = np.empty(len(order), dtype=np.int64)
    renumbered[order] = np.arange(len(order))
    return renumbered[codes].astype(np.int64), firsts[order].astype(np.int64)


def _compare(
    words: npt.NDArray[np.uint32], starts: Longs, chosen: Longs, threshold: float
) -> tuple[Longs, npt.NDArray[np.float32], int]:
    """Pairs of texts (by place, some twice), their similarities, and how many candidates were passed over."""
    rng = generator_for("near duplicates")
    factors = rng.integers(0, 1 << 63, SIGNATURE, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    terms = rng.integers(0, 1 << 63, SIGNATURE, dtype=np.uint64)
    signatures = np.empty((len(chosen), SIGNATURE), dtype=np.uint32)
    sign(words, starts, chosen, factors, terms, signatures)
    is_whole = np.zeros((BANDS, len(chosen)), dtype=np.bool_)
    found_pairs, found_similarities, not_compared = [], [], 0
    pairs = np.empty((_PAIRS_AT_FIRST, 2), dtype=np.int64)
    similarities = np.empty(len(pairs), dtype=np.float32)
    for band in range(BANDS):
        order, begins = _buckets(signatures[:, band * ROWS : (band + 1) * ROWS])
        mates = np.maximum(np.diff(begins) - 1 - _REACH, 0)
        not_compared += int((mates * (mates + 1) // 2).sum())
        while True:
            found = compare_bucket_mates(
                band, order, begins, _REACH, _least_agreement(threshold), 1.0 - threshold, chosen,
                words, starts, signatures, is_whole, pairs, similarities,
            )  # fmt: skip
            if found <= len(pairs):
                break
            pairs, similarities = np.empty((2 * found, 2), dtype=np.int64), np.empty(2 * found, dtype=np.float32)
        found_pairs.append(pairs[:found].copy())
        found_similarities.append(similarities[:found].copy())
    return np.concatenate(found_pairs), np.concatenate(found_similarities), not_compared


def _buckets(band: npt.NDArray[np.uint32]) -> tuple[Longs, Longs]:
    """Rows that share a bucket with another, side by side, and where the buckets begin (and the last one ends)."""
    keys = band[:, 0].astype(np.uint64)
    for column in band.T[1:]:
        keys = (keys ^ (keys >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) + column
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    is_like_next = np.zeros(len(keys), dtype=np.bool_)
    is_like_next[:-1] = keys[1:] == keys[:-1]
    is_like_last = np.zeros(len(keys), dtype=np.bool_)
    is_like_last[1:] = is_like_next[:-1]
    kept = is_like_next | is_like_last
    begins = np.flatnonzero(~is_like_last[kept])
    return order[kept], np.append(begins, np.count_nonzero(kept))


def _least_agreement(threshold: float) -> int:
    """Equal minima of two signatures below which a similar pair is out of the question (four standard errors).

    A changed word costs each text two of its pairs of words, so at a share c of changed words the
    texts share (1 − 2c) / (1 + 2c) of them, and a signature estimates that.
    """
    changed = 1.0 - threshold
    shared = max(0.0, (1.0 - 2.0 * changed) / (1.0 + 2.0 * changed))
    return max(ROWS, int(SIGNATURE * (shared - 4.0 * (shared * (1.0 - shared) / SIGNATURE) ** 0.5)))
