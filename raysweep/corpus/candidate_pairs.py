"""Keeps pairs of texts to be compared in a temporary file, ordered by where their words lie in the file of words.

Texts are divided into ranges of equal numbers of texts.  The pairs between two ranges form a *block* and are yielded
together, so only the words of two ranges need to be in memory.  In the order in which pairs are found, each pair would
read words from anywhere in the file.
"""

import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from raysweep.corpus.spool import Place, Spool

Longs = npt.NDArray[np.int64]

_WORDS_OF_RANGE = 1 << 24
"""Words of a range: 64 MB, if the range's texts have the average length of the corpus."""
_PAIRS_OF_RUN = 1 << 22
"""Pairs that are sorted and written as one run."""
_PAIRS_AT_ONCE = 1 << 20
"""Most pairs that are yielded together."""
_PIECES_OF_READ = 16
"""Pieces into which `_PAIRS_AT_ONCE` pairs of one block are written; the pieces of several runs are merged."""
_NUMBER_BITS = 31
"""Bits of a text's number, so that two of them fit into a signed 64-bit integer."""


class CandidatePairs:
    """Pairs of texts, each of which may be added many times.

    Several threads may add pairs at the same time; the pairs are read after all threads have finished.
    """

    def __init__(self, folder: Path | None, *, texts: int, words: int) -> None:
        """Args: `folder` for a temporary file; `texts` (fewer than 2³¹) and `words`: their total numbers."""
        assert texts < 1 << _NUMBER_BITS, "a text's number takes 31 bits"
        per_text = max(1, words // max(1, texts))
        self._bits = min(_NUMBER_BITS, max(1, _WORDS_OF_RANGE // per_text).bit_length() - 1)
        self._spool = Spool(folder)
        self._places: dict[int, list[tuple[int, Place]]] = {}  # block → the first key and the place of each piece
        self._held: list[Longs] = []
        self._held_count = 0
        self._lock = threading.Lock()
        self.count = 0
        """Number of pairs that were added, including repeats."""

    def add(self, pairs: Longs) -> None:
        """Add (P, 2) pairs, the smaller text number first."""
        bits = self._bits
        high, low = pairs >> bits, pairs & ((1 << bits) - 1)
        keys = (high[:, 0] << _NUMBER_BITS - bits | high[:, 1]) << 2 * bits | low[:, 0] << bits | low[:, 1]
        run: list[Longs] = []
        with self._lock:
            self._held.append(keys)
            self._held_count += len(keys)
            self.count += len(keys)
            if self._held_count >= _PAIRS_OF_RUN:
                run, self._held, self._held_count = self._held, [], 0
        if run:
            self._write(run)

    def blocks(self) -> Iterator[Longs]:
        """Yield the pairs as (P, 2), block by block, each pair once; call it after all pairs were added."""
        self._write(self._held)
        self._held.clear()
        for block in sorted(self._places):
            for keys in self._merged(sorted(self._places[block], key=lambda piece: piece[0])):
                for begin in range(0, len(keys), _PAIRS_AT_ONCE):
                    yield self._pairs(keys[begin : begin + _PAIRS_AT_ONCE])

    def _merged(self, pieces: list[tuple[int, Place]]) -> Iterator[Longs]:
        """Merge sorted pieces in the order of their first keys.

        A large group of similar texts has pairs in every run, so not all pieces of a block fit into memory.
        """
        held, count, most = list[Longs](), 0, _PAIRS_AT_ONCE
        for number, (_, place) in enumerate(pieces):
            held.append(self._spool.read(place, np.int64))
            count += len(held[-1])
            if count < most and number + 1 < len(pieces):
                continue
            keys = _distinct(held)
            # No later piece has a key below its first key.
            ready = np.searchsorted(keys, pieces[number + 1][0]) if number + 1 < len(pieces) else len(keys)
            yield keys[:ready]
            held = [keys[ready:].copy()]
            count = len(held[0])
            most = count + _PAIRS_AT_ONCE

    def _write(self, run: list[Longs]) -> None:
        """Sort the keys of a run and write the keys of each block to the spool."""
        keys = _distinct(run)
        blocks = keys >> 2 * self._bits
        # All pairs of a large group of similar texts may be in one block.
        cuts = np.arange(0, len(keys), max(1, _PAIRS_AT_ONCE // _PIECES_OF_READ))
        begins = np.union1d(np.flatnonzero(np.diff(blocks, prepend=-1)), cuts)
        places = [
            (int(blocks[begin]), (int(keys[begin]), self._spool.append(keys[begin:end])))
            for begin, end in pairwise([*begins.tolist(), len(keys)])
        ]
        with self._lock:
            for block, piece in places:
                self._places.setdefault(block, []).append(piece)

    def _pairs(self, some: Longs) -> Longs:
        bits = self._bits
        block, low = some >> 2 * bits, (1 << bits) - 1
        left = block >> _NUMBER_BITS - bits << bits | some >> bits & low
        right = (block & (1 << _NUMBER_BITS - bits) - 1) << bits | some & low
        return np.stack([left, right], axis=1)


def _distinct(parts: list[Longs]) -> Longs:
    """Return the distinct keys of all parts, sorted."""
    keys = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
    keys.sort()
    is_new = np.ones(len(keys), dtype=np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=is_new[1:])
    return keys[is_new]
