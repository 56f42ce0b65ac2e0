"""Describes what would change the recommendation: the variations of `statistics.sensitivity`, and a summary."""

from collections.abc import Mapping, Sequence
from typing import Literal

from raysweep.config.scored_metrics import METRIC_NAMES
from raysweep.evidence.advice import advise, headline_of
from raysweep.evidence.evidence_schema import ClaimFinding, ScopeAdvice, WayName
from raysweep.evidence.formats import change
from raysweep.evidence.robustness_schema import Changed, Margins, Sensitivity, SensitivityVariation, VariedVerdict
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.claims import OVERALL, Verdict
from raysweep.statistics.loss_table import LossTable
from raysweep.statistics.sensitivity import Question, Variation, try_variations

NAMED = 4
"""Number of variations named in the sentence; the table has all."""
_NO_ADVICE = {"open", "not tested"}
_GROUPS = {
    "margin": "H2's margin from 5 to 15 %",
    "weighting": "weighting",
    "metric": "metric",
    "kind of mask": "each kind of mask alone",
    "first language": "each first language left out",
}


def describe_sensitivity(
    question: Question,
    table: LossTable,
    resamples: Resamples,
    language_of: Mapping[int, str],
    findings: Sequence[ClaimFinding],
    advice: Sequence[ScopeAdvice],
) -> Sensitivity:
    """Compare each variation with the report's verdicts, and say in one sentence what they change.

    Args:
        findings: the report's; if nothing was tested, nothing is varied.
    """
    is_tested = any(finding.verdict is not Verdict.NOT_TESTED for finding in findings)
    variations = try_variations(question, table, resamples, language_of) if is_tested else []
    base = {(finding.hypothesis, finding.scope): finding.verdict for finding in findings}
    rows = tuple(_describe(variation, base, advice) for variation in variations)
    h2 = next(finding for finding in findings if (finding.hypothesis, finding.scope) == ("H2", OVERALL))
    # H2's overall verdict changes at the ends of its interval.
    margins = Margins(confirmed_above=h2.high, refuted_below=h2.low)
    return Sensitivity(way=advice[0].way, variations=rows, margins=margins, sentence=_sentence(rows, _seeds(findings)))


def _describe(
    variation: Variation, base: Mapping[tuple[str, str], Verdict], advice: Sequence[ScopeAdvice]
) -> SensitivityVariation:
    overall = {finding.hypothesis: finding for finding in variation.findings if finding.scope == OVERALL}
    varied = advise(variation.findings, variation.kinds)
    return SensitivityVariation(
        group=variation.group,
        name=variation.name,
        documents=variation.documents,
        way=varied[0].way,
        headline=headline_of(varied),
        outcome=_outcome(advice, varied),
        verdicts={
            code: VariedVerdict(verdict=finding.verdict, value=finding.value, low=finding.low, high=finding.high)
            for code, finding in overall.items()
        },
        changed=tuple(
            Changed(hypothesis=finding.hypothesis, scope=finding.scope, was=was, verdict=finding.verdict)
            for finding in variation.findings
            if finding.verdict is not (was := base[finding.hypothesis, finding.scope])
        ),
    )


def _outcome(advice: Sequence[ScopeAdvice], varied: Sequence[ScopeAdvice]) -> Literal["holds", "open", "changes"]:
    """Return 'changes' if advice is contradicted, or given where there was none; 'open' if less is supported."""
    changes = {(before.way, after.way) for before, after in zip(advice, varied, strict=True)}
    was_open = all(before in _NO_ADVICE for before, _ in changes)
    if any(_contradict(before, after) or (was_open and after not in _NO_ADVICE) for before, after in changes):
        return "changes"
    return "open" if any(after != before and before not in _NO_ADVICE for before, after in changes) else "holds"


def _contradict(before: WayName, after: WayName) -> bool:
    """Return whether neither of the two ways is a weaker form of the other."""
    if before == after or {before, after} & _NO_ADVICE:
        return False
    return not ({before, after} <= {"adapted", "transfer"} or {before, after} <= {"adapted", "specialised"})


def _seeds(findings: Sequence[ClaimFinding]) -> int:
    """Return the smallest number of trainings of each model over the tested claims."""
    return min((finding.seeds for finding in findings if finding.verdict is not Verdict.NOT_TESTED), default=0)


def _sentence(rows: Sequence[SensitivityVariation], seeds: int) -> str:
    if not rows:
        return "Nothing was varied: there is nothing to judge."
    groups = dict.fromkeys(row.group for row in rows)
    tried = f"{len(rows)} variations ({', '.join(_GROUPS[group] for group in groups)})"
    changes, opens = ([row for row in rows if row.outcome == outcome] for outcome in ("changes", "open"))
    untried = " Other seeds were not tried." if seeds == 1 else ""
    if not changes and not opens:
        if seeds == 1:
            return f"The recommendation holds in all {tried}.{untried}"
        return f"Nothing tried would change the recommendation: it holds in all {tried}."
    parts = [f"holds in {len(rows) - len(changes) - len(opens)}"]
    if changes:
        by_headline: dict[str, list[str]] = {}
        for row in changes[:NAMED]:
            by_headline.setdefault(row.headline.rstrip("."), []).append(_name(row))
        named = "; ".join(f"{', '.join(names)}: “{headline}”" for headline, names in by_headline.items())
        parts.append(f"changes in {len(changes)} ({named}{_more(changes)})")
    if opens:
        parts.append(f"is left open in {len(opens)} ({', '.join(map(_name, opens[:NAMED]))}{_more(opens)})")
    return f"What would change the recommendation: of {tried} it {', '.join(parts[:-1])} and {parts[-1]}.{untried}"


def _name(row: SensitivityVariation) -> str:
    """Return the variation's name, a metric's in words."""
    return METRIC_NAMES.get(row.name, row.name)


def _more(rows: Sequence[SensitivityVariation]) -> str:
    return f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""


def margins_said(margins: Margins) -> str:
    """State the margins at which H2's verdict would change; '' if it was not tested."""
    above, below = margins.confirmed_above, margins.refuted_below
    if above is None or below is None:
        return ""
    return (
        f"By its interval, H2 is confirmed overall if the general model's perplexity may be {change(above)}, and "
        f"refuted if it may be {change(below)} at most."
    )
