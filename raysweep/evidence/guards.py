"""The guards against being fooled: no verdict on a leaky split, none for a gain that a control explains.

Leaks are what the prepare stage found in the finished corpus.  While a test document is known to
training, nothing is tested, unless `report.allow_leaks` says so; then everything that rests on such a
split is marked.  Controls are judged in `statistics/controls.py`; what they say of H1 goes into its
findings and into the answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysweep.evidence.lineup import Entrant
from raysweep.scheduling.control_trials import CONTROL_KINDS
from raysweep.scheduling.trials import START_MODEL
from raysweep.statistics.control_verdicts import ControlVerdict, Ratio
from raysweep.statistics.hypotheses import OVERALL, RoleModels, Verdict
from raysweep.statistics.leak_effects import LeakyDocuments

Values = dict[str, Any]
LEAK_WORDS = {
    "id": "the same id",
    "text": "the same text",
    "near": "almost the same text",
    "learner": "the same learner",
}
SPECIALISE = "Train a model of its own for each level."
CONTROL_NAMES = {"size_matched": "size control", "step_matched": "step control", "placebo": "placebo"}
EXPLAINED_BY = {
    "size_matched": "a model on as many documents of all levels, trained as long, does as well",
    "step_matched": "a model on all documents, trained with the same settings and steps, does as well",
    "placebo": "models of random groups of the same sizes gain as much on their own groups",
}
_UNTESTED = ("value", "low", "high", "p_confirm", "p_refute", "more_documents", "more_seeds")


def describe_leaks(leakage: Mapping[str, Any] | None, *, allowed: bool) -> Values:
    """Whether test documents are known to training, how many, and whether verdicts are given all the same."""
    found = leakage or {}
    if "leaky_test_documents" in found:
        is_leaky = found["leaky_test_documents"] > 0
    else:  # a record of an earlier version
        is_leaky = any(found.get(f"{name}_in_two_splits") for name in ("ids", "learners", "texts"))
    return {
        "is_leaky": is_leaky,
        "is_refused": is_leaky and not allowed,
        "test_documents": found.get("test_documents"),
        "leaky_documents": found.get("leaky_test_documents"),
        "by_kind": dict(found.get("leaky_by_kind", {})),
        "effects": [],
    }


def read_leaky_documents(path: Path) -> list[int]:
    """Numbers of the test documents that another split knows; none where the search left no list."""
    if not path.exists():
        return []
    table = pq.read_table(path, columns=["document"], filters=pc.field("split") == "test")
    return sorted(set(table["document"].to_pylist()))


def leak_effects(
    entrants: Sequence[Entrant], levels: Sequence[str], leaky: LeakyDocuments, confidence: float
) -> list[Values]:
    """The size of the lie: each row of the report on leaky and clean test documents; its own level's, if it has one."""
    start = START_MODEL if any(one.role == "start" for one in entrants) else None
    rows = []
    for one in entrants:
        if not one.models:
            continue
        own = [one.level] if one.level is not None else levels
        effect = leaky.effect(one.models, own, start if one.role != "start" else None, confidence)
        if effect is not None:
            rows.append({"name": one.name, "role": one.role, "level": one.level, **asdict(effect)})
    return rows


def is_control(entrant: Entrant) -> bool:
    """Whether a row stands beside the others, to be compared with them and never to be chosen."""
    return entrant.role in CONTROL_KINDS


def add_controls(roles: RoleModels, controls: Sequence[Entrant]) -> RoleModels:
    """The roles with the controls' own beside them."""
    by_role = {**roles.by_role, **{kind: {} for kind in CONTROL_KINDS}}
    absent = dict(roles.absent)
    for one in controls:
        assert one.level is not None
        if one.models:
            by_role[one.role] = {**by_role[one.role], one.level: one.models}
        else:
            absent[one.role, one.level] = one.reason
    return RoleModels(by_role=by_role, absent=absent)


def plain_control(finding: Any) -> Values:
    """A `ControlFinding` as plain values."""
    values = asdict(finding)
    for name in ("raw", "own", "remaining"):
        ratio: Ratio | None = getattr(finding, name)
        values[name] = None if ratio is None else asdict(ratio)
    return {**values, "verdict": finding.verdict.value, "levels": list(finding.levels)}


def guard_findings(
    findings: Sequence[Values], leaks: Values, controls: Sequence[Values]
) -> tuple[list[Values], list[Values]]:
    """Hypotheses' and controls' findings: refused or marked on a leaky split, with what explains a gain."""
    explained: dict[str, list[str]] = {}
    for control in controls:
        if control["verdict"] == ControlVerdict.EXPLAINED:
            explained.setdefault(control["scope"], []).append(control["kind"])
    guarded = []
    for finding in findings:
        by = explained.get(finding["scope"], []) if finding["hypothesis"] == "H1" else []
        marked = {**finding, "leaky": leaks["is_leaky"], "explained_by": by}
        if leaks["is_refused"]:
            marked |= {**dict.fromkeys(_UNTESTED), "verdict": Verdict.NOT_TESTED.value, "explained_by": []}
            marked |= {"note": f"refused: {leaks_said(leaks)}; --allow-leaks tests it all the same", "rival": ""}
            if marked["target"] is not None:
                marked["target"] = Verdict.NOT_TESTED.value
        elif by:
            said = ", ".join(f"the {CONTROL_NAMES[kind]}" for kind in by)
            said = f"the level does not explain the gain: so much is gained by {said}"
            marked["note"] = "; ".join(filter(None, [marked["note"], said]))
        guarded.append(marked)
    if not leaks["is_refused"]:
        return guarded, list(controls)
    nothing = {**dict.fromkeys(("raw", "own", "remaining", "p_own", "p_remaining", "explained_share"))}
    refused = {"verdict": ControlVerdict.NOT_TESTED.value, "note": f"refused: {leaks_said(leaks)}"}
    return guarded, [{**control, **nothing, **refused} for control in controls]


def guard_words(answer: Values, findings: Sequence[Values], leaks: Values, controls: Sequence[Values]) -> Values:
    """The answer, with what a reader must know before believing it."""
    headline, warnings = answer["headline"], list(answer["warnings"])
    overall = next((one for one in findings if one["hypothesis"] == "H1" and one["scope"] == OVERALL), None)
    if headline == SPECIALISE and overall is not None and overall["explained_by"]:
        headline = f"A model per level gains, but not because of the level: {EXPLAINED_BY[overall['explained_by'][0]]}."
    warnings += [said for kind in CONTROL_KINDS if (said := _control_said(kind, controls))]
    if leaks["is_refused"]:
        headline = f"No verdict: {leaks_said(leaks)}."
        warnings.insert(0, "Verdicts on a leaky split are refused. --allow-leaks gives them, marked as such.")
    elif leaks["is_leaky"]:
        headline = f"On a leaky split: {headline}"
        warnings.insert(0, f"The split is leaky: {leaks_said(leaks)}. No number here can be trusted fully.")
    return {**answer, "headline": headline, "warnings": warnings}


def leaks_said(leaks: Values) -> str:
    """How much leaks, in a sentence without its full stop."""
    if leaks["leaky_documents"] is None:
        return "documents of the test split are known to another split"
    kinds = [f"{words}: {count:,}" for kind, words in LEAK_WORDS.items() if (count := leaks["by_kind"].get(kind))]
    verb = "is" if leaks["leaky_documents"] == 1 else "are"
    said = f"{leaks['leaky_documents']:,} of {leaks['test_documents']:,} test documents {verb} known to train or valid"
    return f"{said} ({', '.join(kinds)})" if kinds else said


def _control_said(kind: str, controls: Sequence[Values]) -> str:
    """One sentence of what a kind of control found, or '' if there was no gain or no control."""
    by_verdict: dict[str, list[str]] = {}
    for one in controls:
        if one["kind"] == kind:
            by_verdict.setdefault(one["verdict"], []).append(one["scope"])
    parts = [
        f"{words} {_scopes_said(by_verdict[verdict])}"
        for verdict, words in (
            (ControlVerdict.EXPLAINED.value, f"explains the gain ({EXPLAINED_BY[kind]})"),
            (ControlVerdict.SURVIVES.value, "does not explain the gain"),
            (ControlVerdict.OPEN.value, "leaves open what explains the gain"),
        )
        if by_verdict.get(verdict)
    ]
    return f"The {CONTROL_NAMES[kind]} {'; it '.join(parts)}." if parts else ""


def _scopes_said(scopes: Sequence[str]) -> str:
    levels = [scope for scope in scopes if scope != OVERALL]
    said = ["overall"] * (OVERALL in scopes) + ([f"on {', '.join(levels)}"] if levels else [])
    return " and ".join(said)
