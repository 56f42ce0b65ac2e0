"""Plans the size of an experiment from a pilot's spreads: learners, test documents and seeds for 80 % power.

A level's claim is tested at half of 1 − confidence, divided by the number of levels as in Holm's first step.  Its
standard error has parts from learners (smaller with more of them), trainings (smaller with more seeds) and writing
prompts (as many as the pilot had).  An effect is found with 80 % power if it exceeds the test's limit, computed with
quantiles of Student's t for learners and for trainings, by another 0.84 standard errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

POWER = 0.8
MOST_LEARNERS = 1_000_000
LEAST_LEARNERS = 10
"""With fewer learners no claim is tested."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelSpread:
    """How much a level's log ratio of perplexities varies, in nats per token."""

    level: str
    other: str
    """The role that the general model is compared with."""
    learner_spread: float
    """Standard deviation between learners of the ratio on their documents, averaged over unlimited trainings."""
    training_spread: float
    """Standard deviation of the learner effects that are specific to one training; 0 if the pilot had one training."""
    seed_spread: float | None
    """Standard deviation between trainings with unlimited learners, as an upper limit; None if the pilot had one."""
    prompt_error: float
    """Standard error from the pilot's prompts; 0 if they are unknown."""
    documents_per_learner: float
    learners: int
    """Effective number of learners in the pilot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelNeed:
    """What a level needs with a number of seeds; None if no number of learners is enough."""

    level: str
    other: str
    seeds: int
    learners: int | None
    documents: int | None


def plan_level(spread: LevelSpread, *, effect: float, seeds: int, confidence: float, levels: int) -> LevelNeed:
    """Find the smallest number of learners with which the effect is found with 80 % power.

    Args:
        effect: in nats per token, above 0.
        seeds: trainings of each model; with a single one, the variance between trainings is not counted.
        levels: number of levels that are tested together.
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
    """Apply `plan_level` to every spread of a pilot."""
    levels = len({spread.level for spread in spreads})
    return tuple(
        plan_level(spread, effect=effect, seeds=seeds, confidence=confidence, levels=levels) for spread in spreads
    )


def _power(spread: LevelSpread, effect: float, learners: int, seeds: int, tail: float, levels: int) -> float:
    # Imported here: it takes a tenth of a second, and no other plan needs it.
    from scipy.special import stdtrit

    from raysweep.statistics.seed_variance import freedom_beside

    # Learner effects specific to one training are counted with the seeds if there are several.
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
