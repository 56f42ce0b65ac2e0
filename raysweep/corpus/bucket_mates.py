"""Finds the texts that share a bucket of a band and may be similar, for `near_duplicates`.

Bands are looked at one at a time, in parts of a band.  Of a bucket too large to be compared completely each text is
compared with those that follow it, in the order of the documents, so parts change no pair.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raysweep.corpus.candidate_pairs import CandidatePairs
from raysweep.corpus.near_kernels import BANDS, ROWS, SIGNATURE, find_candidates
from raysweep.corpus.spool import Place, Spool
from raysweep.readers.cpu_threads import map_in_threads

Longs = npt.NDArray[np.int64]
Wides = npt.NDArray[np.uint64]

_CANDIDATES_AT_ONCE = 1 << 18
_ROWS_AT_ONCE = 1 << 19
"""Texts whose bands are sorted together, about."""
_REACH = 256
"""Texts of its bucket that a text is compared with; only corpora of very similar texts have more."""

_SURELY = 18
"""Minima of which two texts that nearly always are similar differ in fewer; a crowd of like texts has many such."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BandPart:
    """Texts of whole buckets of a band."""

    texts: Longs
    """(n,) ascending."""
    keys: Wides
    """(n,) equal in a bucket."""
    at: Longs
    """(2,) the bucket and the text of it whose pairs are found next, see `near_kernels.find_candidates`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketMates:
    """The texts of the same bucket, a band at a time."""

    sketches: Spool
    bands: list[list[Place]]
    """Block → band → the keys of the block's texts, equal in a bucket."""
    packed: Wides
    """(PACKED + 2, C), see `near_kernels.sketch_texts`."""
    codes: npt.NDArray[np.int32]
    """(D,) the column of each text in `packed`."""
    lengths: npt.NDArray[np.int32]
    """(D,) words of each text."""
    is_chosen: npt.NDArray[np.bool_]
    """(D,) one text of each sequence of words."""
    threshold: float

    def parts(self) -> Iterator[BandPart]:
        """Each band in parts whose buckets are whole."""
        parts = 1 << (int(self.is_chosen.sum()) // _ROWS_AT_ONCE).bit_length()
        for band in range(BANDS):
            keys = self.sketches.read_all([block[band] for block in self.bands], np.uint64)
            numbers = np.full(len(keys), -1, dtype=np.int16)
            for begin in range(0, len(keys), _ROWS_AT_ONCE):
                some = slice(begin, begin + _ROWS_AT_ONCE)
                of_some = (keys[some] >> np.uint64(32) & np.uint64(parts - 1)).astype(np.int16)
                np.copyto(numbers[some], of_some, where=self.is_chosen[some])
            for part in range(parts):
                inside = np.flatnonzero(numbers == part)
                yield BandPart(texts=inside, keys=keys[inside], at=np.zeros(2, dtype=np.int64))

    def find_some(
        self, parts: Iterator[BandPart], begun: list[BandPart], candidates: CandidatePairs, *, most: int
    ) -> int:
        """Add pairs that share a bucket and may be similar to `candidates`, until all are found or there are `most`.

        No thread is at work afterwards, and there are hardly more than `most` candidates, however large a bucket is.

        Args:
            parts: those left; the ones that are looked at are taken.
            begun: parts to finish first; changed to those that are not finished at the end.

        Returns:
            How many pairs of the parts that were finished were skipped.
        """

        def waiting() -> Iterator[BandPart]:
            while candidates.count < most and (part := begun.pop() if begun else next(parts, None)):
                yield part

        def find(part: BandPart) -> tuple[BandPart, int | None]:
            return part, self._find(part, candidates, most)

        skipped = 0
        for part, of_part in map_in_threads(find, waiting()):
            if of_part is None:
                begun.append(part)
            else:
                skipped += of_part
        return skipped

    def _find(self, part: BandPart, candidates: CandidatePairs, most: int) -> int | None:
        """Go on with a part; returns how many of its pairs are skipped, None if it is not finished."""
        order, begins = _buckets(part.keys)
        rows = part.texts[order]
        # Each row stays contiguous; `self.packed[:, rows]` would put the six numbers of a text side by side.
        packed = np.take(self.packed, self.codes[rows], axis=1)
        lengths = self.lengths[rows]
        room = np.empty((max(_CANDIDATES_AT_ONCE, _REACH), 2), dtype=np.int64)
        agreeing, allowed = least_agreement(self.threshold), 1.0 - self.threshold
        while part.at[0] < len(begins) - 1:
            if candidates.count >= most:
                return None
            count = find_candidates(packed, lengths, begins, _REACH, agreeing, _SURELY, allowed, part.at, room)
            candidates.add(rows[room[:count]])
        mates = np.maximum(np.diff(begins) - 1 - _REACH, 0)
        return int((mates * (mates + 1) // 2).sum())


def least_agreement(threshold: float) -> int:
    """The fewest equal minima that two signatures of a similar pair can have (four standard errors).

    A changed word changes two pairs of neighbouring words in each text.  If a fraction c of the words changed, the
    texts share (1 − 2c) / (1 + 2c) of these pairs, which a signature estimates.
    """
    changed = 1.0 - threshold
    shared = max(0.0, (1.0 - 2.0 * changed) / (1.0 + 2.0 * changed))
    return max(ROWS, int(SIGNATURE * (shared - 4.0 * (shared * (1.0 - shared) / SIGNATURE) ** 0.5)))


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
