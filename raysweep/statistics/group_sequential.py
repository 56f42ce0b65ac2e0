"""Looks at a claim after each seed: how much of the error rate each may spend, and p-values that allow for all of them.

A contrast after k of at most K seeds has the variance V + S/k: V from test documents and prompts, which are the same
at every look, S from one training.  Its information fraction is

    t = (V + S/K) / (V + S/k)

Cov(look j, look k) is the variance at the later look, so the z-values have the joint distribution of a
group-sequential trial, and Lan and DeMets' (1983) O'Brien–Fleming-type function says what may be spent up to a look:

    spent(t) = 2 − 2 Φ(z_(1 − a/2) / √t)         one-sided, a in all

The nominal level of the last look is found by integrating over all earlier looks without a crossing (Armitage,
McPherson and Rowe 1969).  A p-value p becomes the smallest a at which its look would have crossed.  These p-values
may be corrected by Holm and Bonferroni as any others (Maurer and Bretz 2013), and inverting them gives Jennison and
Turnbull's repeated confidence intervals, which hold the truth at all looks together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from scipy.special import chdtri, ndtr, ndtri

from raysweep.statistics.contrasts import Measured
from raysweep.statistics.loss_table import Floats

LEAST_SEEDS = 2
"""With one seed nothing is known of the variance between trainings, so the first look is at two."""
_DOUBT = 0.2
_ALPHAS = np.geomspace(1e-7, 0.5, 57)
_Z = np.linspace(-8.0, 8.0, 801)
_STEP = float(_Z[1] - _Z[0])
_LEAST_GAIN = 0.004
"""Looks whose information fractions differ by less are taken to differ by this much: the kernel must fit the grid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """A contrast at one look, and the nominal levels of this look."""

    seeds: int
    most_seeds: int
    time: float
    """Information fraction."""
    levels: Floats
    """(A,) nominal one-sided level for each total level of `_ALPHAS`."""

    def spent(self, alpha: float) -> float:
        """How much of a one-sided error rate was spent up to this look."""
        return float(spend(np.array([alpha]), self.time)[0])

    def adjust(self, p_value: float) -> float:
        """The smallest error rate at which a nominal p-value of this look is significant."""
        if p_value >= self.levels[-1]:
            return max(p_value, float(_ALPHAS[-1]))
        return float(np.exp(np.interp(np.log(p_value), np.log(self.levels), np.log(_ALPHAS))))

    def nominal(self, alpha: float) -> float:
        """The nominal level of this look where the error rate is `alpha` in all."""
        if alpha >= _ALPHAS[-1]:
            return alpha
        return float(np.exp(np.interp(np.log(alpha), np.log(_ALPHAS), np.log(self.levels))))


@dataclass(frozen=True, kw_only=True, slots=True)
class LookedAt(Measured):
    """A contrast whose limits and p-values allow for the looks before it."""

    look: Look

    def limit(self, share: float) -> float:
        """The limit of the repeated confidence interval."""
        tail = min(share, 1.0 - share)
        nominal = self.look.nominal(tail)
        return Measured.limit(self, nominal if share <= 0.5 else 1.0 - nominal)

    def p_not_above(self, value: float) -> float:
        """As of `Measured`, for all looks together."""
        return self.look.adjust(Measured.p_not_above(self, value))

    def p_not_below(self, value: float) -> float:
        """As of `Measured`, for all looks together."""
        return self.look.adjust(Measured.p_not_below(self, value))

    def power_of_more(self, value: float, *, above: bool, alpha: float) -> float | None:
        """The probability that all seeds show the contrast to lie on this side of `value`, if it is as measured.

        None at the last look.  Whether one stops for a low power changes no error rate, as only more is given up
        (stochastic curtailment: Lan, Simon and Halperin 1982).
        """
        fixed = self.document_variance + self.prompt_variance
        in_all = fixed + self.seed_variance * self.look.seeds / self.look.most_seeds
        if self.look.seeds >= self.look.most_seeds:
            return None
        away = (self.estimate - value) * (1.0 if above else -1.0) + float(ndtri(alpha)) * np.sqrt(in_all)
        moves = np.sqrt(max(fixed + self.seed_variance - in_all, 0.0))
        return float(ndtr(away / moves)) if moves > 0.0 else float(away > 0.0)


def look_at(measured: Sequence[Measured], most_seeds: int) -> list[LookedAt]:
    """The same contrast after 2, 3 … seeds, as looks one after another."""
    looks = []
    times: list[float] = []
    for place, contrast in enumerate(measured):
        seeds = LEAST_SEEDS + place
        times.append(_later(information_fraction(contrast, seeds, most_seeds), times, most_seeds - seeds))
        look = Look(seeds=seeds, most_seeds=most_seeds, time=times[-1], levels=_nominal_levels(tuple(times)))
        values = {field.name: getattr(contrast, field.name) for field in fields(Measured)}
        looks.append(LookedAt(**values, look=look))
    return looks


def information_fraction(contrast: Measured, seeds: int, most_seeds: int) -> float:
    """The share of the information, of that of all seeds, that a contrast with so many seeds has, at least.

    The variance between trainings is taken at its upper 80 % limit: with two seeds it is often far too small, and
    what is spent for that would be spent just where the p-value is small by chance.
    """
    fixed = contrast.document_variance + contrast.prompt_variance
    between = sum(
        moves.variance * moves.freedom / float(chdtri(moves.freedom, 1.0 - _DOUBT)) for moves in contrast.sources.seeds
    )
    total = fixed + between
    if total == 0.0:
        return seeds / most_seeds
    return (fixed + between * seeds / most_seeds) / total


def spend(alphas: Floats, time: float) -> Floats:
    """The O'Brien–Fleming-type spending function, one-sided."""
    spent: Floats = 2.0 * ndtr(ndtri(alphas / 2.0) / np.sqrt(time))
    return spent


def _later(time: float, before: Sequence[float], looks_left: int) -> float:
    """The fraction, at three digits, later than the looks before it and early enough for those to come."""
    if looks_left == 0:
        return 1.0
    least = before[-1] + _LEAST_GAIN if before else 0.0
    return round(max(least, min(time, 1.0 - _LEAST_GAIN * looks_left)), 3)


@lru_cache(maxsize=4096)
def _nominal_levels(times: tuple[float, ...]) -> Floats:
    """(A,) nominal level of the last of these looks, for each total level."""
    density_AZ = np.tile(np.exp(-(_Z**2) / 2.0) / np.sqrt(2.0 * np.pi), (len(_ALPHAS), 1))
    spent_A, boundary_A, before = np.zeros_like(_ALPHAS), np.full_like(_ALPHAS, np.inf), 0.0
    for time in times:
        if before:
            # What has not crossed: cells below the boundary, and a part of the one that it lies in.
            kept_AZ = np.clip((boundary_A[:, None] - _Z) / _STEP + 0.5, 0.0, 1.0)
            density_AZ = (density_AZ * kept_AZ) @ _kernel(before, time)
        now_A = spend(_ALPHAS, time)
        above_AZ = np.cumsum((density_AZ * _STEP)[:, ::-1], axis=1) - density_AZ[:, ::-1] * _STEP / 2.0
        boundary_A = np.array(
            [np.interp(share, row, _Z[::-1]) for share, row in zip(now_A - spent_A, above_AZ, strict=True)]
        )
        spent_A, before = now_A, time
    levels: Floats = ndtr(-boundary_A)
    # A boundary at the end of the grid is no smaller level than the one before.
    return np.maximum.accumulate(levels)


@lru_cache(maxsize=256)
def _kernel(before: float, now: float) -> Floats:
    """(Z, Z) density of a z-value, given the one at the look before, times the grid's step."""
    gain = now - before
    moves_ZZ = (_Z[None, :] * np.sqrt(now) - _Z[:, None] * np.sqrt(before)) / np.sqrt(gain)
    kernel: Floats = np.exp(-(moves_ZZ**2) / 2.0) / np.sqrt(2.0 * np.pi) * np.sqrt(now / gain) * _STEP
    return kernel
