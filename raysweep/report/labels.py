"""How verdicts, the metric and the levels are shown, in every section alike."""

from raysweep.config.scored_metrics import METRIC_NAMES
from raysweep.evidence.claim_words import TOO_FEW
from raysweep.evidence.evidence_schema import ClaimFinding, Evidence
from raysweep.evidence.formats import SPACE
from raysweep.report.tables import Cell

MARKS = {"confirmed": "✔", "refuted": "✘", "undecided": "?", "not tested": "–"}


def verdict_cell(verdict: str, detail: str = "", *, shown: str = "") -> Cell:
    """A verdict with its sign and colour; `shown` are other words for it."""
    return Cell(text=f"{MARKS[verdict]} {shown or verdict}", values=(verdict,), mark=verdict, detail=detail)


def short_verdict(finding: ClaimFinding) -> str:
    """The verdict in one to three words."""
    return TOO_FEW if finding.too_few else str(finding.verdict)


def metric_name(evidence: Evidence) -> str:
    """The metric that the report is about."""
    return METRIC_NAMES[evidence.settings.metric]


def confidence_level(evidence: Evidence) -> str:
    """`95 %`."""
    return f"{evidence.settings.confidence * 100:g}{SPACE}%"


def compared_levels(evidence: Evidence) -> str:
    """The levels on which the strategies are compared; a level that lacks a model is left out."""
    common = evidence.common_levels
    return "all levels" if common == evidence.levels else ", ".join(common) or "no level"


def resampling_said(documents: int, without_learner: int) -> str:
    """What the intervals of a corpus resample, in a sentence."""
    if without_learner == documents:
        return "Intervals come from resampling documents, for learners are not known."
    sentence = "Intervals come from resampling learners"
    if not without_learner:
        return f"{sentence}."
    return f"{sentence}; {without_learner:,} of {documents:,} documents, whose learner is not known, count as one each."


def is_synthetic(evidence: Evidence) -> bool:
    """Were the texts made by a program rather than written by learners?"""
    return bool((evidence.corpus or {}).get("synthetic"))
