"""Predicts the sample size that would decide an undecided claim: more documents, or more seeds.

The result is the smallest number with which 80 % of new experiments decide, if the ratio is as measured.
Such experiments are simulated: their estimates vary like the bootstrap's draws, with a spread divided by the root of
the number of documents, all compared roles from the same draw, and the verdict's own rule is applied to each:
a claim against two roles is confirmed only if both are beaten in the same experiment.  How much experiments vary is
itself an estimate, so its uncertainty (chi-squared) is averaged over, as Julious and Owen (2006, Statistics in
Medicine) do for a single test.

The ratio is uncertain, and so is the need, which is therefore also computed at both ends of the ratio's 80 %
interval.  If neither side of the margin has a p-value of `1 − confidence` or less, the sign of the difference is open,
any number would be a guess, and none is given.  Of claims without any difference, this test lets 2 × (1 − confidence)
through, half of which the verdict has decided.  More documents means test documents by new learners.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from raysweep.statistics.contrasts import Measured
from raysweep.statistics.loss_table import Floats
from raysweep.statistics.weighted_parts import welch

POWER = 0.8
_RANGE_TAIL = 0.1
"""The range of needs is computed at the ends of an interval that leaves this probability on either side."""
HOPELESS = 100.0
"""Multiple of the corpus's documents beyond which a suggestion is unrealistic."""
MOST_SEEDS = 20
_STEPS = 12
"""Number of bisections of the range of factors, to a tenth of a per cent."""

Bools = npt.NDArray[np.bool_]
Enough = Callable[[float, int], bool]
"""Whether a multiple of the documents and a number of additional seeds decide with enough power."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """When a claim is decided: confirmed against every role, or refuted against any."""

    margin: float
    """In nats."""
    above: bool
    """Whether the claim is that the contrast lies above the margin, rather than below."""
    confirm_tail: float
    """Tail probability of a role's interval on the confirming side."""
    refute_tail: float
    """The same on the refuting side, including Bonferroni's correction."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleNeed:
    """Additional documents or seeds with which 80 % of experiments decide; None if they alone would not suffice."""

    documents: int | None
    """On all tested levels together, in the same proportions."""
    documents_low: int | None
    """At the end of the 80 % interval that is farther from the margin."""
    documents_high: int | None
    """At the nearer end; None if no realistic number is enough there."""
    seeds: int | None
    """Additional seeds of every training."""
    note: str


def predict_need(measured: Sequence[Measured], rule: Rule, *, is_sign_open: bool) -> SampleNeed:
    """Find the smallest number that decides with 80 % power.

    Args:
        measured: the contrasts of the verdict, one for each compared role.
        is_sign_open: whether neither the claim nor its opposite has a p-value of 1 − confidence or less.
    """
    if is_sign_open:
        note = "it is open on which side of the margin the ratio lies, so no number of documents is named"
        return SampleNeed(documents=None, documents_low=None, documents_high=None, seeds=None, note=note)
    total, is_enough = max(contrast.documents for contrast in measured), _enough(measured, rule)
    documents, seeds = _documents(total, is_enough), None
    if any(contrast.seed_variance for contrast in measured):
        seeds = _seeds(is_enough)
    if documents is not None or seeds is not None:
        near, far = _at_interval_ends(measured, rule.margin)
        low, high = _documents(total, _enough(far, rule)), _documents(total, _enough(near, rule))
        note = _need_note(documents, low, high, seeds)
        return SampleNeed(documents=documents, documents_low=low, documents_high=high, seeds=seeds, note=note)
    note = "too close to the margin for any realistic number of documents"
    if any(contrast.seed_variance for contrast in measured):
        for more in (2, 4, 8, MOST_SEEDS):
            together = _documents(total, is_enough, seeds=more)
            if together is not None:
                note = (
                    f"about {together:,} more test documents by new learners and {more} more seeds of each training "
                    "together would decide with a probability of 80 %, if the ratio is as measured"
                )
                break
    return SampleNeed(documents=None, documents_low=None, documents_high=None, seeds=None, note=note)


def power_of(measured: Sequence[Measured], rule: Rule, times: float, seeds: int) -> float:
    """Return the share of new experiments that decide, with `times` the documents and `seeds` more trainings."""
    confirmed: list[Bools] = []
    refuted: list[Bools] = []
    for contrast in measured:
        more = contrast.with_more(times, seeds)
        deviations_R = more.sources.deviations_with_seeds()
        scale_R = _spread_scale(_freedom_now(contrast, more), len(deviations_R))
        for above, tail, decided in (
            (rule.above, rule.confirm_tail, confirmed),
            (not rule.above, rule.refute_tail, refuted),
        ):
            side = 1.0 if above else -1.0
            reach = side * (more.estimate - more.limit(tail if above else 1.0 - tail))
            decided.append(side * (more.estimate - rule.margin) > scale_R * (reach - side * deviations_R))
    return float(np.mean(np.all(confirmed, axis=0) | np.any(refuted, axis=0)))


def _enough(measured: Sequence[Measured], rule: Rule) -> Enough:
    return lambda times, seeds: power_of(measured, rule, times, seeds) >= POWER


def _freedom_now(pilot: Measured, more: Measured) -> float:
    """Return the degrees of freedom of a larger experiment's standard error, predicted from the pilot's variances."""
    sources = [(more.document_variance, pilot.freedom)]
    sources += [(new.variance, old.freedom) for new, old in zip(more.sources.seeds, pilot.sources.seeds, strict=True)]
    if (prompts := pilot.sources.prompts) is not None:
        sources.append((prompts.variance, prompts.freedom))
    return welch([variance for variance, _ in sources], [freedom for _, freedom in sources])


def _spread_scale(freedom: float, count: int) -> Floats:
    """Return (count,) equally likely ratios of true standard error to estimate: √(ν / χ²), by Wilson and Hilferty."""
    part = 2.0 / (9.0 * freedom)
    return np.asarray(np.maximum(1.0 - part + _normal_scores(count) * np.sqrt(part), 0.05) ** -1.5)


@lru_cache(maxsize=4)
def _normal_scores(count: int) -> Floats:
    """Return (count,) evenly spread normal quantiles in ascending order, independent of the draws."""
    scores: Floats = ndtri((np.arange(count) + 0.5) / count)
    scores.flags.writeable = False
    return scores


def _at_interval_ends(measured: Sequence[Measured], margin: float) -> tuple[list[Measured], list[Measured]]:
    """Return the contrasts with the ratio at the nearer end of its 80 % interval, and at the farther one."""
    near, far = [], []
    for contrast in measured:
        ends = sorted(contrast.interval(1.0 - 2.0 * _RANGE_TAIL), key=lambda end: abs(end - margin))
        near.append(contrast.sources.around(ends[0]))
        far.append(contrast.sources.around(ends[1]))
    return near, far


def _documents(total: int, is_enough: Enough, seeds: int = 0) -> int | None:
    if not is_enough(HOPELESS, seeds):
        return None
    low, high = 0.0, log(HOPELESS)
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if is_enough(exp(middle), seeds) else (middle, high)
    return _two_digits((exp(high) - 1.0) * total)


def _seeds(is_enough: Enough) -> int | None:
    if not is_enough(1.0, MOST_SEEDS):
        return None
    low, high = 0, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(1.0, middle) else (middle, high)
    return high


def _need_note(documents: int | None, low: int | None, high: int | None, seeds: int | None) -> str:
    if documents is None:
        sentence = f"documents alone would not decide, for the seeds differ; {_count_seeds(seeds)} would"
    else:
        most = "more than is realistic" if high is None else f"{high:,}"
        ends = f" (from {low or 0:,} to {most}, since the ratio itself is uncertain)"
        sentence = f"about {documents:,} more test documents by new learners{ends}"
        sentence += " would decide" if seeds is None else f", or {_count_seeds(seeds)}, would decide"
    return f"{sentence} with a probability of 80 %, if the ratio is as measured"


def _count_seeds(seeds: int | None) -> str:
    return f"{seeds} more seed{'s' if seeds != 1 else ''} of each training"


def _two_digits(number: float) -> int:
    step: int = 10 ** max(len(str(int(number))) - 2, 0)
    return max(1, round(number / step) * step)
