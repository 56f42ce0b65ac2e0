"""Guards against false conclusions: leaks of the split, and controls that explain a gain.

The prepare stage records which test documents another split contains.  If there are any, nothing is
tested unless `report.allow_leaks` is set; then every verdict is marked.  Controls are judged in
`statistics/control_verdicts.py`; what they explain is noted in the findings on H1 and in the answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysweep.config.schema import Config
from raysweep.config.trial_names import CONTROL_KINDS
from raysweep.evidence import formats
from raysweep.evidence.advice import supports_own_models
from raysweep.evidence.evidence_schema import ClaimFinding, Recommendation, ScopeAdvice
from raysweep.evidence.inputs import read_if_there
from raysweep.evidence.lineup import ROLE_NAMES, Entrant
from raysweep.evidence.robustness_schema import LeakEffectRow, Leaks
from raysweep.scheduling.trials import START_MODEL
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.claims import OVERALL, Finding, Hypothesis, Verdict, target_status
from raysweep.statistics.control_verdicts import (
    ControlFinding,
    ControlVerdict,
    assess_control,
)
from raysweep.statistics.leak_effects import LeakyDocuments
from raysweep.statistics.loss_table import LevelLosses
from raysweep.statistics.placebo_draws import PLACEBO, placebo_losses
from raysweep.statistics.role_models import RoleModels
from raysweep.storage.arrow_arrays import text_scalar
from raysweep.storage.run_folder import RunFolder

LEAK_WORDS = {
    "id": "the same id",
    "text": "the same text",
    "near": "almost the same text",
    "learner": "the same learner",
    "prompt": "the same writing prompt",
}
EXPLAINED_BY = {
    "size_matched": "a model on as many documents of all levels, trained as long, does as well",
    "step_matched": "a model on all documents, trained with the same settings and steps, does as well",
    "placebo": "models of random groups of the same sizes gain as much on their own groups",
    "compute_matched": "a general model that is trained as long as all level models together does as well",
    "exposure_matched": "a general model that sees as many examples of each level as its own model does as well",
}


def describe_leaks(
    folder: RunFolder,
    config: Config,
    entrants: Sequence[Entrant],
    losses: Mapping[str, LevelLosses],
    resamples: Resamples,
) -> Leaks:
    """Count the test documents that another split contains, and measure how much easier all models find them."""
    record: Mapping[str, Any] = read_if_there(folder.leakage) or {}
    if "leaky_test_documents" in record:
        is_leaky = record["leaky_test_documents"] > 0
    else:  # a record of an earlier version
        is_leaky = any(record.get(f"{name}_in_two_splits") for name in ("ids", "learners", "texts"))
    documents = _read_leaky_documents(folder) if is_leaky else []
    leaky = LeakyDocuments(losses, documents, resamples) if documents else None
    return Leaks(
        is_leaky=is_leaky,
        is_refused=is_leaky and not config.report.allow_leaks,
        test_documents=record.get("test_documents"),
        leaky_documents=record.get("leaky_test_documents"),
        by_kind=dict(record.get("leaky_by_kind", {})),
        effects=_leak_effects(entrants, config.data.levels, leaky, config.report.confidence) if leaky else (),
    )


def _read_leaky_documents(folder: RunFolder) -> list[int]:
    """Read the numbers of the test documents that another split contains; [] if the search left no list."""
    if not folder.leaks.exists():
        return []
    # Not `read_table`, which would import pandas.
    with pq.ParquetFile(folder.leaks, page_checksum_verification=True) as file:
        table = file.read(columns=["document", "split"])
    return sorted(set(table["document"].filter(pc.equal(table["split"], text_scalar("test"))).to_pylist()))


def _leak_effects(
    entrants: Sequence[Entrant], levels: Sequence[str], leaky: LeakyDocuments, confidence: float
) -> tuple[LeakEffectRow, ...]:
    """Measure the leakage effect of each row of the report, on its own level if it has one."""
    start = START_MODEL if any(entrant.role == "start" for entrant in entrants) else None
    rows = []
    for entrant in entrants:
        if not entrant.models:
            continue
        own_levels = [entrant.level] if entrant.level is not None else levels
        effect = leaky.effect(entrant.models, own_levels, start if entrant.role != "start" else None, confidence)
        if effect is not None:
            rows.append(LeakEffectRow(name=entrant.name, role=entrant.role, level=entrant.level, **dict(effect)))
    return tuple(rows)


def judge_controls(
    config: Config,
    roles: RoleModels,
    losses: Mapping[str, LevelLosses],
    resamples: Resamples,
    findings: Sequence[Finding],
    leaks: Leaks,
) -> tuple[ControlFinding, ...]:
    """Judge every kind of control that was configured; on a refused split, only state that none was tested.

    Args:
        findings: on the hypotheses, as if nothing leaked.
    """
    kinds = [kind for kind in CONTROL_KINDS if roles.is_planned(kind)]
    if PLACEBO in kinds:
        draws = range(1, config.controls.placebo_draws + 1)
        groups = resamples.again_together([placebo_losses(losses, config.seed, draw) for draw in draws])
        by_group = {name: drawn for group in groups for name, drawn in group.levels.items()}
        resamples = replace(resamples, levels={**resamples.levels, **by_group})
    gains = [
        finding.scope for finding in findings if finding.hypothesis == "H1" and finding.verdict is Verdict.CONFIRMED
    ]
    judged = [
        finding
        for kind in kinds
        for finding in assess_control(
            kind,
            roles,
            resamples,
            config.data.levels,
            confirmed=gains,
            smallest_effect=config.report.hypotheses.specialisation.smallest_effect,
            confidence=config.report.confidence,
        )
    ]
    if not leaks.is_refused:
        return tuple(judged)
    reason = f"refused: {leaks_said(leaks)}"
    return tuple(
        ControlFinding.not_tested(
            finding.kind,
            finding.scope,
            reason,
            smallest_effect=finding.smallest_effect,
            levels=finding.levels,
            documents=finding.documents,
        )
        for finding in judged
    )


def guard_findings(
    findings: Sequence[Finding],
    hypotheses: Sequence[Hypothesis],
    leaks: Leaks,
    controls: Sequence[ControlFinding],
    target: float,
    lacks: Mapping[str, str],
) -> tuple[ClaimFinding, ...]:
    """Refuse or mark the findings on a leaky split, and note which controls explain a gain.

    Args:
        target: the gain that H1's findings are compared with.
        lacks: per level why its test documents are by too few learners, or ''.
    """
    by_code = {hypothesis.code: hypothesis for hypothesis in hypotheses}

    def is_too_few(finding: Finding) -> bool:
        """Return whether there are too few learners, and nothing else is wrong."""
        if finding.verdict is not Verdict.NOT_TESTED:
            return False
        if finding.scope != OVERALL:
            return bool(finding.note) and finding.note == lacks[finding.scope]
        return all(
            is_too_few(other) for other in findings if other.hypothesis == finding.hypothesis and other is not finding
        )

    return tuple(
        _guard(finding, by_code[finding.hypothesis], leaks, controls, target, too_few=is_too_few(finding))
        for finding in findings
    )


def _guard(
    finding: Finding,
    hypothesis: Hypothesis,
    leaks: Leaks,
    controls: Sequence[ControlFinding],
    target: float,
    *,
    too_few: bool,
) -> ClaimFinding:
    is_h1 = hypothesis.code == "H1"
    explained_by = [
        control.kind
        for control in controls
        if is_h1 and control.scope == finding.scope and control.verdict is ControlVerdict.EXPLAINED
    ]
    if leaks.is_refused:
        finding = Finding(
            hypothesis=finding.hypothesis,
            scope=finding.scope,
            verdict=Verdict.NOT_TESTED,
            margin=finding.margin,
            against=finding.against,
            levels=finding.levels,
            documents=finding.documents,
            clusters=finding.clusters,
            note=f"refused: {leaks_said(leaks)}; --allow-leaks tests it all the same",
        )
    elif explained_by:
        names = ", ".join(f"the {ROLE_NAMES[kind]}" for kind in explained_by)
        note = f"the level does not explain the gain: so much is gained by {names}"
        finding = replace(finding, note="; ".join(filter(None, [finding.note, note])))
    return ClaimFinding(
        **asdict(finding),
        name=hypothesis.name,
        claim="above" if hypothesis.above else "below",
        numerator=hypothesis.numerator,
        too_few=too_few and not leaks.is_refused,
        target=target_status(finding, target) if is_h1 else None,
        leaky=leaks.is_leaky,
        explained_by=tuple(explained_by),
    )


def guard_answer(
    answer: Recommendation,
    advice: Sequence[ScopeAdvice],
    findings: Sequence[ClaimFinding],
    leaks: Leaks,
    controls: Sequence[ControlFinding],
) -> Recommendation:
    """Add to the answer what a reader must know before believing it."""
    headline, warnings = answer.headline, list(answer.warnings)
    overall = next((finding for finding in findings if finding.hypothesis == "H1" and finding.scope == OVERALL), None)
    if supports_own_models(advice) and overall is not None and overall.explained_by:
        headline = f"A model per level gains, but not because of the level: {EXPLAINED_BY[overall.explained_by[0]]}."
    warnings += [sentence for kind in CONTROL_KINDS if (sentence := _control_said(kind, controls))]
    if leaks.is_refused:
        headline = f"No verdict: {leaks_said(leaks)}."
        warnings.insert(0, "Verdicts on a leaky split are refused. --allow-leaks gives them, marked as such.")
    elif leaks.is_leaky:
        headline = f"On a leaky split: {headline}"
        warnings.insert(0, f"The split is leaky: {leaks_said(leaks)}. No number here can be trusted fully.")
    return answer.model_copy(update={"headline": headline, "warnings": tuple(warnings)})


def leaks_said(leaks: Leaks) -> str:
    """State the number and kinds of leaks, as a sentence without its full stop."""
    if leaks.leaky_documents is None:
        return "documents of the test split are known to another split"
    kinds = [f"{words}: {count:,}" for kind, words in LEAK_WORDS.items() if (count := leaks.by_kind.get(kind))]
    verb = "is" if leaks.leaky_documents == 1 else "are"
    sentence = f"{leaks.leaky_documents:,} of {leaks.test_documents:,} test documents {verb} known to train or valid"
    return f"{sentence} ({', '.join(kinds)})" if kinds else sentence


def _control_said(kind: str, controls: Sequence[ControlFinding]) -> str:
    """Describe a kind of control in a sentence; '' if there is no such control, or no gain."""
    scopes: dict[ControlVerdict, list[str]] = {}
    for control in controls:
        if control.kind == kind:
            scopes.setdefault(control.verdict, []).append(control.scope)
    parts = [
        f"{words} {_scopes_said(scopes[verdict])}"
        for verdict, words in (
            (ControlVerdict.EXPLAINED, f"explains the gain ({EXPLAINED_BY[kind]})"),
            (ControlVerdict.SURVIVES, "does not explain the gain"),
            (ControlVerdict.OPEN, "leaves open what explains the gain"),
            (ControlVerdict.NO_GAIN, "finds no confirmed gain to explain"),
        )
        if verdict in scopes
    ]
    return f"The {ROLE_NAMES[kind]} {'; it '.join(parts)}{_share_said(kind, controls)}." if parts else ""


def _share_said(kind: str, controls: Sequence[ControlFinding]) -> str:
    """State the share of the overall gain that the control explains, with its interval."""
    overall = next((control for control in controls if (control.kind, control.scope) == (kind, OVERALL)), None)
    if overall is None or overall.explained_share is None or overall.share_low is None:
        return ""
    limits = f"{formats.share(overall.share_low)} to {formats.share(overall.share_high)}"
    remains = f"a remaining gain matters if the perplexity is {formats.change(overall.smallest_effect)} or more"
    return f". Overall it explains {formats.share(overall.explained_share)} ({limits}) of the gain; {remains}"


def _scopes_said(scopes: Sequence[str]) -> str:
    levels = [scope for scope in scopes if scope != OVERALL]
    words = ["overall"] * (OVERALL in scopes) + ([f"on {', '.join(levels)}"] if levels else [])
    return " and ".join(words)
