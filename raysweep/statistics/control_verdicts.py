"""Is a gain of levels more than a gain of size, of steps, or of chance?  The controls' verdicts.

Three contrasts of log perplexity for each level, with the same resamples as the hypotheses:

    raw         general − specialised                  what the level's model gains
    own         general − control                      what the control gains the same way
    remaining   raw − own                              what is left of the gain beyond the control

Size and step controls are scored on the level's own documents.  A placebo model is scored on the test
documents of its random group, so its own gain and the level's rest on different documents.

    no gain     H1 is not confirmed: there is nothing to explain
    survives    the remaining gain is above the margin (a part may still be explained)
    explained   it is not, and the control gains too, by half as much or more: what helps is not the level
    open        neither can be shown

p-values are one-sided and corrected by Holm over the levels, as those of the hypotheses are.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import exp, log

import numpy as np

from raysweep.corpus.subsets import choose_subset
from raysweep.scheduling.control_trials import placebo_group
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.contrasts import Measured, Part, measure
from raysweep.statistics.hypotheses import MIN_CLUSTERS, OVERALL, RoleModels, holm
from raysweep.statistics.loss_table import LevelLosses

PLACEBO = "placebo"
EXPLAINS = 0.5
"""A control that gains a smaller part than this of the raw gain does not explain it; it is then left open."""


class ControlVerdict(StrEnum):
    """What a control says of a gain."""

    NO_GAIN = "no gain"
    SURVIVES = "survives"
    EXPLAINED = "explained"
    OPEN = "open"
    NOT_TESTED = "not tested"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """exp of a contrast, with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlFinding:
    """What one control says on one level, or over all that could be tested."""

    kind: str
    """A kind of control."""
    scope: str
    """A level, or `OVERALL`."""
    verdict: ControlVerdict
    raw: Ratio | None = None
    own: Ratio | None = None
    remaining: Ratio | None = None
    p_own: float | None = None
    """Against 'the control gains nothing', after Holm."""
    p_remaining: float | None = None
    """Against 'nothing above the margin remains', after Holm."""
    explained_share: float | None = None
    """own ÷ raw, in nats: 1 if the control gains as much; None without a gain."""
    levels: tuple[str, ...] = ()
    documents: int = 0
    """Test documents of the levels."""
    note: str = ""
    """Why it was not tested."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tested:
    finding: ControlFinding
    p_own: float
    p_remaining: float


def placebo_losses(losses: Mapping[str, LevelLosses], seed: int) -> dict[str, LevelLosses]:
    """The scored test documents cut into random groups, one for each level and as large, by the group's name.

    Args:
        losses: all levels, in the order in which the groups are cut.
        seed: the run's, from which the train documents' groups are drawn too.
    """
    if not losses:
        return {}
    levels = list(losses)
    documents = np.concatenate([one.documents for one in losses.values()])
    level_of = np.concatenate([np.full(len(one.documents), level) for level, one in losses.items()])
    tokens = np.concatenate([one.tokens for one in losses.values()])
    nats = np.concatenate([one.nats for one in losses.values()])
    groups = {}
    for level in levels:
        chosen = choose_subset(documents, level_of, levels, placebo_group(level, seed))
        rows = np.flatnonzero(np.isin(documents, chosen))
        rows = rows[np.argsort(documents[rows])]
        name = group_name(level)
        groups[name] = LevelLosses(level=name, documents=documents[rows], tokens=tokens[rows], nats=nats[rows])
    return groups


def group_name(level: str) -> str:
    """The placebo group that stands for a level, among the resamples; no level can be called so."""
    return f"~{level}"


def assess_control(
    kind: str,
    roles: RoleModels,
    resamples: Resamples,
    levels: Sequence[str],
    *,
    confirmed: Collection[str],
    margin: float,
    confidence: float,
) -> list[ControlFinding]:
    """The overall finding, then one per level of `levels`, in their order.

    Args:
        roles: who plays 'general', 'specialised' and `kind`.
        resamples: of the levels, and for placebos of their groups.
        confirmed: the scopes on which H1 is confirmed.
        margin: of H1.
    """
    tested: dict[str, _Tested] = {}
    findings: dict[str, ControlFinding] = {}
    for level in levels:
        if reason := _obstacle(kind, roles, resamples, level):
            findings[level] = ControlFinding(kind=kind, scope=level, verdict=ControlVerdict.NOT_TESTED, note=reason)
        else:
            tested[level] = _test(kind, roles, resamples, [level], margin, confidence)
    own = holm([test.p_own for test in tested.values()])
    remaining = holm([test.p_remaining for test in tested.values()])
    tail = (1.0 - confidence) / 2.0
    for (level, test), p_own, p_remaining in zip(tested.items(), own, remaining, strict=True):
        adjusted = replace(test, p_own=p_own, p_remaining=p_remaining)
        findings[level] = _decide(adjusted, level, tail, is_gain=level in confirmed)
    ordered = [findings[level] for level in levels]
    if not tested:
        note = "; ".join(f"{finding.scope}: {finding.note}" for finding in ordered)
        return [ControlFinding(kind=kind, scope=OVERALL, verdict=ControlVerdict.NOT_TESTED, note=note), *ordered]
    together = _test(kind, roles, resamples, list(tested), margin, confidence)
    return [_decide(together, OVERALL, tail, is_gain=OVERALL in confirmed), *ordered]


def _obstacle(kind: str, roles: RoleModels, resamples: Resamples, level: str) -> str:
    for role in ("general", "specialised", kind):
        if reason := roles.absent.get((role, level)):
            return reason
        if not roles.by_role.get(role, {}).get(level):
            return f"no {role.replace('_', '-')} model in the trials"
    for place in (level, group_name(level)) if kind == PLACEBO else (level,):
        if place not in resamples.levels:
            return "no test documents"
        if (clusters := resamples.levels[place].clusters) < MIN_CLUSTERS:
            return f"its test documents are by {clusters} independent writers only; at least {MIN_CLUSTERS} are needed"
    return ""


def _test(
    kind: str, roles: RoleModels, resamples: Resamples, levels: Sequence[str], margin: float, confidence: float
) -> _Tested:
    raw_parts, own_parts = [], []
    share = 1.0 / len(levels)
    for level in levels:
        general, special, control = (roles.by_role[role][level] for role in ("general", "specialised", kind))
        place = group_name(level) if kind == PLACEBO else level
        raw_parts += [Part(weight=share, level=level, models=general), Part(weight=-share, level=level, models=special)]
        own_parts += [Part(weight=share, level=place, models=general), Part(weight=-share, level=place, models=control)]
    raw, own = measure(resamples, raw_parts), measure(resamples, own_parts)
    negated = [replace(part, weight=-part.weight) for part in own_parts]
    remaining = measure(resamples, [*raw_parts, *negated])
    finding = ControlFinding(
        kind=kind,
        scope=levels[0],
        verdict=ControlVerdict.OPEN,
        raw=_ratio(raw, confidence),
        own=_ratio(own, confidence),
        remaining=_ratio(remaining, confidence),
        explained_share=own.estimate / raw.estimate if raw.estimate > 0.0 else None,
        levels=tuple(levels),
        documents=raw.documents,
    )
    return _Tested(finding=finding, p_own=own.p_not_above(0.0), p_remaining=remaining.p_not_above(log(margin)))


def _ratio(measured: Measured, confidence: float) -> Ratio:
    low, high = measured.interval(confidence)
    return Ratio(value=exp(measured.estimate), low=exp(low), high=exp(high))


def _decide(test: _Tested, scope: str, tail: float, *, is_gain: bool) -> ControlFinding:
    if not is_gain:
        verdict = ControlVerdict.NO_GAIN
    elif test.p_remaining <= tail:
        verdict = ControlVerdict.SURVIVES
    elif test.p_own <= tail and (test.finding.explained_share or 0.0) >= EXPLAINS:
        verdict = ControlVerdict.EXPLAINED
    else:
        verdict = ControlVerdict.OPEN
    return replace(test.finding, scope=scope, verdict=verdict, p_own=test.p_own, p_remaining=test.p_remaining)
