"""Computes a contrast of log perplexities, its interval and its p-values, from one set of resamples.

`general minus specialised on B2` is a contrast; so is its mean over five levels, and so is the gap
of a model between its own level and the others.  exp of a contrast is a ratio of perplexities.

Intervals are BCa (Efron 1987: corrected for bias and skewness) with the percentiles widened for
few clusters (Hesterberg 2015: Student's t, and each level's draws spread by √(n/(n−1))).  p-values
invert the same interval, so an interval and its p-value always agree.

Several seeds add a second source of variance, between trainings (`seed_variance.py`), and writing prompts a third
(`prompt_clusters.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import sqrt

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from raysweep.config.scored_metrics import perplexity
from raysweep.config.section import PositiveFloat, Section
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.group_influences import effective_number
from raysweep.statistics.loss_table import Floats
from raysweep.statistics.prompt_clusters import PromptVariance, estimate_prompt_variance
from raysweep.statistics.seed_variance import SeedVariance, estimate_seed_variance
from raysweep.statistics.weighted_parts import Part, weigh_folds, weigh_models, weighted_sum, welch

TIE = 1e-9
"""Nats per token within which values count as equal: sums over the seeds of a model and its copy differ by rounding."""


class Estimate(Section):
    """A perplexity, or a ratio of perplexities, with the limits of its interval; None with too few writers."""

    value: PositiveFloat
    low: PositiveFloat | None
    high: PositiveFloat | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """The sources of a contrast's variance, kept separate: documents, trainings and prompts."""

    deviations: Floats
    """(R,) deviations from the estimate caused by resampling documents."""
    document_variance: float
    """Document variance without the interaction of learners and trainings, which is counted in `seeds`."""
    cubes: float
    """Sum of the cubes of the clusters' influences."""
    freedom: float
    """Degrees of freedom of the document variance."""
    seeds: tuple[SeedVariance, ...]
    documents: int
    clusters: int
    """Number of distinct clusters on all levels together."""
    effective: float
    """Number of equally long clusters that would carry the same information."""
    largest_shift: float
    """Change of the estimate when the cluster that changes it most is left out."""
    prompts: PromptVariance | None = None
    """None if prompts are unknown, or too few."""

    def with_more(self, times: float, seeds: int) -> "Sources":
        """Extrapolate to `times` as many documents of the same kind, and `seeds` more trainings of everything."""
        return Sources(
            deviations=self.deviations / sqrt(times),
            document_variance=self.document_variance / times,
            cubes=self.cubes / times**2,
            freedom=self.freedom * times,
            seeds=tuple(component.with_more(times, seeds) for component in self.seeds),
            documents=round(self.documents * times),
            clusters=round(self.clusters * times),
            effective=self.effective * times,
            largest_shift=self.largest_shift / times,
            prompts=self.prompts,
        )

    def negated(self) -> "Sources":
        """Return the sources of the contrast with the opposite sign."""
        return replace(self, deviations=-self.deviations, cubes=-self.cubes, largest_shift=-self.largest_shift)

    def deviations_with_seeds(self) -> Floats:
        """Return the (R,) deviations from the estimate, in the order of the resamples."""
        deviations = self.deviations
        for component in self.seeds:
            deviations = deviations + component.shifts
        return deviations if self.prompts is None else deviations + self.prompts.shifts

    def around(self, estimate: float) -> "Measured":
        """Combine these sources with an estimate."""
        seed_variance = sum(component.variance for component in self.seeds)
        prompt_variance = 0.0 if self.prompts is None else self.prompts.variance
        total = self.document_variance + seed_variance + prompt_variance
        draws = estimate + self.deviations_with_seeds()
        return Measured(
            estimate=estimate,
            draws=draws,
            document_variance=self.document_variance,
            seed_variance=seed_variance,
            prompt_variance=prompt_variance,
            documents=self.documents,
            clusters=self.clusters,
            effective=self.effective,
            freedom=self.freedom,
            acceleration=self.cubes / (6.0 * total**1.5) if total > TIE**2 else 0.0,
            bias=_bias(draws, estimate),
            sources=self,
        )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A contrast with its uncertainty, in nats per token."""

    estimate: float
    draws: Floats
    """(R,) in the order of the resamples until `limit` is first called, which partitions them in place."""
    document_variance: float
    seed_variance: float
    """0 with one seed, for which it is unknown."""
    prompt_variance: float
    """0 if prompts are unknown or too few."""
    documents: int
    clusters: int
    effective: float
    freedom: float
    """Degrees of freedom of the document variance: effective clusters − 1 on each level, combined over levels by
    Welch and Satterthwaite, and at most effective clusters of the whole contrast − 1."""
    acceleration: float
    bias: float
    """z0 of BCa."""
    sources: "Sources"
    """The sources from which the draws were computed."""

    @property
    def prompts(self) -> int:
        """Number of writing prompts that the interval generalises over; 0 if it holds only for these prompts."""
        return 0 if self.sources.prompts is None else self.sources.prompts.prompts

    def limit(self, share: float) -> float:
        """Return the value below which the true one lies with probability `share`, in (0, 1)."""
        widened = widen(share, self.freedom)
        moved = self.bias + widened
        percentile = float(ndtr(self.bias + moved / (1.0 - self.acceleration * moved)))
        return quantile(self._sorted, percentile)

    @cached_property
    def _sorted(self) -> Floats:
        """The draws, partitioned in place when first needed: most contrasts are asked for p-values alone."""
        return sort_ends(self.draws)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the central, equal-tailed interval."""
        tail = (1.0 - confidence) / 2.0
        return self.limit(tail), self.limit(1.0 - tail)

    def ratio(self, confidence: float | None) -> Estimate:
        """Return exp of the contrast and of its interval; without limits if `confidence` is None."""
        low, high = (None, None) if confidence is None else map(perplexity, self.interval(confidence))
        return Estimate(value=perplexity(self.estimate), low=low, high=high)

    def p_not_above(self, value: float) -> float:
        """Return the one-sided p-value against 'the true contrast is at most `value`'."""
        return self._p_value(int(np.count_nonzero(self.draws <= value + TIE)), 1.0)

    def p_not_below(self, value: float) -> float:
        """Return the one-sided p-value against 'the true contrast is at least `value`'."""
        return self._p_value(int(np.count_nonzero(self.draws >= value - TIE)), -1.0)

    def least_p(self) -> float:
        """Return the smallest p-value that is possible on both sides with this many resamples and learners."""
        return max(self._p_value(0, 1.0), self._p_value(0, -1.0))

    def with_more(self, times: float, seeds: int) -> "Measured":
        """Extrapolate the measurement to more documents and seeds, assuming the same estimate."""
        return self.sources.with_more(times, seeds).around(self.estimate)

    def _p_value(self, against: int, side: float) -> float:
        """Invert `limit`, from the number of draws that do not support the claim, ties included.

        (b + 1) of (R + 1), because the estimate itself is one of the possible draws (Phipson and Smyth
        2010), so no p-value is below 1 in R + 1.  `side` is 1 if the claim is 'above', −1 if 'below'.
        """
        resamples = len(self.draws)
        if against == resamples:
            return 1.0
        away = side * float(ndtri((against + 1) / (resamples + 1))) - self.bias
        below = narrow(away / (1.0 + self.acceleration * away) - self.bias, self.freedom)
        return max(below if side > 0.0 else 1.0 - below, 1.0 / (resamples + 1))


def measure_once(
    resamples: Resamples, parts: Sequence[Part], alike: Sequence[Sequence[Part]] = (), *, is_negated: bool = False
) -> Measured:
    """Return `measure`, or that of the contrast with the opposite sign, cached on these resamples."""
    key = (is_negated, *map(tuple, (parts, *alike)))
    if key not in resamples.measured:
        if is_negated:
            opposite = measure_once(resamples, parts, alike)
            resamples.measured[key] = opposite.sources.negated().around(-opposite.estimate)
        else:
            resamples.measured[key] = measure(resamples, parts, alike)
    measured: Measured = resamples.measured[key]
    return measured


def measure(resamples: Resamples, parts: Sequence[Part], alike: Sequence[Sequence[Part]] = ()) -> Measured:
    """Evaluate a contrast on the documents and on every resample.

    Every level of `parts`, and every model, must be in `resamples`.

    Args:
        alike: contrasts of other trainings with the same variance between seeds, usually the same roles on other
            levels: the variance between seeds is averaged over them, with more degrees of freedom.
    """
    estimate, deviations = 0.0, np.zeros(resamples.resamples)
    influence_C, carried_C, moves_C = (np.zeros(resamples.clusters.count) for _ in range(3))
    variances, freedoms = [], []
    levels = dict.fromkeys(part.level for part in parts)
    for level in levels:
        drawn = resamples.levels[level]
        on_level = [part for part in parts if part.level == level]
        weights_F = weigh_folds(resamples, on_level)
        on_documents = float(weighted_sum(drawn.fold_estimates, weights_F))
        estimate += on_documents
        deviations += drawn.widening * (weighted_sum(drawn.draws, weights_F) - on_documents)
        influences = weighted_sum(drawn.fold_influences, weights_F)
        influence_C[drawn.members] += drawn.widening * influences
        carried_C[drawn.members] += drawn.shares * sum(abs(part.weight) for part in on_level)
        # Without the cluster, the level's mean moves by its influence divided by the share that is left.
        moves_C[drawn.members] -= influences / np.maximum(1.0 - drawn.shares, 1e-9)
        variances.append(float(np.sum((drawn.widening * influences) ** 2)))
        freedoms.append(max(drawn.effective - 1.0, 1.0))
    effective = effective_number(carried_C)
    freedom = min(welch(variances, freedoms), max(effective - 1.0, 1.0))
    variance = float(np.sum(influence_C**2))
    seeds, beside = estimate_seed_variance(resamples, parts, alike, variance)
    kept = beside / variance if seeds and variance > 0.0 else 1.0
    sources = Sources(
        deviations=deviations * sqrt(kept) if seeds else deviations,
        document_variance=beside,
        cubes=float(np.sum(influence_C**3)) * kept**1.5,
        freedom=freedom,
        seeds=seeds,
        prompts=estimate_prompt_variance(resamples, parts),
        documents=sum(resamples.levels[level].documents for level in levels),
        clusters=int(np.count_nonzero(carried_C)),
        effective=effective,
        largest_shift=float(moves_C[np.argmax(np.abs(moves_C))]),
    )
    return sources.around(estimate)


def learner_influences(resamples: Resamples, parts: Sequence[Part]) -> Floats:
    """Return the (C,) contribution of each learner to the contrast."""
    influence_C = np.zeros(resamples.clusters.count)
    for level in dict.fromkeys(part.level for part in parts):
        drawn = resamples.levels[level]
        weights_M = weigh_models(resamples, [part for part in parts if part.level == level])
        influence_C[drawn.members] += drawn.widening * weighted_sum(drawn.influences, weights_M)
    return influence_C


def estimate_ratio(resamples: Resamples, parts: Sequence[Part], confidence: float) -> Estimate:
    """Return exp of a contrast, with an interval if every level has enough writers."""
    has_interval = resamples.has_interval(part.level for part in parts)
    return measure(resamples, parts).ratio(confidence if has_interval else None)


def sort_ends(values: Floats) -> Floats:
    """Sort the lowest and the highest sixteenth of the values in place, where nearly all limits lie.

    Sorting all of them takes twice as long.
    """
    ends = len(values) // 16
    values.partition((ends, len(values) - 1 - ends))
    values[:ends].sort()
    values[len(values) - ends :].sort()
    return values


def quantile(values: Floats, share: float) -> float:
    """Compute `np.quantile`, to the bit, of values from `sort_ends`."""
    place = share * (len(values) - 1)
    below = min(int(place), len(values) - 1)
    above = min(below + 1, len(values) - 1)
    if above >= len(values) // 16 and below < len(values) - len(values) // 16:
        values = np.partition(values, (below, above))
    lower, upper, part = float(values[below]), float(values[above]), place - below
    # Between two values, numpy interpolates from the nearer one.
    return lower + (upper - lower) * part if part < 0.5 else upper - (upper - lower) * (1.0 - part)


def _bias(draws: Floats, estimate: float) -> float:
    lower = int(np.count_nonzero(draws < estimate - TIE))
    upper = int(np.count_nonzero(draws <= estimate + TIE))
    # Draws equal to the estimate count half on each side; a contrast of a model with itself has only those.
    return float(ndtri(((lower + upper) / 2 + 1) / (len(draws) + 2)))


def widen(share: float, freedom: float) -> float:
    """Return the quantile of Student's t for `share`, which replaces the normal quantile."""
    return float(stdtrit(freedom, share))


def narrow(quantile: float, freedom: float) -> float:
    """Invert `widen`: return the share with this quantile."""
    return float(stdtr(freedom, quantile))
