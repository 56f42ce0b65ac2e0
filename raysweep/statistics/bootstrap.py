"""The paired cluster bootstrap: every model's perplexities on resampled learners.

Documents of one learner resemble each other, so learners (clusters) are resampled, not documents; if the
learners are unknown, every document is a cluster.  All models are scored on the same draw,
so whatever makes a draw hard or easy for all of them cancels in their ratios.

A learner is drawn once for all levels: a learner who wrote on several levels is in all of them or in none, so
the covariance between levels is preserved.  Levels that share no learner are drawn separately (each
such group of levels is a stratum with its own generator).  Every selection of the documents (another
metric, a first language left out, leaky documents) is summed over the same draws.

The sums are exact.  Nats are rounded to a fine power of two (about 1e-7 nats per cluster), so that
no sum of a draw is ever rounded: the order of additions, and hence the number of threads of a matrix
product, cannot change a bit of the result.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from raysweep.statistics.group_influences import GroupInfluences
from raysweep.statistics.learner_clusters import Clusters
from raysweep.statistics.loss_table import Floats, Ints, LevelLosses

MIN_CLUSTERS = 10
"""With fewer learners (or documents) a bootstrap interval is meaningless."""
MIN_EFFECTIVE = 3.0
"""The same for effective learners, (Σ tokens)² / Σ tokens²; 3.9 for 40 learners, one of whom wrote half the text."""


@dataclass(frozen=True, kw_only=True)
class LevelResamples(GroupInfluences):
    """The resamples of one level, and its documents by cluster.

    R resamples, C clusters with text on the level (the groups, numbered by `Clusters`), M models, F folds of models.
    """

    documents: int
    tokens: int
    estimates: Floats
    """(M,) nats per token (log perplexity) on the original documents."""
    fold_estimates: Floats
    """(F,) mean of the estimates over the models of a fold."""
    draws: Floats
    """(R, F) the same on each resample; the draws of a fold are contiguous in memory."""
    prompts: GroupInfluences | None = None
    """Influences by writing prompt, and (`cells`) by learner and prompt; None if a document's prompt is unknown."""
    cells: GroupInfluences | None = None

    @property
    def clusters(self) -> int:
        return len(self.members)

    @property
    def has_interval(self) -> bool:
        """Whether there are enough clusters for an interval, and the text is not nearly all by a few of them."""
        return self.clusters >= MIN_CLUSTERS and self.effective >= MIN_EFFECTIVE


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """The resamples of all levels, from which intervals and p-values are computed."""

    models: tuple[str, ...]
    levels: Mapping[str, LevelResamples]
    seed: int
    resamples: int
    clusters: Clusters
    folds: tuple[tuple[str, ...], ...]
    """Sets of models of which only the mean is drawn, such as the seeds of one entry; each model is in one fold."""

    @cached_property
    def fold_of(self) -> Ints:
        """(M,) index of each model's fold."""
        return _fold_of(self.models, self.folds)

    def fold_shares(self, models: tuple[str, ...]) -> Floats:
        """Return the (F,) share of each fold in the mean over these models, which must make up complete folds."""
        if models not in self._sets_of_shares:
            counts_F = np.bincount(self.fold_of[self.columns(models)], minlength=len(self.folds))
            assert (counts_F[counts_F > 0] == np.bincount(self.fold_of)[counts_F > 0]).all(), (
                "a contrast parts the models of a fold"
            )
            self._sets_of_shares[models] = counts_F / len(models)
        return self._sets_of_shares[models]

    @cached_property
    def _sets_of_shares(self) -> dict[tuple[str, ...], Floats]:
        return {}

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {model: column for column, model in enumerate(self.models)}

    def column(self, model: str) -> int:
        """Index of a model on the M axis."""
        return self._columns[model]

    def columns(self, models: tuple[str, ...]) -> Ints:
        """Indices of models on the M axis."""
        if models not in self._sets_of_columns:
            self._sets_of_columns[models] = np.array([self.column(model) for model in models], dtype=np.int64)
        return self._sets_of_columns[models]

    @cached_property
    def _sets_of_columns(self) -> dict[tuple[str, ...], Ints]:
        return {}

    @cached_property
    def by_seed(self) -> dict[tuple[Any, ...], tuple[Floats, float]]:
        """Cache of `seed_variance.py`, by contrast."""
        return {}

    @cached_property
    def measured(self) -> dict[tuple[Any, ...], Any]:
        """Cache of `contrasts.py`, since claims compare the same roles repeatedly."""
        return {}

    def again(self, losses: Mapping[str, LevelLosses], models: Sequence[str] | None = None) -> "Resamples":
        """Sum other losses over the same draws."""
        return self.again_together([losses], models)[0]

    def again_together(
        self, tables: Sequence[Mapping[str, LevelLosses]], models: Sequence[str] | None = None
    ) -> list["Resamples"]:
        """Sum several selections of losses over the same draws in one pass, since drawing takes most of the time."""
        folds = self.folds if models is None else ()
        return _resample(tables, models or self.models, self.resamples, self.seed, self.clusters, folds)

    def has_interval(self, levels: Iterable[str]) -> bool:
        """Return whether each of these levels has enough learners for an interval."""
        return all(self.levels[level].has_interval for level in levels)


def resample_levels(
    losses: Mapping[str, LevelLosses],
    models: Sequence[str],
    *,
    resamples: int,
    seed: int,
    clusters: Mapping[int, str] | None = None,
    prompts: Mapping[int, str] | None = None,
    folds: Sequence[Collection[str]] = (),
) -> Resamples:
    """Resample the clusters `resamples` times, with the same draws for all models and levels.

    Args:
        clusters: learner of each document number; a document that is not in it is a cluster of its own.
        prompts: writing prompt of every document number.
        folds: sets of models to which every contrast gives equal weights, so that only their mean is drawn.
    """
    codes = {name: code for code, name in enumerate(dict.fromkeys((prompts or {}).values()))}
    prompt_of = {document: codes[name] for document, name in (prompts or {}).items()}
    drawn = replace(Clusters.of_levels(losses, clusters or {}), prompt_of=prompt_of, prompts=len(codes))
    return _resample([losses], models, resamples, seed, drawn, folds)[0]


def _resample(
    tables: Sequence[Mapping[str, LevelLosses]],
    models: Sequence[str],
    resamples: int,
    seed: int,
    clusters: Clusters,
    folds: Sequence[Collection[str]],
) -> list[Resamples]:
    named = {name: frozenset(fold) for fold in folds for name in fold}
    in_order = dict.fromkeys(named.get(model, frozenset((model,))) for model in models)
    all_folds = tuple(tuple(model for model in models if model in fold) for fold in in_order)
    fold_of = _fold_of(models, all_folds)
    documents = [of_level.documents for losses in tables for of_level in losses.values()]
    clusters = clusters.with_documents(np.unique(np.concatenate(documents)).tolist() if documents else ())
    by_level: dict[str, list[tuple[int, _ClusterSums]]] = {}
    for number, losses in enumerate(tables):
        for level, of_level in losses.items():
            sums = _sum_clusters(of_level, clusters.codes(of_level.documents), clusters.count, fold_of)
            by_level.setdefault(level, []).append((number, sums))
    matrices = {
        level: np.concatenate([sums.folded_AK for _, sums in found], axis=1) for level, found in by_level.items()
    }
    # A column is contiguous in memory, and becomes a fold's draws in place.
    drawn = {level: np.zeros((resamples, matrix.shape[1]), order="F") for level, matrix in matrices.items()}
    # Multiply only a level's rows, since most learners write on few of the levels.
    rows_of = {
        level: np.unique(np.concatenate([sums.members for _, sums in found])) for level, found in by_level.items()
    }
    for which, part, times in clusters.draw(resamples, seed):
        for level, rows in rows_of.items():
            inside = rows[(rows >= part.start) & (rows < part.stop)]
            if len(inside):
                # Transposed so that both sides of the sum have the same memory order.
                drawn[level].T[:, which] += matrices[level][inside].T @ times[:, inside - part.start].T
    described: list[dict[str, LevelResamples]] = [{} for _ in tables]
    for level, found in by_level.items():
        widths = np.cumsum([sums.folded_AK.shape[1] for _, sums in found])[:-1]
        for (number, sums), part_RK in zip(found, np.split(drawn[level], widths, axis=1), strict=True):
            described[number][level] = _describe(tables[number][level], sums, part_RK, clusters, fold_of)
    return [
        Resamples(
            models=tuple(models),
            levels={level: levels[level] for level in losses},
            seed=seed,
            resamples=resamples,
            clusters=clusters,
            folds=all_folds,
        )
        for losses, levels in zip(tables, described, strict=True)
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _ClusterSums:
    members: Ints
    """(C,) numbers of the clusters that have a document."""
    nats_CM: Floats  # noqa: N815
    """(C, M) scaled nats of every model, as whole numbers."""
    tokens: Floats
    """(C,)"""
    folded_AK: Floats  # noqa: N815
    """(A, K) for all clusters, sums of nats over each fold; the last column is the tokens."""
    scale: float


def _fold_of(models: Sequence[str], folds: Sequence[Sequence[str]]) -> Ints:
    number = {model: number for number, fold in enumerate(folds) for model in fold}
    return np.array([number[model] for model in models], dtype=np.int64)


def _sum_clusters(table: LevelLosses, codes: Ints, count: int, fold_of: Ints) -> _ClusterSums:
    order = np.argsort(codes, kind="stable")
    members, starts = np.unique(codes[order], return_index=True)
    tokens_C = np.add.reduceat(table.tokens[order].astype(np.float64), starts)
    nats_CM = np.add.reduceat(table.nats[order, : len(fold_of)], starts, axis=0)
    scale = _exact_scale(nats_CM, count, int(np.bincount(fold_of).max()))
    nats_CM = np.rint(nats_CM * scale)
    folded_AK = np.zeros((count, int(fold_of.max()) + 2))
    folded_AK[members] = np.concatenate([_fold_sums(nats_CM, fold_of), tokens_C[:, None]], axis=1)
    return _ClusterSums(members=members, nats_CM=nats_CM, tokens=tokens_C, folded_AK=folded_AK, scale=scale)


def _fold_sums(values: Floats, fold_of: Ints) -> Floats:
    """Return the (…, F) sums of (…, M) values over the models of each fold."""
    by_fold = np.argsort(fold_of, kind="stable")
    sums: Floats = np.add.reduceat(values[:, by_fold], np.unique(fold_of[by_fold], return_index=True)[1], axis=1)
    return sums


def _fold_means(values: Floats, fold_of: Ints) -> Floats:
    return _fold_sums(values, fold_of) / np.bincount(fold_of)


def _describe(
    table: LevelLosses, sums: _ClusterSums, drawn_RK: Floats, clusters: Clusters, fold_of: Ints
) -> LevelResamples:
    """Describe a level's resamples; modifies `drawn_RK`."""
    nats_CM, tokens_C = sums.nats_CM / sums.scale, sums.tokens
    tokens, sizes_F = tokens_C.sum(), np.bincount(fold_of)
    estimates_M = sums.nats_CM.sum(axis=0) / sums.scale / tokens
    has_text = tokens_C > 0.0
    influences_CM = (nats_CM - estimates_M * tokens_C[:, None])[has_text] / tokens
    estimates_F = np.bincount(fold_of, estimates_M) / sizes_F
    draws_RF, tokens_R = drawn_RK[:, :-1], drawn_RK[:, -1]
    # A draw without any of the selection's learners is replaced by the estimate; with ten learners that is one in
    # 20,000.
    is_empty_R = tokens_R == 0
    draws_RF /= sums.scale
    draws_RF /= np.where(is_empty_R, 1.0, tokens_R)[:, None]
    draws_RF /= sizes_F
    if is_empty_R.any():
        draws_RF[is_empty_R] = estimates_F
    prompts, cells = _group_by_prompt(table, estimates_M, clusters, fold_of)
    return LevelResamples(
        documents=len(table.documents),
        tokens=int(tokens),
        members=sums.members[has_text],
        shares=tokens_C[has_text] / tokens,
        estimates=estimates_M,
        fold_estimates=estimates_F,
        draws=draws_RF,
        influences=influences_CM,
        fold_influences=_fold_means(influences_CM, fold_of),
        prompts=prompts,
        cells=cells,
    )


def _group_by_prompt(
    table: LevelLosses, estimates_M: Floats, clusters: Clusters, fold_of: Ints
) -> tuple[GroupInfluences, GroupInfluences] | tuple[None, None]:
    """Compute influences by prompt, and by learner and prompt; (None, None) if a document's prompt is unknown."""
    prompts_D = [clusters.prompt_of.get(document, -1) for document in table.documents.tolist()]
    if not prompts_D or min(prompts_D) < 0:
        return None, None
    tokens_D = table.tokens.astype(np.float64)
    influences_DM = (table.nats[:, : len(fold_of)] - estimates_M * tokens_D[:, None]) / tokens_D.sum()
    codes_D = np.array(prompts_D, dtype=np.int64)
    cells_D = clusters.codes(table.documents) * clusters.prompts + codes_D
    fold = partial(_fold_means, fold_of=fold_of)
    return (
        GroupInfluences.of_codes(codes_D, tokens_D, influences_DM, fold),
        GroupInfluences.of_codes(cells_D, tokens_D, influences_DM, fold),
    )


def _exact_scale(nats_CM: Floats, clusters: int, models: int) -> float:
    """Return the largest power of two that scales sums over all clusters and `models` to integers below 2**52."""
    largest = max(float(np.abs(nats_CM).max()), 1.0) * clusters * models
    return float(2.0 ** (51 - int(np.ceil(np.log2(largest)))))
