"""The paired cluster bootstrap: every model's perplexities on other draws of the learners.

Documents of one learner resemble each other, so learners (clusters) are drawn, not documents; if the
learners are unknown, every document is a cluster of its own.  All models are scored on the same draw,
so what makes a draw hard or easy for all of them cancels in their ratios.

A learner is drawn once for all levels: who wrote on several levels is in all of them or in none, so
the covariance between levels is kept.  Levels that no learner connects are drawn separately (each
such group of levels is a stratum with its own generator).  Every selection of the documents (another
metric, a first language left out, leaky documents) is summed over the same draws.

The sums are exact.  Nats are rounded to a fine power of two (about 1e-7 nats per cluster), so that
no sum of a draw is ever rounded: the order of additions, and so the number of threads of a matrix
product, cannot change a bit of the result.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from raysweep.seeding import generator_for
from raysweep.statistics.loss_table import Floats, Ints, LevelLosses

MIN_CLUSTERS = 10
"""With fewer learners (or documents) a bootstrap interval means nothing."""
MIN_EFFECTIVE = 3.0
"""The same for effective learners, (Σ tokens)² / Σ tokens²: of 40 learners one of whom wrote half the text, 3.9."""
_COUNTS_AT_ONCE = 1 << 17
"""Counters that fit in a core's cache; a draw of more clusters is made alone."""


@dataclass(frozen=True, kw_only=True)
class LevelResamples:
    """The resamples of one level.  R resamples, C clusters with text on the level, M models."""

    documents: int
    tokens: int
    members: Ints
    """(C,) numbers of the level's clusters, as `Clusters` counts them."""
    shares: Floats
    """(C,) each cluster's share of the level's tokens."""
    estimates: Floats
    """(M,) nats per token (log perplexity) on the documents as they are."""
    draws: Floats
    """(R, M) the same on each resample; a model's are side by side in memory."""
    influences: Floats
    """(C, M) influence of each cluster on the estimate: its nats minus its tokens at the mean loss, over all tokens."""
    prompts: "GroupInfluences | None" = None
    """The same by writing prompt, and by learner and prompt; None if a document's prompt is unknown."""
    cells: "GroupInfluences | None" = None

    @property
    def clusters(self) -> int:
        """Number of clusters."""
        return len(self.members)

    @cached_property
    def effective(self) -> float:
        """Number of equally long clusters that would weigh as these do."""
        return effective_number(self.shares)

    @cached_property
    def widening(self) -> float:
        """By how much the spread of a mean is larger than that of the draws."""
        return widening_of(self.shares)

    @property
    def has_interval(self) -> bool:
        """There are enough clusters for an interval, and no few of them wrote nearly everything."""
        return self.clusters >= MIN_CLUSTERS and self.effective >= MIN_EFFECTIVE


@dataclass(frozen=True, kw_only=True)
class GroupInfluences:
    """The documents of one level in groups other than the drawn clusters.  G groups, M models."""

    members: Ints
    """(G,) numbers of the groups, the same on all levels."""
    shares: Floats
    """(G,) each group's share of the level's tokens."""
    influences: Floats
    """(G, M) as in `LevelResamples`."""

    @cached_property
    def effective(self) -> float:
        """As of `LevelResamples`."""
        return effective_number(self.shares)

    @cached_property
    def widening(self) -> float:
        """As of `LevelResamples`."""
        return widening_of(self.shares)

    @classmethod
    def of_codes(cls, codes_D: Ints, tokens_D: Floats, influences_DM: Floats) -> "GroupInfluences":
        """Sum documents by the code of their group."""
        members, places = np.unique(codes_D, return_inverse=True)
        shares = np.bincount(places, tokens_D) / tokens_D.sum()
        sums = [np.bincount(places, column, len(members)) for column in influences_DM.T]
        return cls(members=members.astype(np.int64), shares=shares, influences=np.stack(sums, axis=1))


def widening_of(shares: Floats) -> float:
    """By how much the spread of a mean is larger than that around the sample's own mean: √(n/(n−1)) for n equal shares.

    A sample varies less around its own mean than around the true one, and a large cluster pulls that mean to
    itself: √(Σw² / Σw²(1 − 2w + Σw²)), if all clusters vary alike.
    """
    squares = shares**2
    around = float(np.sum(squares * (1.0 - 2.0 * shares + squares.sum())))
    return float(np.sqrt(squares.sum() / around)) if around > 0.0 else 1.0


def effective_number(weights: Floats) -> float:
    """(Σw)² / Σw²: the count if all weights are equal, 1 if one weight is all."""
    return float(weights.sum() ** 2 / np.sum(weights**2)) if weights.any() else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Clusters:
    """The clusters of all test documents, numbered from 0, stratum after stratum."""

    learner_of: Mapping[int, str]
    """The learner of each document number, if known."""
    code_of: Mapping[str | int, int]
    """Number of each learner, and of each document without one."""
    strata: tuple[tuple[tuple[str, ...], int], ...]
    """Levels of each stratum, and how many clusters it has."""
    prompt_of: Mapping[int, int] = field(default_factory=dict)
    """Number of the writing prompt of each document number; empty if prompts are unknown."""

    @classmethod
    def of_levels(cls, losses: Mapping[str, LevelLosses], learner_of: Mapping[int, str]) -> "Clusters":
        """Number the clusters; levels that share a learner, however indirectly, are one stratum."""
        keys = {
            level: [learner_of.get(document, document) for document in of_level.documents.tolist()]
            for level, of_level in losses.items()
        }
        joined: list[tuple[list[str], set[str | int]]] = []
        for level, found in keys.items():
            met = [group for group in joined if not group[1].isdisjoint(found)]
            joined = [group for group in joined if group not in met]
            levels = [known for group in met for known in group[0]]
            joined.append(([*levels, level], set(found).union(*(group[1] for group in met))))
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
        """All clusters."""
        return len(self.code_of)

    def with_documents(self, documents: Iterable[int]) -> "Clusters":
        """The same clusters, and a further stratum for those that only these documents have."""
        code_of = dict(self.code_of)
        for document in documents:
            code_of.setdefault(self.learner_of.get(document, document), len(code_of))
        if (further := len(code_of) - self.count) == 0:
            return self
        return replace(self, code_of=code_of, strata=(*self.strata, (("further documents",), further)))

    def codes(self, documents: Ints) -> Ints:
        """(D,) the cluster of each document."""
        keys = (self.learner_of.get(document, document) for document in documents.tolist())
        return np.array([self.code_of[key] for key in keys], dtype=np.int64)

    def draw(self, resamples: int, seed: int) -> Iterator[tuple[slice, slice, Floats]]:
        """Parts of the draws: which resamples, which clusters, and how often each of them was drawn."""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Resamples:
    """The resamples of all levels, from which intervals and p-values are computed."""

    models: tuple[str, ...]
    levels: Mapping[str, LevelResamples]
    seed: int
    resamples: int
    clusters: Clusters

    def column(self, model: str) -> int:
        """Index of a model on the M axis."""
        return self.models.index(model)

    def again(self, losses: Mapping[str, LevelLosses], models: Sequence[str] | None = None) -> "Resamples":
        """Sum other losses over the same draws."""
        return self.again_together([losses], models)[0]

    def again_together(
        self, tables: Sequence[Mapping[str, LevelLosses]], models: Sequence[str] | None = None
    ) -> list["Resamples"]:
        """Sum several selections of losses over the same draws: drawing takes most of the time."""
        return _resample(tables, models or self.models, self.resamples, self.seed, self.clusters)

    def has_interval(self, levels: Iterable[str]) -> bool:
        """Every one of these levels has enough learners for an interval."""
        return all(self.levels[level].has_interval for level in levels)


def resample_levels(
    losses: Mapping[str, LevelLosses],
    models: Sequence[str],
    *,
    resamples: int,
    seed: int,
    clusters: Mapping[int, str] | None = None,
    prompts: Mapping[int, str] | None = None,
) -> Resamples:
    """Draw the clusters again, `resamples` times, with the same draws for all models and levels.

    Args:
        clusters: the learner of each document number; a document it lacks is a cluster of its own.
        prompts: the writing prompt of every document number.
    """
    codes = {name: code for code, name in enumerate(dict.fromkeys((prompts or {}).values()))}
    prompt_of = {document: codes[name] for document, name in (prompts or {}).items()}
    drawn = replace(Clusters.of_levels(losses, clusters or {}), prompt_of=prompt_of)
    return _resample([losses], models, resamples, seed, drawn)[0]


def _resample(
    tables: Sequence[Mapping[str, LevelLosses]], models: Sequence[str], resamples: int, seed: int, clusters: Clusters
) -> list[Resamples]:
    documents = [of_level.documents for losses in tables for of_level in losses.values()]
    clusters = clusters.with_documents(np.unique(np.concatenate(documents)).tolist() if documents else ())
    by_level: dict[str, list[tuple[int, _ClusterSums]]] = {}
    for number, losses in enumerate(tables):
        for level, of_level in losses.items():
            sums = _sum_clusters(of_level, clusters.codes(of_level.documents), clusters.count)
            by_level.setdefault(level, []).append((number, sums))
    matrices = {level: np.concatenate([sums.sums_CK for _, sums in found], axis=1) for level, found in by_level.items()}
    drawn = {level: np.zeros((resamples, matrix.shape[1])) for level, matrix in matrices.items()}
    # A level's rows alone are multiplied: most learners write on few of the levels.
    rows_of = {level: np.flatnonzero(matrix.any(axis=1)) for level, matrix in matrices.items()}
    for which, part, times in clusters.draw(resamples, seed):
        for level, rows in rows_of.items():
            inside = rows[(rows >= part.start) & (rows < part.stop)]
            if len(inside):
                drawn[level][which] += times[:, inside - part.start] @ matrices[level][inside]
    described: list[dict[str, LevelResamples]] = [{} for _ in tables]
    for level, found in by_level.items():
        widths = np.cumsum([sums.sums_CK.shape[1] for _, sums in found])[:-1]
        for (number, sums), part_RK in zip(found, np.split(drawn[level], widths, axis=1), strict=True):
            described[number][level] = _describe(tables[number][level], sums, part_RK, clusters)
    return [
        Resamples(
            models=tuple(models),
            levels={level: levels[level] for level in losses},
            seed=seed,
            resamples=resamples,
            clusters=clusters,
        )
        for losses, levels in zip(tables, described, strict=True)
    ]


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


def _describe(table: LevelLosses, sums: _ClusterSums, drawn_RK: Floats, clusters: Clusters) -> LevelResamples:
    nats_CM, tokens_C = sums.sums_CK[:, :-1] / sums.scale, sums.sums_CK[:, -1]
    tokens = tokens_C.sum()
    estimates_M = sums.sums_CK[:, :-1].sum(axis=0) / sums.scale / tokens
    # A draw without any of the selection's learners is replaced by the estimate; with ten learners it is one in 20,000.
    is_empty_R1 = drawn_RK[:, -1:] == 0
    draws_RM = drawn_RK[:, :-1] / sums.scale / np.where(is_empty_R1, 1.0, drawn_RK[:, -1:])
    members = np.flatnonzero(tokens_C)
    prompts, cells = _group_by_prompt(table, estimates_M, clusters)
    return LevelResamples(
        documents=len(table.documents),
        tokens=int(tokens),
        members=members,
        shares=tokens_C[members] / tokens,
        estimates=estimates_M,
        draws=np.asfortranarray(np.where(is_empty_R1, estimates_M, draws_RM)),
        influences=(nats_CM - estimates_M * tokens_C[:, None])[members] / tokens,
        prompts=prompts,
        cells=cells,
    )


def _group_by_prompt(
    table: LevelLosses, estimates_M: Floats, clusters: Clusters
) -> tuple[GroupInfluences, GroupInfluences] | tuple[None, None]:
    """Influences by prompt, and by learner and prompt."""
    prompts_D = [clusters.prompt_of.get(document, -1) for document in table.documents.tolist()]
    if not prompts_D or min(prompts_D) < 0:
        return None, None
    tokens_D = table.tokens.astype(np.float64)
    influences_DM = (table.nats - estimates_M * tokens_D[:, None]) / tokens_D.sum()
    codes_D = np.array(prompts_D, dtype=np.int64)
    cells_D = clusters.codes(table.documents) * (max(prompts_D) + 1) + codes_D
    return (
        GroupInfluences.of_codes(codes_D, tokens_D, influences_DM),
        GroupInfluences.of_codes(cells_D, tokens_D, influences_DM),
    )


def _exact_scale(nats_CM: Floats) -> float:
    """The largest power of two by which any sum of C clusters stays a whole number below 2**52."""
    largest = max(float(np.abs(nats_CM).max()), 1.0) * len(nats_CM)
    return float(2.0 ** (51 - int(np.ceil(np.log2(largest)))))
