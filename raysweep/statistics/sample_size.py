"""Predicts the sample size that would decide an undecided claim: more documents, or more seeds.

The verdict's own rule is applied to the measurement that would follow if the variances stay as they
are: deviations shrink with the root of the number of documents, and Student's t gets its further
degrees of freedom.  The result is the smallest number at which 80 % of such experiments decide: the
rule must hold for an estimate that lies 0.84 standard errors nearer to the margin than the ratio.

The ratio is uncertain, and so is the need: it is also computed at both ends of the ratio's 80 %
interval.  If the ratio's 90 % interval holds the margin, the sign of the difference is open, any number would
be a guess, and none is given.  More documents mean test documents by new learners.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

from scipy.special import ndtri

from raysweep.statistics.contrasts import Measured

POWER = 0.8
SIGN_TAIL = 0.05
"""The sign counts as known if an interval with so much on either side lies on one side of the margin."""
_RANGE_TAIL = 0.1
"""The needs at the ends of an interval with so much on either side are given as the range."""
HOPELESS = 100.0
"""A corpus of more than this many times the documents is not worth suggesting."""
MOST_SEEDS = 20
_STEPS = 12
"""Bisections of the range of factors: to a tenth of a per cent."""

Rule = Callable[[Sequence[Measured]], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleNeed:
    """Additional documents or seeds with which 80 % of experiments decide; None if they alone would not do."""

    documents: int | None
    """All tested levels together, in the same proportions."""
    documents_low: int | None
    """At the end of the 80 % interval that is farther from the margin."""
    documents_high: int | None
    """At the nearer end; None if no realistic number is enough there."""
    seeds: int | None
    """Additional seeds of every training."""
    note: str


def predict_need(measured: Sequence[Measured], margin: float, decides: Rule, *, is_sign_open: bool) -> SampleNeed:
    """Find the smallest number that decides with 80 % power.

    Args:
        measured: the contrasts of the verdict.
        margin: in nats.
        decides: true if such contrasts would decide.
        is_sign_open: neither the claim nor its contrary has a p-value of `SIGN_TAIL` or less.
    """
    if is_sign_open:
        note = "no number of documents can be predicted, because it is open on which side of the margin the ratio lies"
        return SampleNeed(documents=None, documents_low=None, documents_high=None, seeds=None, note=note)

    def is_powerful(contrasts: Sequence[Measured]) -> bool:
        return decides([_unlucky(contrast, margin) for contrast in contrasts])

    documents, seeds = _documents(measured, is_powerful), _seeds(measured, is_powerful)
    if documents is not None or seeds is not None:
        near, far = _ends(measured, margin)
        low, high = _documents(far, is_powerful), _documents(near, is_powerful)
        note = _say(documents, low, high, seeds)
        return SampleNeed(documents=documents, documents_low=low, documents_high=high, seeds=seeds, note=note)
    note = "too close to the margin for any realistic number of documents"
    if any(contrast.seed_variance for contrast in measured):
        for more in (2, 4, 8, MOST_SEEDS):
            together = _documents([contrast.with_more(1.0, more) for contrast in measured], is_powerful)
            if together is not None:
                note = (
                    f"about {together:,} more test documents by new learners and {more} more seeds of each training "
                    "together would decide with a probability of 80 %, if the ratio is as measured"
                )
                break
    return SampleNeed(documents=None, documents_low=None, documents_high=None, seeds=None, note=note)


def _unlucky(contrast: Measured, margin: float) -> Measured:
    """The estimate, nearer to the margin by so much that 80 % of estimates lie beyond it."""
    error = sqrt(contrast.document_variance + contrast.seed_variance + contrast.prompt_variance)
    away = 1.0 if contrast.estimate > margin else -1.0
    return contrast.sources.around(contrast.estimate - away * float(ndtri(POWER)) * error)


def _ends(measured: Sequence[Measured], margin: float) -> tuple[list[Measured], list[Measured]]:
    """The contrasts as if the ratio were at the nearer end of its 80 % interval, and at the farther one."""
    near, far = [], []
    for contrast in measured:
        ends = sorted(contrast.interval(1.0 - 2.0 * _RANGE_TAIL), key=lambda end: abs(end - margin))
        near.append(contrast.sources.around(ends[0]))
        far.append(contrast.sources.around(ends[1]))
    return near, far


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


def _say(documents: int | None, low: int | None, high: int | None, seeds: int | None) -> str:
    if documents is None:
        said = f"documents alone would not decide, for the seeds differ; {_count_seeds(seeds)} would"
    else:
        most = "more than is realistic" if high is None else f"{high:,}"
        ends = f" (from {low or 0:,} to {most}, since the ratio itself is uncertain)"
        said = f"about {documents:,} more test documents by new learners{ends}"
        said += " would decide" if seeds is None else f", or {_count_seeds(seeds)}, would decide"
    return f"{said} with a probability of 80 %, if the ratio is as measured"


def _count_seeds(seeds: int | None) -> str:
    return f"{seeds} more seed{'s' if seeds != 1 else ''} of each training"


def _two_digits(number: float) -> int:
    step: int = 10 ** max(len(str(int(number))) - 2, 0)
    return max(1, round(number / step) * step)
