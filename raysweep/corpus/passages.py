"""Counts test documents that repeat passages of train, or of a prompt: sequences of 13 words.

A learner who copies a model answer, or the task itself, into an essay of their own gives no near duplicate, but
the words are not new to the models.  The length is that of the overlap checks of GPT-3 and later models (Brown et
al. 2020, appendix C).  Passages are counted and are no leak: set phrases of a task can be as long.
"""

from collections.abc import Iterator
from dataclasses import dataclass

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
Part = tuple[int, int]
"""Which part of all passages, and how many parts there are: a power of two."""

_MOST_PARTS = 6
_PASSAGES_AT_ONCE = 1 << 22
"""Passages that a hash table is made of, about; of more, those whose hashes begin alike are counted together."""
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
    shared = np.zeros(len(splits), dtype=np.int64)
    for counts in map_in_threads(lambda part: _shared(sequences, test, train, (part, parts)), range(parts)):
        shared += counts
    tasks = WordSequences.of(pa.chunked_array([pa.array(prompts, pa.large_string())]))
    in_prompts = None
    if (tasks.lengths >= PASSAGE_WORDS).any():
        table = _table_of(tasks, np.ones(len(prompts), dtype=np.bool_), (0, 1))
        hits = _count_all(sequences, np.ones(len(splits), dtype=np.bool_), table, table != 0, (0, 1))
        in_prompts = int((hits > 0).sum())
    return Passages(
        in_train=int((shared > 0).sum()),
        mostly_in_train=int(((shared > 0) & (shared >= MOSTLY * passages)).sum()),
        in_prompts=in_prompts,
    )


def _shared(
    sequences: WordSequences, test: npt.NDArray[np.bool_], train: npt.NDArray[np.bool_], part: Part
) -> npt.NDArray[np.int32]:
    """How many passages of each test document train has too, of one part of all passages."""
    table = _table_of(sequences, test, part)
    is_known = np.zeros(len(table), dtype=np.bool_)
    # A small array, which the processor's cache holds, answers for most passages that the table lacks.
    is_possible = np.zeros(len(table) // 2, dtype=np.bool_)
    is_possible[table[table != 0] >> np.uint64(32) & np.uint64(len(is_possible) - 1)] = True
    for words, starts, lengths, chosen in _blocks(sequences, train):
        _mark_known(words, starts, lengths, chosen, *part, table, is_possible, is_known)
        sequences.release()
    return _count_all(sequences, test, table, is_known, part)


def _count_all(
    sequences: WordSequences, chosen: npt.NDArray[np.bool_], table: Hashes, is_known: npt.NDArray[np.bool_], part: Part
) -> npt.NDArray[np.int32]:
    counts = [np.zeros(0, dtype=np.int32)]
    for words, starts, lengths, some in _blocks(sequences, chosen):
        counts.append(np.zeros(len(some), dtype=np.int32))
        _count_known(words, starts, lengths, some, *part, table, is_known, counts[-1])
        sequences.release()
    return np.concatenate(counts)


def _table_of(sequences: WordSequences, chosen: npt.NDArray[np.bool_], part: Part) -> Hashes:
    """Make a hash table (open addressing, half empty at least) of one part of the passages of some documents."""
    words = int(sequences.lengths[chosen].sum()) // part[1]
    table = np.zeros(1 << max(4, (2 * words).bit_length()), dtype=np.uint64)
    for words_, starts, lengths, some in _blocks(sequences, chosen):
        _fill(words_, starts, lengths, some, *part, table)
        sequences.release()
    return table


def _blocks(
    sequences: WordSequences, chosen: npt.NDArray[np.bool_]
) -> Iterator[tuple[npt.NDArray[np.uint32], Longs, npt.NDArray[np.int32], npt.NDArray[np.bool_]]]:
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
def _mark_known(
    words: npt.NDArray[np.uint32],
    starts: Longs,
    lengths: npt.NDArray[np.int32],
    chosen: npt.NDArray[np.bool_],
    part: int,
    parts: int,
    table: Hashes,
    is_possible: npt.NDArray[np.bool_],
    is_known: npt.NDArray[np.bool_],
) -> None:
    """Mark the entries of the table that chosen documents have too."""
    oldest = _power()
    for text in range(len(chosen)):
        if chosen[text]:
            state = _EMPTY
            for place in range(starts[text], starts[text] + lengths[text]):
                state = _rolled(words, starts[text], place, state, oldest)
                if place - starts[text] >= PASSAGE_WORDS - 1:
                    key = _mixed(state)
                    if _part(key, parts) != part:
                        continue
                    if not is_possible[(key >> np.uint64(32)) & np.uint64(len(is_possible) - 1)]:
                        continue
                    slot = _slot(table, key)
                    if table[slot] != _EMPTY:
                        is_known[slot] = True


@kernel
def _count_known(
    words: npt.NDArray[np.uint32],
    starts: Longs,
    lengths: npt.NDArray[np.int32],
    chosen: npt.NDArray[np.bool_],
    part: int,
    parts: int,
    table: Hashes,
    is_known: npt.NDArray[np.bool_],
    counts: npt.NDArray[np.int32],
) -> None:
    """Count the passages of chosen documents whose entry in the table is marked."""
    oldest = _power()
    for text in range(len(chosen)):
        if chosen[text]:
            state = _EMPTY
            for place in range(starts[text], starts[text] + lengths[text]):
                state = _rolled(words, starts[text], place, state, oldest)
                if place - starts[text] >= PASSAGE_WORDS - 1:
                    key = _mixed(state)
                    if _part(key, parts) == part and is_known[_slot(table, key)]:
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
