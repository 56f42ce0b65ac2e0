"""Numbers the clusters that the bootstrap draws, learners or documents without one, over all levels.

Levels that share a learner form a stratum, whose clusters are drawn together; other levels are drawn separately.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from raysweep.seeding import generator_for
from raysweep.statistics.loss_table import Floats, Ints, LevelLosses

_COUNTS_AT_ONCE = 1 << 17
"""Number of counters that fit in a core's cache; a draw of more clusters is made alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clusters:
    """The clusters of all test documents, numbered from 0, stratum after stratum."""

    learner_of: Mapping[int, str]
    """Learner of each document number, if known."""
    code_of: Mapping[str | int, int]
    """Number of each learner, and of each document without one."""
    strata: tuple[tuple[tuple[str, ...], int], ...]
    """Levels of each stratum, and its number of clusters."""
    prompt_of: Mapping[int, int] = field(default_factory=dict)
    """Number of the writing prompt of each document number; empty if prompts are unknown."""
    prompts: int = 0
    """Number of writing prompts over all documents of all levels."""

    @classmethod
    def of_levels(cls, losses: Mapping[str, LevelLosses], learner_of: Mapping[int, str]) -> "Clusters":
        """Number the clusters; levels that share a learner, directly or indirectly, form a stratum."""
        keys = {
            level: [learner_of.get(document, document) for document in of_level.documents.tolist()]
            for level, of_level in losses.items()
        }
        joined: list[tuple[list[str], set[str | int]]] = []
        for level, keys_of_level in keys.items():
            overlapping = [group for group in joined if not group[1].isdisjoint(keys_of_level)]
            joined = [group for group in joined if group not in overlapping]
            levels = [known for group in overlapping for known in group[0]]
            joined.append(([*levels, level], set(keys_of_level).union(*(group[1] for group in overlapping))))
        code_of: dict[str | int, int] = {}
        strata = []
        for levels, clusters in joined:
            documents = np.unique(np.concatenate([losses[level].documents for level in levels])).tolist()
            for document in documents:
                code_of.setdefault(learner_of.get(document, document), len(code_of))
            strata.append((tuple(levels), len(clusters)))
        return cls(learner_of=learner_of, code_of=code_of, strata=tuple(strata))

    @property
    def count(self) -> int:
        """Number of all clusters."""
        return len(self.code_of)

    def with_documents(self, documents: Iterable[int]) -> "Clusters":
        """Return the same clusters, with a further stratum for those that occur only in these documents."""
        code_of = dict(self.code_of)
        for document in documents:
            code_of.setdefault(self.learner_of.get(document, document), len(code_of))
        if (further := len(code_of) - self.count) == 0:
            return self
        return replace(self, code_of=code_of, strata=(*self.strata, (("further documents",), further)))

    def codes(self, documents: Ints) -> Ints:
        """Return the (D,) cluster of each document."""
        keys = (self.learner_of.get(document, document) for document in documents.tolist())
        return np.array([self.code_of[key] for key in keys], dtype=np.int64)

    def draw(self, resamples: int, seed: int) -> Iterator[tuple[slice, slice, Floats]]:
        """Yield the draws in parts: a range of resamples, a range of clusters, and how often each cluster was drawn."""
        first = 0
        for levels, count in self.strata:
            rng = generator_for(seed, "bootstrap", *levels)
            together = max(1, _COUNTS_AT_ONCE // count)
            for start in range(0, resamples, together):
                rows = min(together, resamples - start)
                chosen = rng.integers(0, count, size=(rows, count), dtype=np.int64)
                chosen += np.arange(0, rows * count, count)[:, None]
                times = np.bincount(chosen.ravel(), minlength=rows * count).reshape(rows, count)
                yield slice(start, start + rows), slice(first, first + count), times.astype(np.float64)
            first += count
