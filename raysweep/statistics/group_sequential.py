"""Looks at a claim after each seed: how much of the error rate each may spend, and p-values that allow for all of them.

A contrast after k of at most K seeds has the variance V + S/k: V from test documents and prompts, which are the same
at every look, S from one training.  The z-values of two looks j < k correlate by

    √((V + S/k) / (V + S/j)),    at least √(j/k), which is reached where seeds alone vary (V = 0)

The looks are planned for that least correlation, the one of a group-sequential trial with the information fractions
t = k/K (Lan and DeMets 1983): whatever V and S are, the looks then cross together at most as often (Slepian 1962).
So the plan needs no estimate of S, which so few seeds tell poorly; only the p-value of each look does, and there
Student's t allows for it.  Up to a look may be spent (Kim and DeMets 1987, exponent 1)

    spent(t) = a t                               one-sided, a in all

which leaves more to early looks than O'Brien and Fleming do: with two or three seeds Student's t is so wide that
their looks could not decide anything.  The nominal level of a look is found by integrating over all earlier looks
without a crossing (Armitage, McPherson and Rowe 1969).  A p-value p becomes the smallest a at which its look would
have crossed.  These p-values may be corrected by Holm and Bonferroni as any others (Maurer and Bretz 2013), and
inverting them gives Jennison and Turnbull's repeated confidence intervals, which hold the truth at all looks together.

The integration is for normal values.  With Student's t of 1, 2, 3 and 4 degrees of freedom and no variance but that
between trainings, five seeds at 2.5 % err in 3.0 %.  The nominal levels add up to 4.0 %: one side errs at most so
often, however the looks depend on each other, provided that the p-value of each look is exact.  The bootstrap's is not;
with it at most `MOST_MEASURED_ERROR` of 5,000 simulated experiments erred (BENCHMARKS.md, sequential seeds).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from raysweep.statistics.contrasts import Measured
from raysweep.statistics.loss_table import Floats

LEAST_SEEDS = 2
"""With one seed the variance between trainings is unknown, so the first look is at two."""
MOST_MEASURED_ERROR = 0.038
"""Largest share of experiments with an error on one side of a claim, over all cases in BENCHMARKS.md."""
_ALPHAS = np.geomspace(1e-7, 0.5, 57)
_Z = np.linspace(-8.0, 8.0, 801)
_STEP = float(_Z[1] - _Z[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """A contrast's place in the sequence of looks, and the nominal levels of this look."""

    seeds: int
    most_seeds: int

    @property
    def time(self) -> float:
        """Planned information fraction of the look."""
        return self.seeds / self.most_seeds

    @property
    def levels(self) -> Floats:
        """(A,) nominal one-sided level for each total level of `_ALPHAS`."""
        return _nominal_levels(self.seeds, self.most_seeds)

    def spent(self, alpha: float) -> float:
        """Return how much of a one-sided error rate is spent up to this look."""
        return float(spend(np.array([alpha]), self.time)[0])

    def adjust(self, p_value: float) -> float:
        """Return the smallest error rate at which a nominal p-value of this look is significant."""
        if p_value >= self.levels[-1]:
            return max(p_value, float(_ALPHAS[-1]))
        return float(np.exp(np.interp(np.log(p_value), np.log(self.levels), np.log(_ALPHAS))))

    def nominal(self, alpha: float) -> float:
        """Return the nominal level of this look for a total error rate `alpha`."""
        if alpha >= _ALPHAS[-1]:
            return alpha
        return float(np.exp(np.interp(np.log(alpha), np.log(_ALPHAS), np.log(self.levels))))


@dataclass(frozen=True, kw_only=True)
class LookedAt(Measured):
    """A contrast whose limits and p-values account for the looks before it."""

    look: Look

    def limit(self, share: float) -> float:
        """Return the limit of the repeated confidence interval."""
        tail = min(share, 1.0 - share)
        nominal = self.look.nominal(tail)
        return Measured.limit(self, nominal if share <= 0.5 else 1.0 - nominal)

    def p_not_above(self, value: float) -> float:
        """Like `Measured.p_not_above`, over all looks together."""
        return self.look.adjust(Measured.p_not_above(self, value))

    def p_not_below(self, value: float) -> float:
        """Like `Measured.p_not_below`, over all looks together."""
        return self.look.adjust(Measured.p_not_below(self, value))

    def power_of_more(self, value: float, *, above: bool, alpha: float) -> float | None:
        """Return the probability that all seeds show the contrast on this side of `value`, if it is as measured.

        None at the last look.  Stopping because of low power raises no error rate, since it only gives up more claims
        (stochastic curtailment: Lan, Simon and Halperin 1982).
        """
        left = self.look.most_seeds - self.look.seeds
        if not left:
            return None
        last = Look(seeds=self.look.most_seeds, most_seeds=self.look.most_seeds)
        in_all, nominal = self.with_more(1.0, left), last.nominal(alpha)
        away = in_all.limit(nominal) - value if above else value - in_all.limit(1.0 - nominal)
        spread = np.sqrt(max(self.seed_variance - in_all.seed_variance, 0.0))
        return float(ndtr(away / spread)) if spread > 0.0 else float(away > 0.0)


def look_at(measured: Sequence[Measured], most_seeds: int) -> list[LookedAt]:
    """Turn the same contrast after 2, 3 … seeds into successive looks."""
    looks = []
    for seeds, contrast in enumerate(measured, LEAST_SEEDS):
        values = {field.name: getattr(contrast, field.name) for field in fields(Measured)}
        looks.append(LookedAt(**values, look=Look(seeds=seeds, most_seeds=most_seeds)))
    return looks


def spend(alphas: Floats, time: float) -> Floats:
    """Return the part of each one-sided error rate that may be spent up to a look."""
    return alphas * time


@lru_cache(maxsize=256)
def _nominal_levels(seeds: int, most_seeds: int) -> Floats:
    """Return the (A,) nominal level of the look after this many seeds, for each total level."""
    density_AZ = np.tile(np.exp(-(_Z**2) / 2.0) / np.sqrt(2.0 * np.pi), (len(_ALPHAS), 1))
    spent_A, boundary_A = np.zeros_like(_ALPHAS), np.full_like(_ALPHAS, np.inf)
    for look in range(LEAST_SEEDS, seeds + 1):
        if look > LEAST_SEEDS:
            # The part that has not crossed: cells below the boundary, and a fraction of the cell that contains it.
            kept_AZ = np.clip((boundary_A[:, None] - _Z) / _STEP + 0.5, 0.0, 1.0)
            density_AZ = (density_AZ * kept_AZ) @ _kernel((look - 1) / look)
        now_A = spend(_ALPHAS, look / most_seeds)
        above_AZ = np.cumsum((density_AZ * _STEP)[:, ::-1], axis=1) - density_AZ[:, ::-1] * _STEP / 2.0
        boundary_A = np.array(
            [np.interp(share, row, _Z[::-1]) for share, row in zip(now_A - spent_A, above_AZ, strict=True)]
        )
        spent_A = now_A
    levels: Floats = ndtr(-boundary_A)
    # A boundary at the end of the grid must not give a smaller level than the look before.
    return np.maximum.accumulate(levels)


def _kernel(earlier: float) -> Floats:
    """Return the (Z, Z) density of a z-value given the preceding look's, at `earlier` of its time, times the step."""
    moves_ZZ = (_Z[None, :] - _Z[:, None] * np.sqrt(earlier)) / np.sqrt(1.0 - earlier)
    kernel: Floats = np.exp(-(moves_ZZ**2) / 2.0) / np.sqrt(2.0 * np.pi * (1.0 - earlier)) * _STEP
    return kernel
