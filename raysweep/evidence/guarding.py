"""Collects what the guards look at: the leaks of the split and their size, and the controls of the gains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raysweep.config.schema import Config
from raysweep.evidence.guards import (
    add_controls,
    describe_leaks,
    guard_findings,
    guard_words,
    is_control,
    leak_effects,
    plain_control,
    read_leaky_documents,
)
from raysweep.evidence.lineup import Entrant, role_models
from raysweep.evidence.scores import Scores
from raysweep.evidence.trainings import read_if_there
from raysweep.scheduling.control_trials import CONTROL_KINDS
from raysweep.statistics.bootstrap import Resamples, resample_levels
from raysweep.statistics.control_verdicts import PLACEBO, assess_control, placebo_losses
from raysweep.statistics.hypotheses import Verdict
from raysweep.statistics.leak_effects import LeakyDocuments
from raysweep.statistics.loss_table import LevelLosses
from raysweep.storage.run_folder import RunFolder

Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Guarded:
    """The findings as they may be told, and what the guards found."""

    findings: list[Values]
    leaks: Values
    controls: Values


def guard(
    folder: RunFolder,
    config: Config,
    lineup: Sequence[Entrant],
    losses: Mapping[str, LevelLosses],
    resamples: Resamples,
    learner_of: Mapping[int, str],
    findings: Sequence[Values],
) -> Guarded:
    """Look for leaks, judge the controls, and refuse or mark what they touch.

    Args:
        lineup: every row, controls included.
        findings: of the hypotheses, as if there were no guards.
    """
    leaks = _describe_leaks(folder, config, lineup, losses, resamples.models, learner_of)
    judged = _assess_controls(config, lineup, losses, resamples, learner_of, findings)
    guarded, controls = guard_findings(findings, leaks, judged)
    beside = [one for one in lineup if is_control(one)]
    rows = Scores(beside, config.data.levels, resamples, config.report.confidence).matrix()
    return Guarded(findings=guarded, leaks=leaks, controls={"findings": controls, "rows": rows})


def guard_answer(answer: Values, guarded: Guarded) -> Values:
    """The answer, with what a reader must know before believing it."""
    return guard_words(answer, guarded.findings, guarded.leaks, guarded.controls["findings"])


def _describe_leaks(
    folder: RunFolder,
    config: Config,
    lineup: Sequence[Entrant],
    losses: Mapping[str, LevelLosses],
    models: Sequence[str],
    learner_of: Mapping[int, str],
) -> Values:
    """What leaks, and how much easier the models find what leaked."""
    leaks = describe_leaks(read_if_there(folder.leakage), allowed=config.report.allow_leaks)
    documents = read_leaky_documents(folder.leaks) if leaks["is_leaky"] else []
    if not documents:
        return leaks
    leaky = LeakyDocuments(
        losses,
        models,
        documents,
        resamples=config.report.resamples,
        seed=config.seed,
        clusters=learner_of,
    )
    return {**leaks, "effects": leak_effects(lineup, config.data.levels, leaky, config.report.confidence)}


def _assess_controls(
    config: Config,
    lineup: Sequence[Entrant],
    losses: Mapping[str, LevelLosses],
    resamples: Resamples,
    learner_of: Mapping[int, str],
    findings: Sequence[Values],
) -> list[Values]:
    """What every kind of control that was asked for says of H1."""
    controls = [one for one in lineup if is_control(one)]
    roles = add_controls(role_models([one for one in lineup if not is_control(one)], config.data.levels), controls)
    kinds = [kind for kind in CONTROL_KINDS if any(one.role == kind for one in controls)]
    if PLACEBO in kinds:
        groups = resample_levels(
            placebo_losses(losses, config.seed),
            resamples.models,
            resamples=config.report.resamples,
            seed=config.seed,
            clusters=learner_of,
        )
        resamples = replace(resamples, levels={**resamples.levels, **groups.levels})
    gains = [one["scope"] for one in findings if (one["hypothesis"], one["verdict"]) == ("H1", Verdict.CONFIRMED)]
    return [
        plain_control(finding)
        for kind in kinds
        for finding in assess_control(
            kind,
            roles,
            resamples,
            config.data.levels,
            confirmed=gains,
            margin=config.report.hypotheses.specialisation.margin,
            confidence=config.report.confidence,
        )
    ]
