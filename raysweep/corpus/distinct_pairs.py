"""Collects pairs of texts that are found repeatedly, in memory proportional to the number of distinct pairs."""

import numpy as np
import numpy.typing as npt

Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class DistinctPairs:
    """Pairs of codes below `count`, and the similarity of each.

    Similar texts share their bucket in most bands, so 20 bands give each pair many times.  Pairs are merged whenever
    there are more than twice as many as distinct ones, so a large group of similar texts takes little more memory than
    its distinct pairs.
    """

    def __init__(self, count: int) -> None:
        """Start without pairs."""
        self._count = count
        self._keys, self._similarities = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.float32)]
        self._distinct = self._held = 0

    def add(self, pairs: Longs, similarities: Floats) -> None:
        """Add (P, 2) pairs and their similarities; a pair must have the same similarity each time."""
        self._keys.append(pairs[:, 0] * self._count + pairs[:, 1])
        self._similarities.append(similarities)
        self._held += len(pairs)
        if self._held > 2 * self._distinct:
            self._merge()

    def merged(self) -> tuple[Longs, Floats]:
        """Return the distinct pairs, sorted, and their similarities."""
        self._merge()
        keys = self._keys[0]
        return np.stack([keys // self._count, keys % self._count], axis=1), self._similarities[0]

    def _merge(self) -> None:
        keys, firsts = np.unique(np.concatenate(self._keys), return_index=True)
        self._keys, self._similarities = [keys], [np.concatenate(self._similarities)[firsts]]
        self._distinct = self._held = len(keys)
