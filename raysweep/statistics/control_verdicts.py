"""The controls' verdicts: is the gain of a level's model more than a gain of size, steps or chance?

Three contrasts of log perplexity for each level, with the same resamples as the hypotheses:

    raw         general − specialised                  gain of the level's model
    own         general − control                      gain of the control
    remaining   raw − own                              gain beyond the control's

Controls are scored on the level's own documents, placebos on the test documents of their random groups, so
their own gain and the level's are measured on different documents (`placebo_draws.py`).

    no gain     H1 is not confirmed: there is nothing to explain (the numbers are given all the same)
    survives    the remaining gain is above the smallest effect of interest, or above half of the raw gain
    explained   the remaining gain is below the smallest effect of interest, and below half of the raw gain
    open        neither can be shown

Both verdicts need evidence: 'explained' is the upper one of the two one-sided tests of equivalence (a
control that gains more than the level's model explains its gain as well), so that few learners lead to
'open' and not to 'explained'.  p-values are corrected by Holm over the levels, as those of the
hypotheses are.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import log

import numpy as np
from pydantic import Field
from scipy.special import ndtr

from raysweep.config.section import Count, Section
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.claims import OVERALL, holm
from raysweep.statistics.contrasts import TIE, Estimate, Measured, measure, widen
from raysweep.statistics.placebo_draws import (
    PLACEBO,
    draws_of,
    estimate_group_variance,
    group_name,
    mean_gain,
    measure_draws,
)
from raysweep.statistics.role_models import RoleModels, lack_of_writers, mean_log_ratio
from raysweep.statistics.weighted_parts import Part

EXPLAINS = 0.5
"""A control explains the raw gain only if its own gain is shown to exceed this share of it."""


class ControlVerdict(StrEnum):
    """Verdict of a control on a gain."""

    NO_GAIN = "no gain"
    SURVIVES = "survives"
    EXPLAINED = "explained"
    OPEN = "open"
    NOT_TESTED = "not tested"


class ControlFinding(Section):
    """Verdict of one control on one level, or over all levels that could be tested."""

    kind: str = Field(description="a kind of control")
    scope: str = Field(description="a level, or 'overall'")
    verdict: ControlVerdict
    raw: Estimate | None
    own: Estimate | None
    remaining: Estimate | None
    draws: tuple[Estimate, ...] = Field((), description="of a placebo: the gain of each of its random groups")
    p_equivalent: float | None = Field(description="against 'an effect of interest remains', after Holm")
    p_remaining: float | None = Field(description="against 'neither that nor half remains', after Holm")
    explained_share: float | None = Field(description="own / raw, in nats; null without a gain")
    share_low: float | None = Field(description="limits of the share; null if the raw gain may be none")
    share_high: float | None
    smallest_effect: float = Field(description="the ratio from which a remaining gain matters")
    levels: tuple[str, ...]
    documents: Count = Field(description="test documents of the levels")
    note: str = Field(description="why it was not tested")

    @classmethod
    def not_tested(
        cls,
        kind: str,
        scope: str,
        reason: str,
        *,
        smallest_effect: float,
        levels: tuple[str, ...] = (),
        documents: int = 0,
    ) -> "ControlFinding":
        """Make a finding without numbers."""
        return cls(
            kind=kind,
            scope=scope,
            verdict=ControlVerdict.NOT_TESTED,
            raw=None,
            own=None,
            remaining=None,
            p_equivalent=None,
            p_remaining=None,
            explained_share=None,
            share_low=None,
            share_high=None,
            smallest_effect=smallest_effect,
            levels=levels,
            documents=documents,
            note=reason,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tested:
    raw: Measured
    own: Measured
    remaining: Measured
    levels: tuple[str, ...]
    share: tuple[float, float] | None
    draws: tuple[Measured, ...]
    p_equivalent: float
    p_remaining: float


def assess_control(
    kind: str,
    roles: RoleModels,
    resamples: Resamples,
    levels: Sequence[str],
    *,
    confirmed: Collection[str],
    smallest_effect: float,
    confidence: float,
) -> list[ControlFinding]:
    """Return the overall finding, then one per level of `levels`, in their order.

    Args:
        roles: the models of 'general', 'specialised' and `kind`.
        resamples: of the levels, and of their placebo groups.
        confirmed: the scopes on which H1 is confirmed.
        smallest_effect: the ratio of perplexities from which a remaining gain matters.
    """
    tested: dict[str, _Tested] = {}
    findings: dict[str, ControlFinding] = {}
    obstacle_of = {level: _obstacle(kind, roles, resamples, level) for level in levels}
    testable = [level for level in levels if not obstacle_of[level]]
    for level in levels:
        if reason := obstacle_of[level]:
            findings[level] = ControlFinding.not_tested(kind, level, reason, smallest_effect=smallest_effect)
        else:
            tested[level] = _test(kind, roles, resamples, (level,), smallest_effect, confidence, alike=testable)
    equivalent = holm([test.p_equivalent for test in tested.values()])
    remaining = holm([test.p_remaining for test in tested.values()])
    for (level, test), p_equivalent, p_remaining in zip(tested.items(), equivalent, remaining, strict=True):
        adjusted = replace(test, p_equivalent=p_equivalent, p_remaining=p_remaining)
        findings[level] = _decide(adjusted, kind, level, smallest_effect, confidence, is_gain=level in confirmed)
    ordered = [findings[level] for level in levels]
    if not tested:
        reasons = "; ".join(f"{finding.scope}: {finding.note}" for finding in ordered)
        return [ControlFinding.not_tested(kind, OVERALL, reasons, smallest_effect=smallest_effect), *ordered]
    together = _test(kind, roles, resamples, tuple(tested), smallest_effect, confidence)
    overall = _decide(together, kind, OVERALL, smallest_effect, confidence, is_gain=OVERALL in confirmed)
    return [overall, *ordered]


def _obstacle(kind: str, roles: RoleModels, resamples: Resamples, level: str) -> str:
    """Say why a level cannot be tested; '' if it can."""
    for role in ("general", "specialised", kind):
        if role == PLACEBO and draws_of(roles, level):
            continue
        if reason := roles.absent.get((role, level)):
            return reason
        if not roles.by_role.get(role, {}).get(level):
            return f"no {role.replace('_', '-')} model in the trials"
    draws = draws_of(roles, level) if kind == PLACEBO else []
    groups = (level, *(group_name(level, draw) for draw in draws))
    return next(filter(None, (lack_of_writers(resamples, group) for group in groups)), "")


def _test(
    kind: str,
    roles: RoleModels,
    resamples: Resamples,
    levels: tuple[str, ...],
    smallest_effect: float,
    confidence: float,
    *,
    alike: Sequence[str] = (),
) -> _Tested:
    """Measure the contrasts on `levels`.

    Args:
        alike: levels whose trainings also contribute to the estimated variance between seeds of a single level.
    """
    others = [other for other in alike if other not in levels]
    drawn = estimate_group_variance(resamples, roles, levels, others) if kind == PLACEBO else ()

    def contrast(raw_weight: float, own_weight: float) -> Measured:
        parts, *similar = (_parts(kind, roles, tested, raw_weight, own_weight) for tested in (levels, *zip(others)))
        measured = measure(resamples, parts, similar)
        if not drawn or not own_weight:
            return measured
        beside = [replace(component, beside=measured.document_variance) for component in drawn]
        sources = replace(measured.sources, seeds=(*measured.sources.seeds, *beside))
        return sources.around(measured.estimate)

    raw, own = contrast(1.0, 0.0), contrast(0.0, 1.0)
    remaining, half = contrast(1.0, -1.0), contrast(1.0 - EXPLAINS, -1.0)
    return _Tested(
        raw=raw,
        own=own,
        remaining=remaining,
        levels=levels,
        share=_share_limits(raw, own, confidence),
        draws=tuple(measure_draws(resamples, roles, levels)) if kind == PLACEBO else (),
        p_equivalent=max(remaining.p_not_below(log(smallest_effect)), half.p_not_below(0.0)),
        p_remaining=min(1.0, 2.0 * min(remaining.p_not_above(log(smallest_effect)), half.p_not_above(0.0))),
    )


def _parts(kind: str, roles: RoleModels, levels: Sequence[str], raw_weight: float, own_weight: float) -> list[Part]:
    """Return a weighted sum of the level's gain and the control's, averaged over `levels`."""
    raw = mean_log_ratio("general", "specialised", roles, levels) if raw_weight else []
    own: list[Part] = []
    if own_weight:
        own = mean_gain(roles, levels) if kind == PLACEBO else mean_log_ratio("general", kind, roles, levels)
    return [
        replace(part, weight=weight * part.weight)
        for weight, parts in ((raw_weight, raw), (own_weight, own))
        for part in parts
    ]


def _share_limits(raw: Measured, own: Measured, confidence: float) -> tuple[float, float] | None:
    """Return the percentile interval of own / raw, from the same draws of both; None if the raw gain may be zero."""
    tail = (1.0 - confidence) / 2.0
    if raw.limit(tail) <= TIE:
        return None
    owns, raws = (measured.estimate + measured.sources.deviations_with_seeds() for measured in (own, raw))
    shares = (owns / raws)[raws > TIE]
    tail = float(ndtr(widen(tail, min(raw.freedom, own.freedom))))
    low, high = np.quantile(shares, (tail, 1.0 - tail))
    return float(low), float(high)


def _decide(
    test: _Tested, kind: str, scope: str, smallest_effect: float, confidence: float, *, is_gain: bool
) -> ControlFinding:
    tail = (1.0 - confidence) / 2.0
    explained_share = test.own.estimate / test.raw.estimate if test.raw.estimate > TIE else None
    if not is_gain:
        verdict = ControlVerdict.NO_GAIN
    elif test.p_remaining <= tail:
        verdict = ControlVerdict.SURVIVES
    elif test.p_equivalent <= tail:
        verdict = ControlVerdict.EXPLAINED
    else:
        verdict = ControlVerdict.OPEN
    return ControlFinding(
        kind=kind,
        scope=scope,
        verdict=verdict,
        raw=test.raw.ratio(confidence),
        own=test.own.ratio(confidence),
        remaining=test.remaining.ratio(confidence),
        p_equivalent=test.p_equivalent,
        p_remaining=test.p_remaining,
        explained_share=explained_share,
        share_low=None if test.share is None else test.share[0],
        share_high=None if test.share is None else test.share[1],
        draws=tuple(gain.ratio(confidence) for gain in test.draws),
        smallest_effect=smallest_effect,
        levels=test.levels,
        documents=test.raw.documents,
        note="",
    )
