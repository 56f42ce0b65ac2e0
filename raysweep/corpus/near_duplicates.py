"""Finds near duplicates: texts that differ by a few words.

Two texts are near duplicates if the edit distance between them, in words, is at most 1 − `threshold` of the
longer text's words (case, punctuation and white space are ignored; in scripts without spaces each character is
a word).  Comparing all pairs of 700,000 texts is infeasible, so candidates come from MinHash over pairs of
neighbouring words with banding (Broder 1997; Leskovec, Rajaraman and Ullman 2014, chapter 3).  The distance of
every candidate is then computed, so the only false positives are due to words whose 32-bit hashes collide.  The search
misses about 3 in 1,000 of the pairs just above a threshold of 0.9, and pairs in buckets too large to compare completely
(`not_compared` counts them).

Data that grows with the corpus is kept in temporary files: the words, the bands of the signatures, and the candidates.
Memory holds 32 bytes of each signature and 16 bytes of each text's first and last words, which rule out nearly all
pairs of a bucket, and the offsets of the words.  The remaining pairs are sorted by the position of their words and
compared once the pairs of all bands are known; their signatures are computed again from their words.

The result depends only on the texts, their order and the threshold: the hash functions are fixed, and the division into
blocks and threads does not change a pair.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raysweep.corpus.bucket_mates import BandPart, BucketMates, least_agreement
from raysweep.corpus.candidate_pairs import CandidatePairs
from raysweep.corpus.distinct_pairs import DistinctPairs
from raysweep.corpus.near_kernels import (
    BANDS,
    PACKED,
    SIGNATURE,
    measure_pairs,
    sketch_texts,
)
from raysweep.corpus.normalising import normalise_text
from raysweep.corpus.spool import Place, Spool
from raysweep.corpus.text_hashes import number_by_appearance, text_bytes
from raysweep.corpus.word_hashes import hash_sequences, hash_words
from raysweep.readers.cpu_threads import map_in_threads
from raysweep.seeding import generator_for

Longs = npt.NDArray[np.int64]
Wides = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]

BLOCK_DOCUMENTS = 1 << 15
"""Texts of a block."""
_CANDIDATES_IN_FILE = 1 << 28
"""When there are so many candidates, they are compared before the search continues; they take 2 GB of disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WordSequences:
    """The words of D texts."""

    words: npt.NDArray[np.uint32]
    """A hash of each word."""
    starts: Longs
    """(D,) the index of each text's first word."""
    lengths: npt.NDArray[np.int32]
    """(D,) the number of words of each text."""
    spool: Spool | None = None
    """The file that `words` is memory-mapped from; None if it is an array in memory."""

    @classmethod
    def of(cls, texts: pa.ChunkedArray) -> Self:
        """Split texts into words; case, punctuation and white space are ignored."""
        parts = [_words_of(block) for block in blocks_of(texts)]
        words = np.concatenate([np.zeros(0, dtype=np.uint32), *(words for words, _ in parts)])
        lengths = np.concatenate([np.zeros(0, dtype=np.int64), *(lengths for _, lengths in parts)])
        return cls(words=words, starts=np.cumsum(lengths) - lengths, lengths=lengths.astype(np.int32))

    def filtered(self, kept: npt.NDArray[np.bool_]) -> Self:
        """Return the words of the texts selected by `kept`."""
        return replace(self, starts=self.starts[kept], lengths=self.lengths[kept])

    def release(self) -> None:
        """Free the memory of the mapped pages that were read."""
        if self.spool is not None:
            self.spool.release()


@dataclass(frozen=True, kw_only=True, slots=True)
class NearDuplicates:
    """The near duplicates of D documents: P pairs."""

    threshold: float
    sequences: WordSequences
    words: npt.NDArray[np.int32]
    """(D,) a code for each document's words; texts with equal codes differ at most in case, white space or punctuation,
    unless the hashes of two words (32 bits) or of two texts (64 bits) collide."""
    pairs: Longs
    """(P, 2) the codes of similar documents, the smaller first; sorted, without repeats."""
    similarities: Floats
    """(P,) 1 − edit distance in words / number of words of the longer text."""
    not_compared: int
    """Number of candidate pairs that were skipped because their bucket was too large."""

    def filtered(self, kept: npt.NDArray[np.bool_]) -> Self:
        """Return the near duplicates of the documents selected by `kept`; `pairs` stays as it is."""
        return replace(self, words=self.words[kept], sequences=self.sequences.filtered(kept))


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSketches:
    """The data about a block of n texts that the search needs."""

    words: npt.NDArray[np.uint32]
    lengths: Longs  # (n,) number of words
    hashes: Wides  # (n,) hash of the sequence of words; 0 for a text without words
    packed: Wides  # (PACKED + 2, n)
    band_keys: Wides  # (BANDS, n)


def sketch(texts: pa.Array) -> TextSketches:
    """Compute the words, hashes and signatures of the texts of a block."""
    words, lengths = _words_of(texts)
    hashes = np.zeros(len(texts), dtype=np.uint64)
    hash_sequences(words, np.concatenate([[0], np.cumsum(lengths)]), hashes)
    packed = np.zeros((PACKED + 2, len(texts)), dtype=np.uint64)
    band_keys = np.zeros((BANDS, len(texts)), dtype=np.uint64)
    sketch_texts(words, lengths, *_hash_functions(), band_keys, packed)
    return TextSketches(words=words, lengths=lengths, hashes=hashes, packed=packed, band_keys=band_keys)


def find_near_duplicates(texts: pa.ChunkedArray, *, threshold: float) -> NearDuplicates:
    """Find all pairs of texts that differ in at most 1 − `threshold` of their words.

    Args:
        threshold: in [0.5, 1]; below 0.8 many pairs just above the threshold are missed.
    """
    search = DuplicateSearch()
    for block in map_in_threads(sketch, blocks_of(texts)):
        search.add(block)
    return search.find(threshold)


def blocks_of(texts: pa.ChunkedArray) -> Iterator[pa.Array]:
    """Yield the texts in blocks, each as one array."""
    for start in range(0, len(texts), BLOCK_DOCUMENTS):
        chunks = texts.slice(start, BLOCK_DOCUMENTS).chunks
        yield pa.concat_arrays([chunk.cast(pa.large_string()) for chunk in chunks])


class DuplicateSearch:
    """Collects the sketches of all blocks, in the order of the documents, and compares them."""

    def __init__(self, folder: Path | None = None) -> None:
        """Args: `folder` for temporary files."""
        self._folder = folder
        self._words, self._sketches = Spool(folder), Spool(folder)
        self._bands: list[list[Place]] = []  # block → band
        self._hashes: list[Place] = []
        self._packed: list[list[Place]] = []  # block → part
        self._lengths = [np.zeros(0, dtype=np.int32)]

    def add(self, block: TextSketches) -> None:
        """Add the next block."""
        self._words.append(block.words)
        self._bands.append([self._sketches.append(keys) for keys in block.band_keys])
        self._hashes.append(self._sketches.append(block.hashes))
        self._packed.append([self._sketches.append(part) for part in block.packed])
        self._lengths.append(block.lengths.astype(np.int32))

    def find(self, threshold: float) -> NearDuplicates:
        """Compare the texts; call it once, after all blocks were added."""
        lengths = np.concatenate(self._lengths)
        self._lengths.clear()
        hashes = self._sketches.read_all(self._hashes, np.uint64)
        # Texts without words get distinct hashes (their position), and have no near duplicates.
        empty = np.flatnonzero(lengths == 0)
        hashes[empty] = empty
        codes, firsts = number_by_appearance(hashes)
        is_chosen = np.zeros(len(codes), dtype=np.bool_)
        is_chosen[firsts] = lengths[firsts] > 0
        del hashes
        words = self._words.mapped(np.uint32)
        packed = np.empty((PACKED + 2, len(firsts)), dtype=np.uint64)
        for part, row in enumerate(packed):
            places = [block[part] for block in self._packed]
            np.take(self._sketches.read_all(places, np.uint64), firsts, out=row, mode="clip")
        del firsts
        mates = BucketMates(
            sketches=self._sketches,
            bands=self._bands,
            packed=packed,
            codes=codes,
            lengths=lengths,
            is_chosen=is_chosen,
            threshold=threshold,
        )
        similar, not_compared = DistinctPairs(len(codes)), 0
        parts, unfinished = mates.parts(), list[BandPart]()
        while True:
            candidates = CandidatePairs(self._folder, texts=len(lengths), words=len(words))
            not_compared += mates.find_pairs(parts, unfinished, candidates, most=_CANDIDATES_IN_FILE)
            if candidates.count < _CANDIDATES_IN_FILE:
                break
            _measure_all(candidates, self._sequences(words, lengths), codes, threshold, similar)
        # The offsets of all words are computed only after this memory is free.
        del mates, packed, is_chosen
        sequences = self._sequences(words, lengths)
        _measure_all(candidates, sequences, codes, threshold, similar)
        pairs, similarities = similar.merged()
        return NearDuplicates(
            threshold=threshold,
            sequences=sequences,
            words=codes,
            pairs=pairs,
            similarities=similarities,
            not_compared=not_compared,
        )

    def _sequences(self, words: npt.NDArray[np.uint32], lengths: npt.NDArray[np.int32]) -> WordSequences:
        starts = np.zeros(len(lengths), dtype=np.int64)
        np.cumsum(lengths[:-1], out=starts[1:])
        return WordSequences(words=words, starts=starts, lengths=lengths, spool=self._words)


def _measure_all(
    candidates: CandidatePairs,
    sequences: WordSequences,
    codes: npt.NDArray[np.int32],
    threshold: float,
    similar: DistinctPairs,
) -> None:
    """Measure the candidates and add the similar pairs to `similar`."""
    functions = _hash_functions()

    def measure(pairs: Longs) -> tuple[Longs, Floats]:
        similarities = np.empty(len(pairs), dtype=np.float32)
        measure_pairs(
            pairs, sequences.words, sequences.starts, sequences.lengths, least_agreement(threshold), 1.0 - threshold,
            *functions, similarities,
        )  # fmt: skip
        sequences.release()
        return pairs[similarities >= 0.0], similarities[similarities >= 0.0]

    for pairs, similarities in map_in_threads(measure, candidates.blocks()):
        similar.add(np.sort(codes[pairs], axis=1).astype(np.int64), similarities)


def _hash_functions() -> tuple[Wides, Wides]:
    rng = generator_for("near duplicates")
    factors = rng.integers(0, 1 << 63, SIGNATURE, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return factors, rng.integers(0, 1 << 63, SIGNATURE, dtype=np.uint64)


def _words_of(texts: pa.Array) -> tuple[npt.NDArray[np.uint32], Longs]:
    """Hash all words in order; also returns the number of words of each text."""
    is_other = pc.invert(pc.string_is_ascii(texts))
    if pc.any(is_other).as_py():
        normalised = [normalise_text(text) for text in texts.filter(is_other).to_pylist()]
        texts = pc.replace_with_mask(texts, is_other, pa.array(normalised, pa.large_string()))
    data, ends = text_bytes(texts)
    counts = np.zeros(len(texts), dtype=np.int64)
    room = np.empty(int(ends[-1] - ends[0]) // 2 + len(ends), dtype=np.uint32)
    return room[: hash_words(data, ends, room, counts)].copy(), counts
