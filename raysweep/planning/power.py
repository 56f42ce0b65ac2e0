"""Plans the size of an experiment from a pilot's spreads: learners, test documents and seeds for 80 % power.

A level's claim is tested at half of 1 − confidence, divided by the levels as Holm's first step does.  Its standard
error comes from learners (more of them make it smaller), trainings (more seeds do) and writing prompts (as many as
the pilot had).  An effect is found with 80 % power if it lies above the widened limit, the quantiles of Student's t
of learners and of trainings, by another 0.84 standard errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

POWER = 0.8
MOST_LEARNERS = 1_000_000
LEAST_LEARNERS = 10
"""Fewer are not tested at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelSpread:
    """How much a level's log ratio of perplexities varies, in nats per token."""

    level: str
    other: str
    """The role that the general model is compared with."""
    learner_spread: float
    """Standard deviation of the ratio on the documents of one learner, over endless trainings."""
    training_spread: float
    """The same of what single trainings find easier or harder of a learner; 0 if the pilot had one training."""
    seed_spread: float | None
    """Standard deviation between trainings, over endless learners, as an upper limit; None if the pilot had one."""
    prompt_error: float
    """Standard error from the prompts of the pilot; 0 if they are unknown."""
    documents_per_learner: float
    learners: int
    """Effective ones of the pilot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelNeed:
    """What a level takes with a number of seeds; no learners if no number is enough."""

    level: str
    other: str
    seeds: int
    learners: int | None
    documents: int | None


def plan_level(spread: LevelSpread, *, effect: float, seeds: int, confidence: float, levels: int) -> LevelNeed:
    """The fewest learners with which the effect is found with 80 % power.

    Args:
        effect: in nats per token, above 0.
        seeds: trainings of each model; with one, what trainings add is not counted.
        levels: that are tested together.
    """
    tail = (1.0 - confidence) / 2.0 / levels

    def is_enough(learners: int) -> bool:
        return _power(spread, effect, learners, seeds, tail, levels) >= POWER

    if not is_enough(MOST_LEARNERS):
        return LevelNeed(level=spread.level, other=spread.other, seeds=seeds, learners=None, documents=None)
    low, high = LEAST_LEARNERS - 1, MOST_LEARNERS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    documents = max(1, round(high * spread.documents_per_learner))
    return LevelNeed(level=spread.level, other=spread.other, seeds=seeds, learners=high, documents=documents)


def plan_levels(
    spreads: Sequence[LevelSpread], *, effect: float, seeds: int, confidence: float
) -> tuple[LevelNeed, ...]:
    """`plan_level` for every spread of a pilot."""
    levels = len({spread.level for spread in spreads})
    return tuple(
        plan_level(spread, effect=effect, seeds=seeds, confidence=confidence, levels=levels) for spread in spreads
    )


def _power(spread: LevelSpread, effect: float, learners: int, seeds: int, tail: float, levels: int) -> float:
    # A tenth of a second, which no other plan needs.
    from scipy.special import stdtrit

    from raysweep.statistics.seed_variance import freedom_beside

    # What single trainings find hard of a learner is estimated with the seeds if there are several.
    both = spread.training_spread**2 / learners / seeds
    by_learners, by_seeds = spread.learner_spread**2 / learners + spread.prompt_error**2, both
    is_counted = seeds > 1 and spread.seed_spread is not None
    if is_counted:
        by_seeds += (spread.seed_spread or 0.0) ** 2 / seeds
        # The variance between trainings is pooled over the levels.
        freedom = freedom_beside(levels * (seeds - 1.0), by_seeds, by_learners)
        squared = (float(stdtrit(learners - 1, tail)) ** 2 * by_learners) + float(
            stdtrit(freedom, tail)
        ) ** 2 * by_seeds
    else:
        squared = float(stdtrit(learners - 1, tail)) ** 2 * (by_learners + by_seeds)
    limit = sqrt(squared)
    error = sqrt(by_learners + by_seeds)
    return NormalDist().cdf((effect - limit) / error) if error > 0.0 else 1.0
