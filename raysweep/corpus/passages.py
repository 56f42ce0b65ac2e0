"""Counts test documents that repeat passages of train, or of a prompt: sequences of 13 words.

An essay into which a learner copied a model answer, or the task itself, is not a near duplicate, but these words are
not new to the models.  The length is that of the overlap checks of GPT-3 and later models (Brown et al. 2020,
appendix C).  Shared passages are counted, but are not leaks: set phrases of a task can be as long.  They are compared
by hashes of 32 bits per word and 63 bits per passage, so a collision can count a passage too many.

Train is read once: a Bloom filter (Bloom 1970) drops nearly all passages that test does not have, and the rest goes to
a temporary file.  One part of the file at a time is loaded into a hash table, in which all passages of test are looked
up.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raysweep.corpus.near_duplicates import WordSequences
from raysweep.corpus.splits import SPLITS
from raysweep.corpus.spool import Place, Spool
from raysweep.readers.compiled import kernel
from raysweep.readers.cpu_threads import map_in_threads

PASSAGE_WORDS = 13
MOSTLY = 0.5

Hashes = npt.NDArray[np.uint64]
Longs = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

_DOCUMENTS_AT_ONCE = 1 << 13
_PARTS = 64
"""Number of parts; a part holds the passages whose hashes have the same highest bits."""
_BYTES_OF_TABLE = 48 << 20
"""Size of the passages that are loaded into a hash table, which takes a third more; a single larger part is allowed."""
_HASH_BYTES = 8
_MOST_FILTER_WORDS = 1 << 24
_RECENT = 1 << 21
"""Size of the cache of passages that are already in the file, so that most repeated passages are written once."""
_BASE = np.uint64(0x9E3779B97F4A7C15)
_EMPTY = np.uint64(0)
_ONE = np.uint64(1)
_SIX_BITS = np.uint64(63)
_TO_PART = np.uint64(58)


@dataclass(frozen=True, kw_only=True, slots=True)
class Passages:
    """Numbers of documents that repeat passages."""

    in_train: int  # test documents that share a passage with train
    mostly_in_train: int  # test documents that share at least half of their passages with train
    in_prompts: int | None  # documents of any split with a passage of a prompt; None if no prompt is that long


def count_passages(
    sequences: WordSequences,
    splits: npt.NDArray[np.int8] | Longs,
    prompts: list[str],
    *,
    folder: Path | None = None,
) -> Passages:
    """Count the documents that repeat passages of train or of a prompt.

    Args:
        splits: an index into `SPLITS` for each document.
        prompts: the distinct values of the prompt column, which may be texts or mere names.
        folder: for temporary files.
    """
    test = sequences.filtered(splits == SPLITS.index("test"))
    passages, shared = _passages_of(test.lengths), np.zeros(len(test.lengths), dtype=np.int32)
    train = _blocks(sequences, splits == SPLITS.index("train"))
    _SharedPassages.of(test, train, int(passages.sum(dtype=np.int64)), folder).count(test, shared)
    tasks = WordSequences.of(pa.chunked_array([pa.array(prompts, pa.large_string())]))
    in_prompts = None
    if (tasks.lengths >= PASSAGE_WORDS).any():
        hits = np.zeros(len(splits), dtype=np.int32)
        of_tasks = _Block(tasks, slice(None)).hashes()
        _Table.of([of_tasks], len(of_tasks), range(_PARTS)).count(_blocks(sequences), hits)
        in_prompts = int((hits > 0).sum())
    return Passages(
        in_train=int((shared > 0).sum()),
        mostly_in_train=int(((shared > 0) & (shared >= MOSTLY * passages)).sum()),
        in_prompts=in_prompts,
    )


@dataclass(frozen=True, slots=True)
class _Block:
    """A range of consecutive documents."""

    sequences: WordSequences
    at: slice
    chosen: Bools | None = None
    """True for the documents to use; None for all."""

    def hashes(self) -> Hashes:
        """Compute the hash of each passage, document by document."""
        starts, lengths = self.sequences.starts[self.at], self.sequences.lengths[self.at]
        if self.chosen is not None:
            starts, lengths = starts[self.chosen], lengths[self.chosen]
        hashes = np.empty(int(_passages_of(lengths).sum(dtype=np.int64)), dtype=np.uint64)
        _hash_passages(self.sequences.words, starts, lengths, hashes)
        self.sequences.release()
        return hashes


def _blocks(sequences: WordSequences, chosen: Bools | None = None) -> Iterator[_Block]:
    for start in range(0, len(sequences.lengths), _DOCUMENTS_AT_ONCE):
        some = slice(start, start + _DOCUMENTS_AT_ONCE)
        yield _Block(sequences, some, chosen[some] if chosen is not None else None)


def _passages_of(lengths: Counts) -> Counts:
    """Return the number of passages of texts with these numbers of words."""
    counts: Counts = np.maximum(lengths - np.int32(PASSAGE_WORDS - 1), np.int32(0))
    return counts


@dataclass(frozen=True, kw_only=True, slots=True)
class _SharedPassages:
    """The passages of train that test has too, and a few others, in a temporary file; most of them occur once."""

    spool: Spool
    places: list[Place]
    begins: list[Longs]
    """For each place, the start of each part and the end of the last one, in bytes."""

    @classmethod
    def of(cls, test: WordSequences, train: Iterator[_Block], passages: int, folder: Path | None) -> Self:
        """Build the filter from all documents of test, with `passages` passages, and apply it to those of train."""
        # With eight to sixteen bits per passage, about one in fifty of the passages that test does not have passes.
        possible = np.zeros(1 << min((passages // 8).bit_length(), _MOST_FILTER_WORDS.bit_length() - 1), np.uint64)
        for hashes in map_in_threads(_Block.hashes, _blocks(test)):
            _add_to_filter(hashes, possible)  # in one thread: two would lose each other's bits
        recent, spool = np.zeros(_RECENT, dtype=np.uint64), Spool(folder)

        def pick(block: _Block) -> tuple[Place, Longs]:
            hashes = block.hashes()
            hashes = hashes[: _drop_impossible(hashes, possible)]
            hashes = hashes[: _drop_recent(hashes, recent)]
            sorted_hashes, begins = np.empty_like(hashes), np.zeros(_PARTS + 1, dtype=np.int64)
            _sort_by_part(hashes, sorted_hashes, begins)
            return spool.append(sorted_hashes), begins * _HASH_BYTES

        picked = list(map_in_threads(pick, train))
        return cls(spool=spool, places=[place for place, _ in picked], begins=[begins for _, begins in picked])

    def count(self, documents: WordSequences, counts: Counts) -> None:
        """Add to each document's count the number of its passages that are in the file."""
        sizes = sum((np.diff(begins) for begins in self.begins), np.zeros(_PARTS, dtype=np.int64))
        borders = np.flatnonzero(np.diff(np.cumsum(sizes) // _BYTES_OF_TABLE, prepend=-1)).tolist()
        for first, after in pairwise([*borders, _PARTS]):
            count = int(sizes[first:after].sum()) // _HASH_BYTES
            if count:
                _Table.of(self._read(first, after), count, range(first, after)).count(_blocks(documents), counts)

    def _read(self, first: int, after: int) -> Iterator[Hashes]:
        for place, begins in zip(self.places, self.begins, strict=True):
            some = Place(start=place.start + int(begins[first]), size=int(begins[after] - begins[first]))
            yield self.spool.read(some, np.uint64)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Table:
    """A hash table (open addressing, at least a quarter empty) of the passages of some parts."""

    hashes: Hashes
    parts: range

    @classmethod
    def of(cls, passages: Iterable[Hashes], count: int, parts: range) -> Self:
        """Build the table of `count` passages of these parts; passages may repeat."""
        table = np.zeros(4 * count // 3 + 2, dtype=np.uint64)
        for hashes in passages:
            _fill(hashes, table)
        return cls(hashes=table, parts=parts)

    def count(self, blocks: Iterator[_Block], counts: Counts) -> None:
        """Add to each document's count the number of its passages that are in the table."""

        def count(block: _Block) -> None:
            lengths = _passages_of(block.sequences.lengths[block.at])
            _count_known(block.hashes(), lengths, self.parts.start, self.parts.stop, self.hashes, counts[block.at])

        for _ in map_in_threads(count, blocks):
            pass


@kernel
def _hash_passages(words: npt.NDArray[np.uint32], starts: Longs, lengths: Counts, hashes: Hashes) -> None:
    """Write the hash of each passage, text by text: a polynomial of its words, with well-mixed bits, never 0."""
    oldest, written = _ONE, 0
    for _ in range(PASSAGE_WORDS):
        oldest *= _BASE
    for text in range(len(starts)):
        state = _EMPTY
        for place in range(starts[text], starts[text] + lengths[text]):
            state = state * _BASE + np.uint64(words[place])
            if place - starts[text] >= PASSAGE_WORDS:
                state -= np.uint64(words[place - PASSAGE_WORDS]) * oldest
            if place - starts[text] >= PASSAGE_WORDS - 1:
                mixed = (state ^ (state >> np.uint64(32))) * _BASE
                hashes[written] = (mixed ^ (mixed >> np.uint64(29))) | _ONE
                written += 1


@kernel
def _add_to_filter(hashes: Hashes, possible: Hashes) -> None:
    """Set the bits of passages in the filter."""
    for hash_ in hashes:
        word, bits = _bits_of(hash_, possible)
        possible[word] |= bits


@kernel
def _bits_of(hash_: np.uint64, possible: Hashes) -> tuple[np.uint64, np.uint64]:
    """Return the index of the filter's 64-bit word for a passage, and the passage's three bits in it."""
    bits = _ONE << ((hash_ >> np.uint64(40)) & _SIX_BITS)
    bits |= _ONE << ((hash_ >> np.uint64(46)) & _SIX_BITS)
    bits |= _ONE << ((hash_ >> np.uint64(52)) & _SIX_BITS)
    return (hash_ >> np.uint64(8)) & np.uint64(len(possible) - 1), bits


@kernel
def _drop_impossible(hashes: Hashes, possible: Hashes) -> int:
    """Move the passages that pass the filter to the front; returns their number."""
    kept = np.int64(0)
    for hash_ in hashes:
        word, bits = _bits_of(hash_, possible)
        hashes[kept] = hash_
        kept += (possible[word] & bits) == bits
    return int(kept)


@kernel
def _drop_recent(hashes: Hashes, recent: Hashes) -> int:
    """Move the passages that are not in the cache `recent` to the front, and add them to it; returns their number.

    Threads share `recent` without a lock: every passage in it was kept by the thread that wrote it.
    """
    kept = np.int64(0)
    for hash_ in hashes:
        place = (hash_ >> np.uint64(8)) & np.uint64(len(recent) - 1)
        is_new = recent[place] != hash_
        recent[place] = hash_
        hashes[kept] = hash_
        kept += is_new
    return int(kept)


@kernel
def _sort_by_part(hashes: Hashes, in_order: Hashes, begins: Longs) -> None:
    """Write the passages part by part, and the start of each part and the end of the last one."""
    for hash_ in hashes:
        begins[np.int64(hash_ >> _TO_PART) + 1] += 1
    for before in range(_PARTS):
        begins[before + 1] += begins[before]
    at = begins.copy()
    for hash_ in hashes:
        part = np.int64(hash_ >> _TO_PART)
        in_order[at[part]] = hash_
        at[part] += 1


@kernel
def _fill(hashes: Hashes, table: Hashes) -> None:
    """Put passages into the table."""
    for hash_ in hashes:
        table[_slot(table, hash_)] = hash_


@kernel
def _count_known(hashes: Hashes, lengths: Counts, first: int, after: int, table: Hashes, counts: Counts) -> None:
    """Add the number of each text's passages that are in the table of some parts."""
    place = 0
    for text in range(len(lengths)):
        for hash_ in hashes[place : place + lengths[text]]:
            part = np.int64(hash_ >> _TO_PART)
            if first <= part < after and table[_slot(table, hash_)] == hash_:
                counts[text] += 1
        place += lengths[text]


@kernel
def _slot(table: Hashes, hash_: np.uint64) -> int:
    """Return the slot of a passage in the table, or the empty slot where it belongs."""
    slot = np.int64(((hash_ & np.uint64(0xFFFFFFFF)) * np.uint64(len(table))) >> np.uint64(32))
    while table[slot] != _EMPTY and table[slot] != hash_:
        slot = slot + np.int64(1) if slot + 1 < len(table) else np.int64(0)
    return int(slot)
