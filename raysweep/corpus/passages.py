"""Counts test documents that repeat passages of train, or of a prompt: sequences of 13 words.

A learner who copies a model answer, or the task itself, into an essay of their own gives no near duplicate, but
the words are not new to the models.  The length is that of the overlap checks of GPT-3 and later models (Brown et
al. 2020, appendix C).  Passages are counted and are no leak: set phrases of a task can be as long.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raysweep.corpus.near_duplicates import WordSequences
from raysweep.corpus.splits import SPLITS
from raysweep.readers.compiled import kernel

PASSAGE_WORDS = 13
MOSTLY = 0.5

Hashes = npt.NDArray[np.uint64]
Longs = npt.NDArray[np.int64]

_BASE = np.uint64(0x9E3779B97F4A7C15)
_EMPTY = np.uint64(0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Passages:
    """Documents with a passage that stands elsewhere too."""

    in_train: int  # test documents that share a passage with train
    mostly_in_train: int  # of these, with at least half of their passages
    in_prompts: int | None  # documents of any split with a passage of a prompt; None if no prompt is that long


def count_passages(sequences: WordSequences, splits: npt.NDArray[np.int64], prompts: list[str]) -> Passages:
    """Count the documents that repeat passages of train or of a prompt.

    Args:
        splits: an index into `SPLITS` for each document.
        prompts: the distinct values of the prompt column, which may be texts or mere names.
    """
    test = splits == SPLITS.index("test")
    shared, passages = _shared(sequences, test, splits == SPLITS.index("train"))
    tasks = WordSequences.of(pa.chunked_array([pa.array(prompts, pa.large_string())]))
    in_prompts = None
    if (np.diff(tasks.starts) >= PASSAGE_WORDS).any():
        table = _table_of(tasks, np.ones(len(prompts), dtype=np.bool_))
        hits = np.zeros(len(splits), dtype=np.int64)
        _count_known(sequences.words, sequences.starts, np.ones(len(splits), dtype=np.bool_), table, table != 0, hits)
        in_prompts = int((hits > 0).sum())
    return Passages(
        in_train=int((shared > 0).sum()),
        mostly_in_train=int(((shared > 0) & (shared >= MOSTLY * passages)).sum()),
        in_prompts=in_prompts,
    )


def _shared(sequences: WordSequences, test: npt.NDArray[np.bool_], train: npt.NDArray[np.bool_]) -> tuple[Longs, Longs]:
    """Passages of each test document that train has too, and all its passages; 0 for other documents."""
    words, starts = sequences.words, sequences.starts
    table = _table_of(sequences, test)
    is_known = np.zeros(len(table), dtype=np.bool_)
    # A small array, which the processor's cache holds, answers for most passages that the table lacks.
    is_possible = np.zeros(len(table) // 2, dtype=np.bool_)
    is_possible[table[table != 0] >> np.uint64(44) & np.uint64(len(is_possible) - 1)] = True
    _mark_known(words, starts, train, table, is_possible, is_known)
    shared = np.zeros(len(test), dtype=np.int64)
    _count_known(words, starts, test, table, is_known, shared)
    return shared, np.where(test, np.maximum(np.diff(starts) - PASSAGE_WORDS + 1, 0), 0)


def _table_of(sequences: WordSequences, chosen: npt.NDArray[np.bool_]) -> Hashes:
    """Make a hash table (open addressing, half empty at least) of the passages of some documents."""
    words = int(np.diff(sequences.starts)[chosen].sum())
    table = np.zeros(1 << max(4, (2 * words).bit_length()), dtype=np.uint64)
    _fill(sequences.words, sequences.starts, chosen, table)
    return table


@kernel
def _fill(words: npt.NDArray[np.uint32], starts: Longs, chosen: npt.NDArray[np.bool_], table: Hashes) -> None:
    """Put the passages of chosen documents into the table."""
    oldest = _power()
    for text in range(len(chosen)):
        if chosen[text]:
            state = _EMPTY
            for place in range(starts[text], starts[text + 1]):
                state = _rolled(words, starts[text], place, state, oldest)
                if place - starts[text] >= PASSAGE_WORDS - 1:
                    table[_slot(table, _mixed(state))] = _mixed(state)


@kernel
def _mark_known(
    words: npt.NDArray[np.uint32],
    starts: Longs,
    chosen: npt.NDArray[np.bool_],
    table: Hashes,
    is_possible: npt.NDArray[np.bool_],
    is_known: npt.NDArray[np.bool_],
) -> None:
    """Mark the entries of the table that chosen documents have too."""
    oldest = _power()
    for text in range(len(chosen)):
        if chosen[text]:
            state = _EMPTY
            for place in range(starts[text], starts[text + 1]):
                state = _rolled(words, starts[text], place, state, oldest)
                if place - starts[text] >= PASSAGE_WORDS - 1:
                    key = _mixed(state)
                    if not is_possible[(key >> np.uint64(44)) & np.uint64(len(is_possible) - 1)]:
                        continue
                    slot = _slot(table, key)
                    if table[slot] != _EMPTY:
                        is_known[slot] = True


@kernel
def _count_known(
    words: npt.NDArray[np.uint32],
    starts: Longs,
    chosen: npt.NDArray[np.bool_],
    table: Hashes,
    is_known: npt.NDArray[np.bool_],
    counts: Longs,
) -> None:
    """Count the passages of chosen documents whose entry in the table is marked."""
    oldest = _power()
    for text in range(len(chosen)):
        if chosen[text]:
            state = _EMPTY
            for place in range(starts[text], starts[text + 1]):
                state = _rolled(words, starts[text], place, state, oldest)
                if place - starts[text] >= PASSAGE_WORDS - 1 and is_known[_slot(table, _mixed(state))]:
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
def _slot(table: Hashes, key: np.uint64) -> int:
    """The place of a key in the table, or the empty one where it belongs."""
    slot = np.int64((key >> np.uint64(1)) & np.uint64(len(table) - 1))
    while table[slot] != _EMPTY and table[slot] != key:
        slot = np.int64((slot + 1) & (len(table) - 1))
    return int(slot)
