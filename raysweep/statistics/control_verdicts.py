"""The controls' verdicts: is the gain of a level's model more than a gain of size, steps or chance?

Three contrasts of log perplexity for each level, with the same resamples as the hypotheses:

    raw         general − specialised                  gain of the level's model
    own         general − control                      gain of the control
    remaining   raw − own                              gain beyond the control's

Size and step controls are scored on the level's own documents.  A placebo model is scored on the test
documents of its random group, so its own gain and the level's are measured on different documents.

    no gain     H1 is not confirmed: there is nothing to explain
    survives    the remaining gain is above the margin (a part may still be explained)
    explained   it is not, and the control gains at least half as much: it is not the level that helps
    open        neither can be shown

p-values are one-sided and corrected by Holm over the levels, as those of the hypotheses are.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import log

import numpy as np
from pydantic import Field

from raysweep.config.section import Count, Section
from raysweep.corpus.subsets import choose_subset
from raysweep.scheduling.control_trials import placebo_group
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.contrasts import Estimate, Measured, measure
from raysweep.statistics.hypotheses import OVERALL, holm
from raysweep.statistics.loss_table import LevelLosses
from raysweep.statistics.role_models import RoleModels, lack_of_writers, mean_log_ratio

PLACEBO = "placebo"
EXPLAINS = 0.5
"""A control explains the raw gain only if its own gain is at least this share of it."""


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
    p_own: float | None = Field(description="against 'the control gains nothing', after Holm")
    p_remaining: float | None = Field(description="against 'nothing above the margin remains', after Holm")
    explained_share: float | None = Field(description="own / raw, in nats; null without a gain")
    levels: tuple[str, ...]
    documents: Count = Field(description="test documents of the levels")
    note: str = Field(description="why it was not tested")

    @classmethod
    def not_tested(
        cls, kind: str, scope: str, reason: str, *, levels: tuple[str, ...] = (), documents: int = 0
    ) -> "ControlFinding":
        """A finding without numbers."""
        return cls(
            kind=kind,
            scope=scope,
            verdict=ControlVerdict.NOT_TESTED,
            raw=None,
            own=None,
            remaining=None,
            p_own=None,
            p_remaining=None,
            explained_share=None,
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
    p_own: float
    p_remaining: float


def placebo_losses(losses: Mapping[str, LevelLosses], seed: int) -> dict[str, LevelLosses]:
    """Divide the scored test documents into random groups, one for each level and of its size, by group name.

    Args:
        losses: all levels, in the order in which the groups are drawn.
        seed: the run's, with which the groups of train documents were drawn too.
    """
    if not losses:
        return {}
    levels = list(losses)
    level_of = np.concatenate([np.full(len(of_level.documents), level) for level, of_level in losses.items()])
    documents, tokens, nats = (
        np.concatenate([getattr(of_level, name) for of_level in losses.values()])
        for name in ("documents", "tokens", "nats")
    )
    groups = {}
    for level in levels:
        chosen = choose_subset(documents, level_of, levels, placebo_group(level, seed))
        rows = np.flatnonzero(np.isin(documents, chosen))
        rows = rows[np.argsort(documents[rows])]
        name = group_name(level)
        groups[name] = LevelLosses(level=name, documents=documents[rows], tokens=tokens[rows], nats=nats[rows])
    return groups


def group_name(level: str) -> str:
    """Name of a level's placebo group among the resamples; no level can have this name."""
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
        roles: the models of 'general', 'specialised' and `kind`.
        resamples: of the levels, and of their placebo groups.
        confirmed: the scopes on which H1 is confirmed.
        margin: of H1.
    """
    tested: dict[str, _Tested] = {}
    findings: dict[str, ControlFinding] = {}
    for level in levels:
        if reason := _obstacle(kind, roles, resamples, level):
            findings[level] = ControlFinding.not_tested(kind, level, reason)
        else:
            tested[level] = _test(kind, roles, resamples, (level,), margin)
    own = holm([test.p_own for test in tested.values()])
    remaining = holm([test.p_remaining for test in tested.values()])
    for (level, test), p_own, p_remaining in zip(tested.items(), own, remaining, strict=True):
        adjusted = replace(test, p_own=p_own, p_remaining=p_remaining)
        findings[level] = _decide(adjusted, kind, level, confidence, is_gain=level in confirmed)
    ordered = [findings[level] for level in levels]
    if not tested:
        reasons = "; ".join(f"{finding.scope}: {finding.note}" for finding in ordered)
        return [ControlFinding.not_tested(kind, OVERALL, reasons), *ordered]
    together = _test(kind, roles, resamples, tuple(tested), margin)
    return [_decide(together, kind, OVERALL, confidence, is_gain=OVERALL in confirmed), *ordered]


def _obstacle(kind: str, roles: RoleModels, resamples: Resamples, level: str) -> str:
    """Why a level cannot be tested, or ''."""
    for role in ("general", "specialised", kind):
        if reason := roles.absent.get((role, level)):
            return reason
        if not roles.by_role.get(role, {}).get(level):
            return f"no {role.replace('_', '-')} model in the trials"
    groups = (level, group_name(level)) if kind == PLACEBO else (level,)
    return next(filter(None, (lack_of_writers(resamples, group) for group in groups)), "")


def _test(kind: str, roles: RoleModels, resamples: Resamples, levels: tuple[str, ...], margin: float) -> _Tested:
    raw_parts = mean_log_ratio("general", "specialised", roles, levels)
    own_parts = mean_log_ratio("general", kind, roles, levels)
    if kind == PLACEBO:
        own_parts = [replace(part, level=group_name(part.level)) for part in own_parts]
    negated = [replace(part, weight=-part.weight) for part in own_parts]
    own, remaining = measure(resamples, own_parts), measure(resamples, [*raw_parts, *negated])
    return _Tested(
        raw=measure(resamples, raw_parts),
        own=own,
        remaining=remaining,
        levels=levels,
        p_own=own.p_not_above(0.0),
        p_remaining=remaining.p_not_above(log(margin)),
    )


def _decide(test: _Tested, kind: str, scope: str, confidence: float, *, is_gain: bool) -> ControlFinding:
    tail = (1.0 - confidence) / 2.0
    explained_share = test.own.estimate / test.raw.estimate if test.raw.estimate > 0.0 else None
    if not is_gain:
        verdict = ControlVerdict.NO_GAIN
    elif test.p_remaining <= tail:
        verdict = ControlVerdict.SURVIVES
    elif test.p_own <= tail and (explained_share or 0.0) >= EXPLAINS:
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
        p_own=test.p_own,
        p_remaining=test.p_remaining,
        explained_share=explained_share,
        levels=test.levels,
        documents=test.raw.documents,
        note="",
    )
