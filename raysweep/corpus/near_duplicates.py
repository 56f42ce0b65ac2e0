"""Finds near duplicates: texts that differ by a few words.

Two texts are near duplicates if the edit distance between them, in words, is at most 1 − `threshold` of the
longer text's words (case, punctuation and white space are ignored; in scripts without spaces each character is
a word).  Comparing all pairs of 700,000 texts is infeasible, so candidates come from MinHash over pairs of
neighbouring words with banding (Broder 1997; Leskovec, Rajaraman and Ullman 2014, chapter 3).  The distance of
every candidate is then computed, so there are no false positives.  Missed are about 3 in 1,000 of the pairs
just above a threshold of 0.9, and pairs in buckets too large to compare completely (`not_compared` counts them).

The result depends only on the texts, their order and the threshold; the hash functions are fixed.
"""

from dataclasses import dataclass, replace
from typing import Self

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
from raysweep.corpus.normalising import normalise_text
from raysweep.seeding import generator_for

Longs = npt.NDArray[np.int64]

_TEXTS_AT_ONCE = 1 << 16
_PAIRS_AT_FIRST = 1 << 16
_REACH = 256
"""Texts of its bucket that a text is compared with; only corpora of very similar texts have more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WordSequences:
    """The words of D texts, one text after the other."""

    words: npt.NDArray[np.uint32]
    """A hash of each word."""
    starts: Longs
    """(D + 1,) where each text's words begin, and where the last one's end."""

    @classmethod
    def of(cls, texts: pa.ChunkedArray) -> Self:
        """Split texts into words; case, punctuation and white space are left out."""
        words, starts = _words_of(texts)
        return cls(words=words, starts=starts)

    def filtered(self, kept: npt.NDArray[np.bool_]) -> Self:
        """The words of some texts."""
        lengths = np.diff(self.starts)
        starts = np.concatenate([np.zeros(1, dtype=np.int64), lengths[kept]]).cumsum()
        return replace(self, words=self.words[np.repeat(kept, lengths)], starts=starts)


@dataclass(frozen=True, kw_only=True, slots=True)
class NearDuplicates:
    """The near duplicates of D documents: P pairs."""

    threshold: float
    sequences: WordSequences
    words: Longs
    """(D,) a code for each document's words; equal codes differ at most in case, space or punctuation."""
    pairs: Longs
    """(P, 2) the codes of similar documents, the smaller first; sorted, without repeats."""
    similarities: npt.NDArray[np.float32]
    """(P,) 1 − edit distance in words / words of the longer one."""
    not_compared: int
    """Pairs of candidates that were skipped because their bucket was too large."""

    def filtered(self, kept: npt.NDArray[np.bool_]) -> Self:
        """The same for some of the documents."""
        return replace(self, words=self.words[kept], sequences=self.sequences.filtered(kept))


def find_near_duplicates(texts: pa.ChunkedArray, *, threshold: float) -> NearDuplicates:
    """Find all pairs of texts that differ in at most 1 − `threshold` of their words.

    Args:
        threshold: in [0.5, 1]; below 0.8 many pairs that are only just similar enough are missed.
    """
    sequences = WordSequences.of(texts)
    words, starts = sequences.words, sequences.starts
    codes, firsts = _number_sequences(words, starts)
    # A text without words has no near duplicates.
    chosen = firsts[starts[firsts + 1] > starts[firsts]]
    pairs, similarities, not_compared = _compare(words, starts, chosen, threshold)
    pairs = np.sort(codes[pairs], axis=1)
    _, distinct = np.unique(pairs[:, 0] * len(texts) + pairs[:, 1], return_index=True)
    return NearDuplicates(
        threshold=threshold,
        sequences=sequences,
        words=codes,
        pairs=pairs[distinct],
        similarities=similarities[distinct],
        not_compared=not_compared,
    )


def _words_of(texts: pa.ChunkedArray) -> tuple[npt.NDArray[np.uint32], Longs]:
    """Hash all words in order; also returns where each text's words begin (one more entry than texts)."""
    parts, counts = [], []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        text, ends = _bytes_of(texts.slice(start, _TEXTS_AT_ONCE))
        inside = np.zeros(len(ends) - 1, dtype=np.int64)
        room = np.empty(len(text) // 2 + len(ends), dtype=np.uint32)
        parts.append(room[: hash_words(text, ends, room, inside)].copy())
        counts.append(inside)
    words = np.concatenate([np.zeros(0, dtype=np.uint32), *parts])
    starts = np.concatenate([np.zeros(1, dtype=np.int64), *counts]).cumsum()
    return words, starts


def _bytes_of(texts: pa.ChunkedArray) -> tuple[npt.NDArray[np.uint8], Longs]:
    """Encode some texts as UTF-8, normalised where they are not ASCII; also returns where each begins."""
    plain = texts.combine_chunks().cast(pa.large_string())
    if isinstance(plain, pa.ChunkedArray):
        plain = pa.concat_arrays(plain.chunks)
    is_other = pc.invert(pc.string_is_ascii(plain))
    if pc.any(is_other).as_py():
        normalised = [normalise_text(text) for text in plain.filter(is_other).to_pylist()]
        plain = pc.replace_with_mask(plain, is_other, pa.array(normalised, pa.large_string()))
    offsets = np.frombuffer(plain.buffers()[1], dtype=np.int64)[plain.offset : plain.offset + len(plain) + 1]
    data = plain.buffers()[2]
    return np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, dtype=np.uint8), offsets


def _number_sequences(words: npt.NDArray[np.uint32], starts: Longs) -> tuple[Longs, Longs]:
    """Number the texts, equal sequences of words alike; also returns the first text of each number."""
    # Texts without words are distinguished by their position.
    hashes = np.arange(len(starts) - 1, dtype=np.uint64)
    hash_sequences(words, starts, hashes)
    _, firsts, codes = np.unique(hashes, return_index=True, return_inverse=True)
    # Codes in the order of the texts, not of a hash.
    return np.argsort(np.argsort(firsts))[codes], np.sort(firsts)


def _compare(
    words: npt.NDArray[np.uint32], starts: Longs, chosen: Longs, threshold: float
) -> tuple[Longs, npt.NDArray[np.float32], int]:
    """Pairs of texts (some repeated), their similarities, and how many candidates were skipped."""
    rng = generator_for("near duplicates")
    factors = rng.integers(0, 1 << 63, SIGNATURE, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    terms = rng.integers(0, 1 << 63, SIGNATURE, dtype=np.uint64)
    signatures = np.empty((len(chosen), SIGNATURE), dtype=np.uint32)
    sign(words, starts, chosen, factors, terms, signatures)
    is_whole = np.zeros((BANDS, len(chosen)), dtype=np.bool_)
    all_pairs, all_similarities, not_compared = [], [], 0
    pairs = np.empty((_PAIRS_AT_FIRST, 2), dtype=np.int64)
    similarities = np.empty(len(pairs), dtype=np.float32)
    for band in range(BANDS):
        order, begins = _buckets(signatures[:, band * ROWS : (band + 1) * ROWS])
        mates = np.maximum(np.diff(begins) - 1 - _REACH, 0)
        not_compared += int((mates * (mates + 1) // 2).sum())
        while True:
            count = compare_bucket_mates(
                band, order, begins, _REACH, _least_agreement(threshold), 1.0 - threshold, chosen,
                words, starts, signatures, is_whole, pairs, similarities,
            )  # fmt: skip
            if count <= len(pairs):
                break
            pairs, similarities = np.empty((2 * count, 2), dtype=np.int64), np.empty(2 * count, dtype=np.float32)
        all_pairs.append(pairs[:count].copy())
        all_similarities.append(similarities[:count].copy())
    return np.concatenate(all_pairs), np.concatenate(all_similarities), not_compared


def _buckets(band: npt.NDArray[np.uint32]) -> tuple[Longs, Longs]:
    """Rows that share a bucket with another, sorted by bucket; and where each bucket begins and the last one ends."""
    keys = band[:, 0].astype(np.uint64)
    for column in band.T[1:]:
        keys = (keys ^ (keys >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) + column
    order = np.argsort(keys, kind="stable")
    _, sizes = np.unique(keys, return_counts=True)
    return order[np.repeat(sizes > 1, sizes)], np.concatenate([[0], sizes[sizes > 1].cumsum()])


def _least_agreement(threshold: float) -> int:
    """The fewest equal minima that two signatures of a similar pair can have (four standard errors).

    A changed word changes two pairs of neighbouring words in each text.  If a fraction c of the words changed, the
    texts share (1 − 2c) / (1 + 2c) of these pairs, which a signature estimates.
    """
    changed = 1.0 - threshold
    shared = max(0.0, (1.0 - 2.0 * changed) / (1.0 + 2.0 * changed))
    return max(ROWS, int(SIGNATURE * (shared - 4.0 * (shared * (1.0 - shared) / SIGNATURE) ** 0.5)))
