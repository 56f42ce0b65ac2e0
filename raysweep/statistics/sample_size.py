"""Predicts the sample size that would decide an undecided claim: more documents, or more seeds.

The verdict's own rule is applied to the measurement that would follow if the ratio and the variances
stay as they are: deviations shrink with the root of the number of documents, and Student's t gets its
further degrees of freedom.  The result is the smallest number at which the p-value falls below Holm's
bound.  At that number, half of such experiments decide.

This is a prediction only: the ratio itself is as uncertain as its interval says.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log

from raysweep.statistics.contrasts import Measured

HOPELESS = 100.0
"""A corpus of more than this many times the documents is not worth suggesting."""
MOST_SEEDS = 20
_STEPS = 12
"""Bisections of the range of factors: to a tenth of a per cent."""

Rule = Callable[[Sequence[Measured]], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleNeed:
    """Additional documents or seeds that would decide; None if they alone would not."""

    documents: int | None
    """For all tested levels together, in the same proportions."""
    seeds: int | None
    """For every training."""
    note: str


def predict_need(measured: Sequence[Measured], decides: Rule) -> SampleNeed:
    """Find the smallest number that would decide.

    Args:
        measured: the contrasts of the verdict.
        decides: true if such contrasts would decide.
    """
    documents, seeds = _documents(measured, decides), _seeds(measured, decides)
    if documents is not None or seeds is not None:
        return SampleNeed(documents=documents, seeds=seeds, note=_say(documents, seeds))
    if any(contrast.seed_variance for contrast in measured):
        for more in (2, 4, 8, MOST_SEEDS):
            together = _documents([contrast.with_more(1.0, more) for contrast in measured], decides)
            if together is not None:
                note = f"about {together:,} more documents and {more} more seeds of each training together would decide"
                return SampleNeed(documents=None, seeds=None, note=f"{note}, if the ratio stays as it is")
    return SampleNeed(documents=None, seeds=None, note="too close to the margin for any realistic number of documents")


def _documents(measured: Sequence[Measured], decides: Rule) -> int | None:
    def is_enough(times: float) -> bool:
        return decides([contrast.with_more(times, 0) for contrast in measured])

    if not is_enough(HOPELESS):
        return None
    low, high = 0.0, log(HOPELESS)
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if is_enough(exp(middle)) else (middle, high)
    return _two_digits((exp(high) - 1.0) * max(contrast.documents for contrast in measured))


def _seeds(measured: Sequence[Measured], decides: Rule) -> int | None:
    def is_enough(more: int) -> bool:
        return decides([contrast.with_more(1.0, more) for contrast in measured])

    if not any(contrast.seed_variance for contrast in measured) or not is_enough(MOST_SEEDS):
        return None
    low, high = 0, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _say(documents: int | None, seeds: int | None) -> str:
    if documents is None:
        said = f"documents alone would not decide, for the seeds differ; {_count_seeds(seeds)} would"
    elif seeds is None:
        said = f"about {documents:,} more documents would decide"
    else:
        said = f"about {documents:,} more documents, or {_count_seeds(seeds)}, would decide"
    return f"{said}, if the ratio stays as it is"


def _count_seeds(seeds: int | None) -> str:
    return f"{seeds} more seed{'s' if seeds != 1 else ''} of each training"


def _two_digits(number: float) -> int:
    step: int = 10 ** max(len(str(int(number))) - 2, 0)
    return max(1, round(number / step) * step)
