"""Finds near duplicates: texts that differ by a few words.

Two texts are near duplicates if the edit distance between them, in words, is at most 1 − `threshold` of the
longer text's words (case, punctuation and white space are ignored; in scripts without spaces each character is
a word).  Comparing all pairs of 700,000 texts is infeasible, so candidates come from MinHash over pairs of
neighbouring words with banding (Broder 1997; Leskovec, Rajaraman and Ullman 2014, chapter 3).  The distance of
every candidate is then computed, so there are no false positives but for words whose 32-bit hashes collide.  Missed
are about 3 in 1,000 of the pairs just above a threshold of 0.9, and pairs in buckets too large to compare completely
(`not_compared` counts them).

What grows with the corpus is kept in temporary files: the words, and the bands of the signatures.  In memory are 32
bytes of each signature and 16 of the text's first and last words, by which nearly all pairs of a bucket are told apart,
and the places of the words.  The signatures of the few pairs that remain are made again from their words.

The result depends only on the texts, their order and the threshold: the hash functions are fixed, and neither blocks
nor threads change a pair.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raysweep.corpus.distinct_pairs import DistinctPairs
from raysweep.corpus.near_kernels import (
    BANDS,
    PACKED,
    ROWS,
    SIGNATURE,
    find_candidates,
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
"""Texts that are looked at together."""
_CANDIDATES_AT_ONCE = 1 << 18
_ROWS_AT_ONCE = 1 << 20
"""Texts whose bands are sorted together, about."""
_WORDS_AT_ONCE = 1 << 24
"""Words of a part of the file of words, of which two parts are looked at together: they come from it by 64 KB, so pairs
in no order would soon have all of it in memory."""
_REACH = 256
"""Texts of its bucket that a text is compared with; only corpora of very similar texts have more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WordSequences:
    """The words of D texts."""

    words: npt.NDArray[np.uint32]
    """A hash of each word."""
    starts: Longs
    """(D,) where each text's words begin."""
    lengths: npt.NDArray[np.int32]
    """(D,) how many they are."""
    spool: Spool | None = None
    """The file that `words` are mapped from, if they are."""

    @classmethod
    def of(cls, texts: pa.ChunkedArray) -> Self:
        """Split texts into words; case, punctuation and white space are left out."""
        parts = [_words_of(block) for block in blocks_of(texts)]
        words = np.concatenate([np.zeros(0, dtype=np.uint32), *(words for words, _ in parts)])
        lengths = np.concatenate([np.zeros(0, dtype=np.int64), *(lengths for _, lengths in parts)])
        return cls(words=words, starts=np.cumsum(lengths) - lengths, lengths=lengths.astype(np.int32))

    def filtered(self, kept: npt.NDArray[np.bool_]) -> Self:
        """The words of some texts."""
        return replace(self, starts=self.starts[kept], lengths=self.lengths[kept])

    def release(self) -> None:
        """Give back the memory of the words that were looked at."""
        if self.spool is not None:
            self.spool.release()


@dataclass(frozen=True, kw_only=True, slots=True)
class NearDuplicates:
    """The near duplicates of D documents: P pairs."""

    threshold: float
    sequences: WordSequences
    words: Longs
    """(D,) a code for each document's words; texts of equal codes differ at most in case, space or punctuation, unless
    the hashes of two words (32 bits) or of two texts (64 bits) collide."""
    pairs: Longs
    """(P, 2) the codes of similar documents, the smaller first; sorted, without repeats."""
    similarities: Floats
    """(P,) 1 − edit distance in words / words of the longer one."""
    not_compared: int
    """Pairs of candidates that were skipped because their bucket was too large."""

    def filtered(self, kept: npt.NDArray[np.bool_]) -> Self:
        """The same for some of the documents."""
        return replace(self, words=self.words[kept], sequences=self.sequences.filtered(kept))


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSketches:
    """What the search needs to know of a block of n texts."""

    words: npt.NDArray[np.uint32]
    lengths: Longs  # (n,) words
    hashes: Wides  # (n,) of the words in order; of a text without words 0
    packed: Wides  # (PACKED + 2, n)
    band_keys: Wides  # (BANDS, n)


def sketch(texts: pa.Array) -> TextSketches:
    """Look at the texts of a block."""
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
        threshold: in [0.5, 1]; below 0.8 many pairs that are only just similar enough are missed.
    """
    search = DuplicateSearch()
    for block in map_in_threads(sketch, blocks_of(texts)):
        search.add(block)
    return search.find(threshold)


def blocks_of(texts: pa.ChunkedArray) -> Iterator[pa.Array]:
    """The texts in blocks, each one array."""
    for start in range(0, len(texts), BLOCK_DOCUMENTS):
        chunks = texts.slice(start, BLOCK_DOCUMENTS).chunks
        yield pa.concat_arrays([chunk.cast(pa.large_string()) for chunk in chunks])


class DuplicateSearch:
    """Collects the sketches of all blocks, in the order of the documents, and compares them."""

    def __init__(self, folder: Path | None = None) -> None:
        """Args: `folder` for temporary files."""
        self._words, self._sketches = Spool(folder), Spool(folder)
        self._bands: list[list[Place]] = []  # block → band
        self._hashes: list[Place] = []
        self._packed: list[list[Place]] = []  # block → part
        self._lengths = [np.zeros(0, dtype=np.int32)]

    def add(self, block: TextSketches) -> None:
        """Take the next block."""
        self._words.append(block.words)
        self._bands.append([self._sketches.append(keys) for keys in block.band_keys])
        self._hashes.append(self._sketches.append(block.hashes))
        self._packed.append([self._sketches.append(part) for part in block.packed])
        self._lengths.append(block.lengths.astype(np.int32))

    def find(self, threshold: float) -> NearDuplicates:
        """Compare the texts; called once, when all blocks are there."""
        lengths = np.concatenate(self._lengths)
        self._lengths.clear()
        hashes = self._sketches.read_all(self._hashes, np.uint64)
        # Texts without words are distinguished by their position, and have no near duplicates.
        empty = np.flatnonzero(lengths == 0)
        hashes[empty] = empty
        codes, firsts = number_by_appearance(hashes)
        is_chosen = np.zeros(len(codes), dtype=np.bool_)
        is_chosen[firsts] = lengths[firsts] > 0
        del hashes, firsts
        starts = np.zeros(len(lengths), dtype=np.int64)
        np.cumsum(lengths[:-1], out=starts[1:])
        words = self._words.mapped(np.uint32)
        sequences = WordSequences(words=words, starts=starts, lengths=lengths, spool=self._words)
        packed = np.empty((PACKED + 2, len(lengths)), dtype=np.uint64)
        for part, row in enumerate(packed):
            row[:] = self._sketches.read_all([block[part] for block in self._packed], np.uint64)
        comparison = _Comparison(
            sketches=self._sketches,
            bands=self._bands,
            packed=packed,
            is_chosen=is_chosen,
            sequences=sequences,
            threshold=threshold,
        )
        found, not_compared = DistinctPairs(len(codes)), 0
        for pairs, similarities, skipped in map_in_threads(comparison.compare, comparison.parts()):
            found.add(np.sort(codes[pairs], axis=1), similarities)
            not_compared += skipped
        pairs, similarities = found.merged()
        return NearDuplicates(
            threshold=threshold,
            sequences=sequences,
            words=codes,
            pairs=pairs,
            similarities=similarities,
            not_compared=not_compared,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Comparison:
    """Compares the texts of the same bucket, a band at a time."""

    sketches: Spool
    bands: list[list[Place]]
    packed: Wides  # (PACKED + 2, D)
    is_chosen: npt.NDArray[np.bool_]  # one text of each sequence of words
    sequences: WordSequences
    threshold: float

    def parts(self) -> Iterator[tuple[Longs, Wides]]:
        """Each band in parts whose buckets are whole: the chosen texts of a part, ascending, and their keys."""
        parts = 1 << (int(self.is_chosen.sum()) // _ROWS_AT_ONCE).bit_length()
        for band in range(BANDS):
            keys = self.sketches.read_all([block[band] for block in self.bands], np.uint64)
            numbers = (keys >> np.uint64(32) & np.uint64(parts - 1)).astype(np.int16)
            numbers[~self.is_chosen] = -1
            for part in range(parts):
                inside = np.flatnonzero(numbers == part)
                yield inside, keys[inside]

    def compare(self, part: tuple[Longs, Wides]) -> tuple[Longs, Floats, int]:
        """Pairs of texts that share a bucket and are similar, their similarities, and how many pairs were skipped.

        Args:
            part: texts and their keys, equal in a bucket.
        """
        chosen, keys = part
        order, begins = _buckets(keys)
        rows = chosen[order]
        mates = np.maximum(np.diff(begins) - 1 - _REACH, 0)
        pairs, similarities = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.float32)]
        for candidates in self._candidates(rows, begins):
            alike, how_much = self._measure(candidates)
            pairs.append(alike)
            similarities.append(how_much)
        return np.concatenate(pairs), np.concatenate(similarities), int((mates * (mates + 1) // 2).sum())

    def _candidates(self, rows: Longs, begins: Longs) -> Iterator[Longs]:
        """Pairs of texts whose signatures may agree, a part at a time.

        Args:
            rows: the texts of all buckets.
            begins: where each bucket begins, and the last ends.
        """
        # Each row stays contiguous; `self.packed[:, rows]` would put the six numbers of a text side by side.
        packed = np.take(self.packed, rows, axis=1)
        lengths, at = self.sequences.lengths[rows], np.zeros(2, dtype=np.int64)
        room = np.empty((max(_CANDIDATES_AT_ONCE, _REACH), 2), dtype=np.int64)
        while at[0] < len(begins) - 1:
            count = find_candidates(
                packed, lengths, begins, _REACH, _least_agreement(self.threshold), 1.0 - self.threshold, at, room
            )
            yield rows[room[:count]]

    def _measure(self, candidates: Longs) -> tuple[Longs, Floats]:
        """Those of the candidates that are similar."""
        sequences, functions = self.sequences, _hash_functions()
        similarities = np.empty(len(candidates), dtype=np.float32)
        parts = sequences.starts[candidates] // _WORDS_AT_ONCE
        of_pairs = parts[:, 0] * (len(sequences.words) // _WORDS_AT_ONCE + 1) + parts[:, 1]
        order = np.argsort(of_pairs, kind="stable")
        candidates, of_pairs = candidates[order], of_pairs[order]
        borders = [0, *(np.flatnonzero(of_pairs[1:] != of_pairs[:-1]) + 1).tolist(), len(candidates)]
        for begin, end in pairwise(borders):
            measure_pairs(
                candidates[begin:end], sequences.words, sequences.starts, sequences.lengths,
                _least_agreement(self.threshold), 1.0 - self.threshold, *functions, similarities[begin:end],
            )  # fmt: skip
            sequences.release()
        return candidates[similarities >= 0.0], similarities[similarities >= 0.0]


def _hash_functions() -> tuple[Wides, Wides]:
    rng = generator_for("near duplicates")
    factors = rng.integers(0, 1 << 63, SIGNATURE, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return factors, rng.integers(0, 1 << 63, SIGNATURE, dtype=np.uint64)


def _words_of(texts: pa.Array) -> tuple[npt.NDArray[np.uint32], Longs]:
    """Hash all words in order; also returns how many words each text has."""
    is_other = pc.invert(pc.string_is_ascii(texts))
    if pc.any(is_other).as_py():
        normalised = [normalise_text(text) for text in texts.filter(is_other).to_pylist()]
        texts = pc.replace_with_mask(texts, is_other, pa.array(normalised, pa.large_string()))
    data, ends = text_bytes(texts)
    counts = np.zeros(len(texts), dtype=np.int64)
    room = np.empty(int(ends[-1] - ends[0]) // 2 + len(ends), dtype=np.uint32)
    return room[: hash_words(data, ends, room, counts)].copy(), counts


def _buckets(keys: Wides) -> tuple[Longs, Longs]:
    """Rows that share a bucket with another, sorted by bucket; and where each bucket begins and the last one ends."""
    order = _order_of(keys)
    in_order = keys[order]
    is_first = np.ones(len(keys) + 1, dtype=np.bool_)
    is_first[1:-1] = in_order[1:] != in_order[:-1]
    sizes = np.diff(np.flatnonzero(is_first))
    return order[np.repeat(sizes > 1, sizes)], np.concatenate([[0], sizes[sizes > 1].cumsum()])


def _order_of(keys: Wides) -> Longs:
    """An order in which equal keys are neighbours, ascending by row.

    Numpy sorts numbers several times as fast as it finds the stable order of numbers, so the row replaces the low bits
    of its key; before that they are mixed into the high bits.
    """
    low = np.uint64((1 << len(keys).bit_length()) - 1)
    mixed = (keys ^ (keys >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    marked = np.sort(mixed & ~low | np.arange(len(keys), dtype=np.uint64))
    order: Longs = (marked & low).astype(np.int64)
    high, in_order = marked & ~low, keys[order]
    if ((high[1:] == high[:-1]) & (in_order[1:] != in_order[:-1])).any():
        # Two keys agree in all their high bits, and their rows may be mixed.
        return np.argsort(keys, kind="stable")
    return order


def _least_agreement(threshold: float) -> int:
    """The fewest equal minima that two signatures of a similar pair can have (four standard errors).

    A changed word changes two pairs of neighbouring words in each text.  If a fraction c of the words changed, the
    texts share (1 − 2c) / (1 + 2c) of these pairs, which a signature estimates.
    """
    changed = 1.0 - threshold
    shared = max(0.0, (1.0 - 2.0 * changed) / (1.0 + 2.0 * changed))
    return max(ROWS, int(SIGNATURE * (shared - 4.0 * (shared * (1.0 - shared) / SIGNATURE) ** 0.5)))
