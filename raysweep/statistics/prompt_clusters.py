"""Writing prompts as a second kind of cluster, crossed with learners: how a contrast varies with the drawn prompts.

Learners are resampled, but a corpus with other prompts would give other numbers too.  The variance of a contrast
over learners and prompts is V(learners) + V(prompts) − V(learners × prompts) (Cameron, Gelbach and Miller 2011).
The bootstrap gives the first term; what the prompts add is estimated from the sums of influences by prompt and by
learner and prompt, and each resample is shifted by Student's t with this standard error.  Its degrees of
freedom are those of the difference of the two variances (Satterthwaite), from the effective numbers of groups.

The interaction of prompts and trainings is counted both here and in the variance of the trainings (`seed_variance`), so
with several seeds intervals are wider than necessary if trainings differ by prompt.

Levels with fewer than `MIN_PROMPTS` effective prompts add nothing: their intervals hold for new learners who
answer the same prompts, which must be stated beside them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.group_influences import GroupInfluences
from raysweep.statistics.loss_table import Floats
from raysweep.statistics.weighted_parts import Part, draw_t, weigh_folds, weighted_sum

MIN_PROMPTS = 2.0
_LEAST_FREEDOM = 3.0
"""With fewer degrees of freedom, Student's t is so wide that intervals cover the truth far too often."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptVariance:
    """What prompts add to the variance of a contrast."""

    variance: float
    freedom: float
    prompts: int
    """Number of distinct prompts on all levels together."""
    shifts: Floats
    """(R,) Student's t times the standard error."""


def estimate_prompt_variance(resamples: Resamples, parts: Sequence[Part]) -> PromptVariance | None:
    """Estimate what prompts add to a contrast; None if they are unknown, or too few on a level."""
    by_prompt: list[tuple[GroupInfluences, Floats]] = []
    by_cell: list[tuple[GroupInfluences, Floats]] = []
    for level in dict.fromkeys(part.level for part in parts):
        drawn = resamples.levels[level]
        if drawn.prompts is None or drawn.cells is None or drawn.prompts.effective < MIN_PROMPTS:
            return None
        weights_F = weigh_folds(resamples, [part for part in parts if part.level == level])
        by_prompt.append((drawn.prompts, weights_F))
        by_cell.append((drawn.cells, weights_F))
    carried = _added([(prompts, prompts.shares) for prompts, _ in by_prompt])
    variance = max(_variance(by_prompt) - _variance(by_cell), 0.0)
    squares = sum(_variance([pair]) ** 2 / max(pair[0].effective - 1.0, 1.0) for pair in (*by_prompt, *by_cell))
    freedom = max(variance**2 / squares, _LEAST_FREEDOM) if squares > 0.0 else _LEAST_FREEDOM
    shifts = np.sqrt(variance) * draw_t(freedom, resamples.resamples, resamples.seed, "prompts")
    return PromptVariance(variance=variance, freedom=freedom, prompts=len(carried), shifts=shifts)


def _variance(groups: Sequence[tuple[GroupInfluences, Floats]]) -> float:
    """Return the variance of a contrast over one kind of group, which may occur on several levels."""
    total = _added(
        [(group, group.widening * weighted_sum(group.fold_influences, weights_F)) for group, weights_F in groups]
    )
    return float(np.sum(total**2))


def _added(groups: Sequence[tuple[GroupInfluences, Floats]]) -> Floats:
    """Add up the values of each group over the levels."""
    if len(groups) == 1:
        return groups[0][1]
    members = np.concatenate([group.members for group, _ in groups])
    values = np.concatenate([value for _, value in groups])
    distinct, places = np.unique(members, return_inverse=True)
    return np.asarray(np.bincount(places, values, len(distinct)), dtype=np.float64)
