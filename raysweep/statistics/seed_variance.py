"""How a contrast varies between trainings: several seeds as a second factor, crossed with learners.

Drawing 3 seeds out of 3 with replacement would understate their variance by a third and give 95 % intervals that
cover 75 %.  Instead, each resample is shifted by Student's t, scaled by the standard error of the seeds' mean.  Roles
trained with the same seeds are paired: a fine-tune and the general model it starts from.  One level's variance is
pooled with that of the same roles on the other levels, since 3 seeds alone give 2 degrees of freedom.

Every training is tested on the same learners, so (Cameron, Gelbach and Miller 2011)

    V(contrast) = V(learners) + V(trainings) − V(learners × trainings)

The interaction, learner effects that are specific to single trainings, makes both seeds and learners differ.
It is counted once, among the seeds: the learners' variance is reduced by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import sqrt

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from raysweep.seeding import generator_for
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.loss_table import Floats, Ints
from raysweep.statistics.weighted_parts import Part

_Z = np.linspace(-6.0, 6.0, 241)


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedVariance:
    """Variance of a contrast between trainings with different seeds."""

    count: int
    """Number of seeds."""
    freedom: float
    """Degrees of freedom of the variance: count − 1, or more if it is pooled over levels."""
    variance: float
    """Variance of the seeds' mean."""
    interaction: float = 0.0
    """The part of the variance that is due to single learners, and shrinks with more of them."""
    beside: float
    """Variance from the learners, to whose draws the shifts are added."""
    order: Ints
    """(R,) index of each resample's quantile among R evenly spread normal quantiles, which become Student's t."""

    @property
    def shifts(self) -> Floats:
        """(R,) Student's t times the standard error."""
        freedom = freedom_beside(self.freedom, self.variance, self.beside)
        return np.asarray((sqrt(self.variance) * _even_quantiles(len(self.order), freedom))[self.order])

    def with_more(self, times: float, seeds: int) -> "SeedVariance":
        """Extrapolate the same draws to `times` as many learners and more seeds."""
        count, interaction = self.count + seeds, self.interaction / times
        return replace(
            self,
            count=count,
            freedom=self.freedom * (count - 1) / (self.count - 1),
            variance=(self.variance - self.interaction + interaction) * self.count / count,
            interaction=interaction * self.count / count,
            beside=self.beside / times,
        )


def estimate_seed_variance(
    resamples: Resamples, parts: Sequence[Part], alike: Sequence[Sequence[Part]], document_variance: float
) -> tuple[tuple[SeedVariance, ...], float]:
    """Estimate the variance between trainings, per set of seeds, and the documents' variance that is left.

    Args:
        alike: contrasts of other trainings with the same variance between seeds, their roles in the same order; those
            whose roles were not trained with the same seeds are left out.
        document_variance: the contrast's variance by resampling documents.
    """
    components = []
    beside = document_variance
    of_parts = seeds_of(parts)
    several = [seeds for seeds in sorted(set(of_parts)) if len(seeds) > 1]
    # A level that lacks a training of one role would add the variance of the other role alone.
    contrasts = [parts, *(other for other in alike if seeds_of(other) == of_parts)] if several else []
    for seeds in several:
        terms = [_by_seed(resamples, contrast, seeds) for contrast in contrasts]
        by_seed_SL = np.stack([gains_S for gains_S, _ in terms], axis=1)
        observed = float(np.var(by_seed_SL, axis=0, ddof=1).mean())
        interaction, expected = terms[0][1], float(np.mean([by_learners for _, by_learners in terms]))
        # A level with fewer learners has a larger interaction; the rest of the variance is alike on all levels.
        variance = interaction + observed - expected if observed >= expected else interaction * observed / expected
        beside -= interaction / len(seeds)
        component = SeedVariance(
            count=len(seeds),
            freedom=pooled_freedom(by_seed_SL),
            variance=variance / len(seeds),
            interaction=min(interaction, variance) / len(seeds),
            beside=0.0,
            order=draw_order(resamples.resamples, resamples.seed, *seeds),
        )
        components.append(component)
    beside = max(beside, 0.0)
    return tuple(replace(component, beside=beside) for component in components), beside


@lru_cache(maxsize=64)
def draw_order(count: int, seed: int, *purpose: str | int) -> Ints:
    """Return a (count,) permutation drawn from the arguments; must not be modified.

    With values drawn at random, the far tails of a t with one or two degrees of freedom would depend on chance.
    """
    order: Ints = generator_for(seed, "seeds", *purpose).permutation(count)
    order.flags.writeable = False
    return order


@lru_cache(maxsize=4)
def _even_scores(count: int) -> Floats:
    """Return (count,) evenly spread normal quantiles, ascending; must not be modified."""
    scores: Floats = ndtri((np.arange(count) + 0.5) / count)
    scores.flags.writeable = False
    return scores


@lru_cache(maxsize=64)
def _even_quantiles(count: int, freedom: float) -> Floats:
    """Compute (count,) evenly spread quantiles of Student's t, ascending; must not be written to.

    They are cached because a contrast and its reverse have the same degrees of freedom, and interpolated in order
    because that takes a tenth of the time; the caller permutes them.
    """
    lower = np.asarray(stdtrit(freedom, ndtr(_Z[: len(_Z) // 2 + 1])), dtype=np.float64)
    quantiles: Floats = np.interp(_even_scores(count), _Z, np.append(lower, -lower[-2::-1]))
    quantiles.flags.writeable = False
    return quantiles


def freedom_beside(freedom: float, variance: float, beside: float) -> float:
    """Return the degrees of freedom of a t that is added to a nearly normal deviation with the variance `beside`.

    With its own f the sum is too wide where both matter (Fisher's solution of the Behrens-Fisher problem), and
    Satterthwaite's f (total / variance)² is too narrow for f of 1 and 2.  The exponent min(f / 5, 1) lies in between.
    It was chosen by simulation; BENCHMARKS.md gives the coverage of such intervals.
    """
    return freedom * (1.0 + beside / variance) ** min(freedom / 5.0, 1.0) if variance > 0.0 else freedom


def pooled_freedom(by_seed_SL: Floats) -> float:
    """Return the degrees of freedom of the mean variance of L contrasts over S seeds, which share the general model.

    (S − 1) (tr Σ)² / tr Σ² (Box 1954) is (S − 1) L / (1 + (L − 1) r²) if any two contrasts have the correlation r:
    between S − 1 (the contrasts move as one) and L (S − 1) (independent).
    """
    count, contrasts = by_seed_SL.shape
    if contrasts == 1:
        return float(count - 1)
    deviations_SL = by_seed_SL - by_seed_SL.mean(axis=0)
    squares, together = float(np.sum(deviations_SL**2)), float(np.sum(deviations_SL.sum(axis=1) ** 2))
    correlation = (together / squares - 1.0) / (contrasts - 1) if squares > 0.0 else 1.0
    return float((count - 1) * contrasts / (1.0 + (contrasts - 1) * min(max(correlation, 0.0), 1.0) ** 2))


def seeds_of(parts: Sequence[Part]) -> list[tuple[int, ...]]:
    """Return the seeds of each part; for contrasts of the same roles, in the roles' order."""
    return [part.seeds for part in parts]


def gains_by_seed(resamples: Resamples, parts: Sequence[Part], seeds: Sequence[int]) -> Floats:
    """Return the (S,) contribution of each seed's models to the contrast."""
    by_seed = np.zeros(len(seeds))
    for part in parts:
        if part.seeds == seeds:
            estimates = resamples.levels[part.level].estimates
            by_seed += part.weight * estimates[resamples.columns(part.names)]
    return by_seed


def influences_by_seed(resamples: Resamples, parts: Sequence[Part], seeds: Sequence[int]) -> Floats:
    """Return the (C, S) contribution of each learner to that of each seed's models."""
    influence_CS = np.zeros((resamples.clusters.count, len(seeds)))
    for part in parts:
        if part.seeds == seeds:
            drawn = resamples.levels[part.level]
            columns = resamples.columns(part.names)
            influence_CS[drawn.members] += part.weight * drawn.widening * drawn.influences[:, columns]
    return influence_CS


def _by_seed(resamples: Resamples, parts: Sequence[Part], seeds: tuple[int, ...]) -> tuple[Floats, float]:
    """Return (S,) `gains_by_seed`, and the variance between them that single learners explain, summed over learners.

    Cached, because several claims use a level both by itself and among those alike.
    """
    key = (seeds, *parts)
    if key not in resamples.by_seed:
        gains_S = gains_by_seed(resamples, parts, seeds)
        members = np.unique(np.concatenate([resamples.levels[part.level].members for part in parts]))
        influences_CS = influences_by_seed(resamples, parts, seeds)[members]
        resamples.by_seed[key] = gains_S, float(np.sum(np.var(influences_CS, axis=1, ddof=1)))
    return resamples.by_seed[key]
