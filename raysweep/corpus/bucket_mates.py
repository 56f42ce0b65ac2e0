"""Finds pairs of texts that share a bucket of an LSH band and may be similar, for `near_duplicates`.

Bands are processed one at a time, and each band in parts.  In a bucket too large for all pairs, each text is compared
with the texts that follow it in document order, so the division into parts does not change the pairs.
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
"""Approximate number of texts whose band keys are sorted together."""
_REACH = 256
"""Most texts of its bucket that a text is compared with; only corpora of very similar texts have larger buckets."""

_FEW_DIFFERING = 18
"""Two texts whose signatures differ in fewer minima than this are nearly always similar.  Many pairs of a large group
of similar texts do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BandPart:
    """The texts of some complete buckets of a band."""

    texts: Longs
    """(n,) ascending."""
    keys: Wides
    """(n,) the bucket key of each text."""
    at: Longs
    """(2,) the bucket and the text in it to continue from, see `near_kernels.find_candidates`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketMates:
    """Finds texts that share a bucket, one band at a time."""

    sketches: Spool
    bands: list[list[Place]]
    """Block → band → the bucket keys of the block's texts."""
    packed: Wides
    """(PACKED + 2, C), see `near_kernels.sketch_texts`."""
    codes: npt.NDArray[np.int32]
    """(D,) the column of each text in `packed`."""
    lengths: npt.NDArray[np.int32]
    """(D,) words of each text."""
    is_chosen: npt.NDArray[np.bool_]
    """(D,) True for one text of each distinct sequence of words."""
    threshold: float

    def parts(self) -> Iterator[BandPart]:
        """Yield each band in parts that do not divide a bucket."""
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

    def find_pairs(
        self, parts: Iterator[BandPart], unfinished: list[BandPart], candidates: CandidatePairs, *, most: int
    ) -> int:
        """Add pairs that share a bucket and may be similar to `candidates`, until all are found or there are `most`.

        All threads have finished when it returns, and there are hardly more than `most` candidates, however large a
        bucket is.

        Args:
            parts: the remaining parts; those that are processed are consumed.
            unfinished: parts to finish first; on return, the parts that are not finished.

        Returns:
            The number of pairs that were skipped in the parts that were finished.
        """

        def waiting() -> Iterator[BandPart]:
            while candidates.count < most and (part := unfinished.pop() if unfinished else next(parts, None)):
                yield part

        def find(part: BandPart) -> tuple[BandPart, int | None]:
            return part, self._find(part, candidates, most)

        skipped = 0
        for part, of_part in map_in_threads(find, waiting()):
            if of_part is None:
                unfinished.append(part)
            else:
                skipped += of_part
        return skipped

    def _find(self, part: BandPart, candidates: CandidatePairs, most: int) -> int | None:
        """Continue with a part; returns how many of its pairs are skipped, or None if it is not finished."""
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
            count = find_candidates(packed, lengths, begins, _REACH, agreeing, _FEW_DIFFERING, allowed, part.at, room)
            candidates.add(rows[room[:count]])
        mates = np.maximum(np.diff(begins) - 1 - _REACH, 0)
        return int((mates * (mates + 1) // 2).sum())


def least_agreement(threshold: float) -> int:
    """Return the fewest equal minima that the signatures of a similar pair can have (four standard errors).

    A changed word changes two pairs of neighbouring words in each text.  If a fraction c of the words changed, the
    texts share (1 − 2c) / (1 + 2c) of these pairs, which a signature estimates.
    """
    changed = 1.0 - threshold
    shared = max(0.0, (1.0 - 2.0 * changed) / (1.0 + 2.0 * changed))
    return max(ROWS, int(SIGNATURE * (shared - 4.0 * (shared * (1.0 - shared) / SIGNATURE) ** 0.5)))


def _buckets(keys: Wides) -> tuple[Longs, Longs]:
    """Return the rows that share a bucket with another row, sorted by bucket, and the start of each bucket and the end
    of the last one."""
    order = _order_of(keys)
    in_order = keys[order]
    is_first = np.ones(len(keys) + 1, dtype=np.bool_)
    is_first[1:-1] = in_order[1:] != in_order[:-1]
    sizes = np.diff(np.flatnonzero(is_first))
    return order[np.repeat(sizes > 1, sizes)], np.concatenate([[0], sizes[sizes > 1].cumsum()])


def _order_of(keys: Wides) -> Longs:
    """Return an order in which equal keys are neighbours, in ascending order of rows.

    NumPy's sort is several times as fast as its stable argsort, so the row number replaces the low bits of its key,
    after these have been mixed into the high bits.
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
