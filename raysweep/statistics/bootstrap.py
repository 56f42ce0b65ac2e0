"""The paired cluster bootstrap: every model's perplexities on other draws of the writers.

Documents of one writer resemble each other, so writers (clusters) are drawn, not documents; if the
writers are unknown, every document is a cluster of its own.  All models are scored on the same draw,
so what makes a draw hard or easy for all of them cancels in their ratios.  Each level has its own
generator, so adding a level changes no other level's numbers.

The sums are exact.  Nats are rounded to a fine power of two (about 1e-7 nats per cluster), so that
no sum of a draw is ever rounded: the order of additions, and so the number of threads of a matrix
product, cannot change a bit of the result.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raysweep.seeding import generator_for
from raysweep.statistics.loss_table import Floats, Ints, LevelLosses

MIN_CLUSTERS = 10
"""With fewer writers (or documents) a bootstrap interval means nothing."""
_COUNTS_AT_ONCE = 1 << 17
"""Counters that fit in a core's cache; a draw of more clusters is made alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelResamples:
    """The resamples of one level.  R resamples, C clusters, M models."""

    documents: int
    tokens: int
    clusters: int
    estimates: Floats
    """(M,) nats per token (log perplexity) on the documents as they are."""
    draws: Floats
    """(R, M) the same on each resample."""
    influences: Floats
    """(C, M) influence of each cluster on the estimate: its nats minus its tokens at the mean loss, over all tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resamples:
    """The resamples of all levels, from which intervals and p-values are computed."""

    models: tuple[str, ...]
    levels: Mapping[str, LevelResamples]
    seed: int
    resamples: int
    clusters: Mapping[int, str]
    """The writer of each document number, if known."""

    def column(self, model: str) -> int:
        """Index of a model on the M axis."""
        return self.models.index(model)

    def again(self, losses: Mapping[str, LevelLosses], models: Sequence[str] | None = None) -> "Resamples":
        """Resample other losses with the same seed, number of resamples and writers."""
        return self.again_together([losses], models)[0]

    def again_together(
        self, tables: Sequence[Mapping[str, LevelLosses]], models: Sequence[str] | None = None
    ) -> list["Resamples"]:
        """Resample several selections of losses with one set of draws: see `resample_together`."""
        return resample_together(
            tables, models or self.models, resamples=self.resamples, seed=self.seed, clusters=self.clusters
        )

    def has_interval(self, levels: Iterable[str]) -> bool:
        """Every one of these levels has enough writers for an interval."""
        return all(self.levels[level].clusters >= MIN_CLUSTERS for level in levels)


def resample_levels(
    losses: Mapping[str, LevelLosses],
    models: Sequence[str],
    *,
    resamples: int,
    seed: int,
    clusters: Mapping[int, str] | None = None,
) -> Resamples:
    """Draw every level's clusters again, `resamples` times, with the same draws for all models.

    Args:
        clusters: the writer of each document number; a document it lacks is a cluster of its own.
    """
    return resample_together([losses], models, resamples=resamples, seed=seed, clusters=clusters)[0]


def resample_together(
    tables: Sequence[Mapping[str, LevelLosses]],
    models: Sequence[str],
    *,
    resamples: int,
    seed: int,
    clusters: Mapping[int, str] | None = None,
) -> list[Resamples]:
    """Resample several selections of the losses with one set of draws for all of them.

    Drawing takes most of the time; the sums of many selections are one matrix product.  The writers
    of all selections are drawn together, and each selection counts the writers of its own documents.
    """
    drawn: list[dict[str, LevelResamples]] = [{} for _ in tables]
    for level in dict.fromkeys(level for losses in tables for level in losses):
        numbers = [number for number, losses in enumerate(tables) if level in losses]
        of_level = _resample([tables[number][level] for number in numbers], resamples, seed, clusters or {})
        for number, level_resamples in zip(numbers, of_level, strict=True):
            drawn[number][level] = level_resamples
    return [
        Resamples(
            models=tuple(models),
            levels={level: levels[level] for level in losses},
            seed=seed,
            resamples=resamples,
            clusters=clusters or {},
        )
        for losses, levels in zip(tables, drawn, strict=True)
    ]


def _resample(
    tables: Sequence[LevelLosses], resamples: int, seed: int, clusters: Mapping[int, str]
) -> list[LevelResamples]:
    documents = np.unique(np.concatenate([table.documents for table in tables]))
    codes, count = _cluster_codes(documents, clusters)
    sums = [_sum_clusters(table, codes[np.searchsorted(documents, table.documents)], count) for table in tables]
    widths = np.cumsum([table_sums.sums_CK.shape[1] for table_sums in sums])[:-1]
    rng = generator_for(seed, "bootstrap", tables[0].level)
    drawn_RK = _draw_sums(np.concatenate([table_sums.sums_CK for table_sums in sums], axis=1), resamples, rng)
    parts = np.split(drawn_RK, widths, axis=1)
    return list(map(_describe, tables, sums, parts))


@dataclass(frozen=True, kw_only=True, slots=True)
class _ClusterSums:
    sums_CK: Floats  # noqa: N815
    """(C, K) scaled nats of every model, whole numbers; the last column is the tokens."""
    scale: float


def _sum_clusters(table: LevelLosses, codes: Ints, count: int) -> _ClusterSums:
    tokens_C: Floats = np.bincount(codes, table.tokens, count).astype(np.float64)
    nats_CM: Floats = np.stack([np.bincount(codes, column, count) for column in table.nats.T], axis=1)
    scale = _exact_scale(nats_CM)
    return _ClusterSums(sums_CK=np.concatenate([np.rint(nats_CM * scale), tokens_C[:, None]], axis=1), scale=scale)


def _describe(table: LevelLosses, sums: _ClusterSums, drawn_RK: Floats) -> LevelResamples:
    nats_CM, tokens_C = sums.sums_CK[:, :-1] / sums.scale, sums.sums_CK[:, -1]
    tokens = tokens_C.sum()
    estimates_M = sums.sums_CK[:, :-1].sum(axis=0) / sums.scale / tokens
    # A draw without any of the selection's writers is replaced by the estimate; with ten writers it is one in 20,000.
    is_empty_R1 = drawn_RK[:, -1:] == 0
    draws_RM = drawn_RK[:, :-1] / sums.scale / np.where(is_empty_R1, 1.0, drawn_RK[:, -1:])
    return LevelResamples(
        documents=len(table.documents),
        tokens=int(tokens),
        clusters=int(np.count_nonzero(tokens_C)),
        estimates=estimates_M,
        draws=np.where(is_empty_R1, estimates_M, draws_RM),
        influences=(nats_CM - estimates_M * tokens_C[:, None]) / tokens,
    )


def _cluster_codes(documents: Ints, clusters: Mapping[int, str]) -> tuple[Ints, int]:
    """Number the clusters in order of first appearance: a number per document, and the count."""
    numbers: dict[str | int, int] = {}
    codes = [numbers.setdefault(clusters.get(document, document), len(numbers)) for document in documents.tolist()]
    return np.array(codes, dtype=np.int64), len(numbers)


def _exact_scale(nats_CM: Floats) -> float:
    """The largest power of two by which any sum of C clusters stays a whole number below 2**52."""
    largest = max(float(np.abs(nats_CM).max()), 1.0) * len(nats_CM)
    return float(2.0 ** (51 - int(np.ceil(np.log2(largest)))))


def _draw_sums(sums_CK: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """(R, K): the column sums of C rows drawn with replacement, R times."""
    count = len(sums_CK)
    together = max(1, _COUNTS_AT_ONCE // count)
    drawn_RK = np.empty((resamples, sums_CK.shape[1]))
    for first in range(0, resamples, together):
        rows = min(together, resamples - first)
        chosen = rng.integers(0, count, size=(rows, count), dtype=np.int64)
        chosen += np.arange(0, rows * count, count)[:, None]
        times = np.bincount(chosen.ravel(), minlength=rows * count).reshape(rows, count)
        drawn_RK[first : first + rows] = times.astype(np.float64) @ sums_CK
    return drawn_RK
