"""Counts test documents that repeat passages of train, or of a prompt: sequences of 13 words.

A learner who copies a model answer, or the task itself, into an essay of their own gives no near duplicate, but
the words are not new to the models.  The length is that of the overlap checks of GPT-3 and later models (Brown et
al. 2020, appendix C).  Passages are counted and are no leak: set phrases of a task can be as long.  They are told apart
by hashes of 32 bits a word and 63 bits a passage, so a collision can count one too many.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raysweep.corpus.near_duplicates import BLOCK_DOCUMENTS, WordSequences
from raysweep.corpus.splits import SPLITS
from raysweep.readers.compiled import kernel
from raysweep.readers.cpu_threads import map_in_threads

PASSAGE_WORDS = 13
MOSTLY = 0.5

Hashes = npt.NDArray[np.uint64]
Longs = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_Block = tuple[npt.NDArray[np.uint32], Longs, npt.NDArray[np.int32], Bools]

_MOST_PARTS = 6
_PASSAGES_AT_ONCE = 3 << 20
"""Passages that a hash table is made of; of more, those whose hashes begin alike share one.

Tables are larger where the test split has over 200 million, since there are never more than 64.
"""
_TABLES_AT_ONCE = 8
_BITS_PER_SLOT = 4
_BASE = np.uint64(0x9E3779B97F4A7C15)
_EMPTY = np.uint64(0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Passages:
    """Documents with a passage that stands elsewhere too."""

    in_train: int  # test documents that share a passage with train
    mostly_in_train: int  # of these, with at least half of their passages
    in_prompts: int | None  # documents of any split with a passage of a prompt; None if no prompt is that long


def count_passages(sequences: WordSequences, splits: npt.NDArray[np.int8] | Longs, prompts: list[str]) -> Passages:
    """Count the documents that repeat passages of train or of a prompt.

    Args:
        splits: an index into `SPLITS` for each document.
        prompts: the distinct values of the prompt column, which may be texts or mere names.
    """
    test, train = (splits == SPLITS.index(split) for split in ("test", "train"))
    passages = np.where(test, np.maximum(sequences.lengths - PASSAGE_WORDS + 1, 0), 0)
    parts = 1 << min(_MOST_PARTS, (int(passages.sum()) // _PASSAGES_AT_ONCE).bit_length())
    shared = np.zeros(len(splits), dtype=np.int32)
    for first in range(0, parts, _TABLES_AT_ONCE):
        tables = _Tables.of(sequences, test, range(first, min(first + _TABLES_AT_ONCE, parts)), parts)
        tables.mark(sequences, train)
        tables.count(sequences, test, shared)
    tasks = WordSequences.of(pa.chunked_array([pa.array(prompts, pa.large_string())]))
    in_prompts = None
    if (tasks.lengths >= PASSAGE_WORDS).any():
        tables = _Tables.of(tasks, np.ones(len(prompts), dtype=np.bool_), range(1), 1)
        tables.is_known[:] = tables.keys != 0
        hits = np.zeros(len(splits), dtype=np.int32)
        tables.count(sequences, np.ones(len(splits), dtype=np.bool_), hits)
        in_prompts = int((hits > 0).sum())
    return Passages(
        in_train=int((shared > 0).sum()),
        mostly_in_train=int(((shared > 0) & (shared >= MOSTLY * passages)).sum()),
        in_prompts=in_prompts,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tables:
    """Hash tables (open addressing, a quarter empty at least) of the passages of some documents."""

    keys: Hashes  # (P, K)
    is_known: Bools  # (P, K)
    possible: npt.NDArray[np.uint8]
    """Bits, one for each hash in the tables: a small array answers for most passages that they lack."""
    first: int
    """The part of all passages that the first table holds."""
    parts: int
    """How many parts there are: a power of two."""

    @classmethod
    def of(cls, sequences: WordSequences, chosen: Bools, held: range, parts: int) -> Self:
        """Make the tables of these parts of the passages of chosen documents, several at a time."""
        passages = int(np.maximum(sequences.lengths[chosen] - PASSAGE_WORDS + 1, 0).sum())
        slots = 1 << max(4, (4 * (passages // parts) // 3).bit_length())
        tables = cls(
            keys=np.zeros((len(held), slots), dtype=np.uint64),
            is_known=np.zeros((len(held), slots), dtype=np.bool_),
            possible=np.zeros(max(8, len(held) * slots * _BITS_PER_SLOT // 8), dtype=np.uint8),
            first=held.start,
            parts=parts,
        )

        def fill(part: int) -> None:
            for block in _blocks(sequences, chosen):
                _fill(*block, part, parts, tables.keys[part - held.start])
                sequences.release()

        for _ in map_in_threads(fill, held):
            pass
        for keys in tables.keys:
            _note_possible(keys, tables.possible)
        return tables

    def mark(self, sequences: WordSequences, chosen: Bools) -> None:
        """Mark the passages that chosen documents have too."""

        def mark(block: _Block) -> None:
            _mark_known(*block, self.first, self.parts, self.keys, self.possible, self.is_known)
            sequences.release()

        for _ in map_in_threads(mark, _blocks(sequences, chosen)):
            pass

    def count(self, sequences: WordSequences, chosen: Bools, counts: npt.NDArray[np.int32]) -> None:
        """Add to each chosen document's count the number of its passages that are marked."""

        def count(block: tuple[_Block, npt.NDArray[np.int32]]) -> None:
            _count_known(*block[0], self.first, self.parts, self.keys, self.is_known, block[1])
            sequences.release()

        starts = range(0, len(chosen), BLOCK_DOCUMENTS)
        of_blocks = (counts[start : start + BLOCK_DOCUMENTS] for start in starts)
        for _ in map_in_threads(count, zip(_blocks(sequences, chosen), of_blocks, strict=True)):
            pass


def _blocks(sequences: WordSequences, chosen: Bools) -> Iterator[_Block]:
    """The words, and the starts, the lengths and the choice of some documents after the other."""
    for start in range(0, len(chosen), BLOCK_DOCUMENTS):
        some = slice(start, start + BLOCK_DOCUMENTS)
        yield sequences.words, sequences.starts[some], sequences.lengths[some], chosen[some]


@kernel
def _fill(
    words: npt.NDArray[np.uint32],
    starts: Longs,
    lengths: npt.NDArray[np.int32],
    chosen: npt.NDArray[np.bool_],
    part: int,
    parts: int,
    table: Hashes,
) -> None:
    """Put the passages of chosen documents into the table."""
    oldest = _power()
    for text in range(len(chosen)):
        if chosen[text]:
            state = _EMPTY
            for place in range(starts[text], starts[text] + lengths[text]):
                state = _rolled(words, starts[text], place, state, oldest)
                if place - starts[text] >= PASSAGE_WORDS - 1:
                    key = _mixed(state)
                    if _part(key, parts) == part:
                        table[_slot(table, key)] = key


@kernel
def _note_possible(keys: Hashes, possible: npt.NDArray[np.uint8]) -> None:
    """Set the bit of each hash in a table."""
    for slot in range(len(keys)):
        if keys[slot] != _EMPTY:
            place, bit = _bit_of(keys[slot], possible)
            possible[place] |= bit


@kernel
def _bit_of(key: np.uint64, possible: npt.NDArray[np.uint8]) -> tuple[int, np.uint8]:
    """The byte of a hash, and its bit there."""
    place = int((key >> np.uint64(20)) & np.uint64(len(possible) - 1))
    return place, np.uint8(np.uint64(1) << ((key >> np.uint64(50)) & np.uint64(7)))


@kernel
def _mark_known(
    words: npt.NDArray[np.uint32],
    starts: Longs,
    lengths: npt.NDArray[np.int32],
    chosen: Bools,
    first: int,
    parts: int,
    keys: Hashes,
    possible: npt.NDArray[np.uint8],
    is_known: Bools,
) -> None:
    """Mark the entries of the tables that chosen documents have too; several threads may."""
    oldest = _power()
    for text in range(len(chosen)):
        if chosen[text]:
            state = _EMPTY
            for place in range(starts[text], starts[text] + lengths[text]):
                state = _rolled(words, starts[text], place, state, oldest)
                if place - starts[text] >= PASSAGE_WORDS - 1:
                    key = _mixed(state)
                    table = _part(key, parts) - first
                    if not 0 <= table < len(keys):
                        continue
                    byte, bit = _bit_of(key, possible)
                    if possible[byte] & bit:
                        slot = _slot(keys[table], key)
                        if keys[table, slot] != _EMPTY:
                            is_known[table, slot] = True


@kernel
def _count_known(
    words: npt.NDArray[np.uint32],
    starts: Longs,
    lengths: npt.NDArray[np.int32],
    chosen: Bools,
    first: int,
    parts: int,
    keys: Hashes,
    is_known: Bools,
    counts: npt.NDArray[np.int32],
) -> None:
    """Add the number of passages of chosen documents whose entry in the tables is marked."""
    oldest = _power()
    for text in range(len(chosen)):
        if chosen[text]:
            state = _EMPTY
            for place in range(starts[text], starts[text] + lengths[text]):
                state = _rolled(words, starts[text], place, state, oldest)
                if place - starts[text] >= PASSAGE_WORDS - 1:
                    key = _mixed(state)
                    table = _part(key, parts) - first
                    if 0 <= table < len(keys) and is_known[table, _slot(keys[table], key)]:
                        counts[text] += 1


@kernel
def _power() -> np.uint64:
    """The weight of the word that leaves a passage."""
    power = np.uint64(1)
    for _ in range(PASSAGE_WORDS):
        power *= _BASE
    return power


@kernel
def _rolled(words: npt.NDArray[np.uint32], first: int, place: int, state: np.uint64, oldest: np.uint64) -> np.uint64:
    """The polynomial hash of the last 13 words up to `place`, from that up to the word before."""
    state = state * _BASE + np.uint64(words[place])
    if place - first >= PASSAGE_WORDS:
        state -= np.uint64(words[place - PASSAGE_WORDS]) * oldest
    return state


@kernel
def _mixed(state: np.uint64) -> np.uint64:
    """A hash with well-mixed low bits, never 0."""
    mixed = (state ^ (state >> np.uint64(32))) * _BASE
    return (mixed ^ (mixed >> np.uint64(29))) | np.uint64(1)


@kernel
def _part(key: np.uint64, parts: int) -> int:
    """The part of all passages that a hash belongs to."""
    return int((key >> np.uint64(58)) & np.uint64(parts - 1))


@kernel
def _slot(table: Hashes, key: np.uint64) -> int:
    """The place of a key in the table, or the empty one where it belongs."""
    slot = np.int64((key >> np.uint64(1)) & np.uint64(len(table) - 1))
    while table[slot] != _EMPTY and table[slot] != key:
        slot = np.int64((slot + 1) & (len(table) - 1))
    return int(slot)
