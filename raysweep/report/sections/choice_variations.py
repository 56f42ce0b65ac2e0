"""Section on sensitivity: does the recommendation hold if one choice of the analysis is changed?"""

from raysweep.config.scored_metrics import METRIC_NAMES
from raysweep.evidence import formats
from raysweep.evidence.claim_words import in_one_direction
from raysweep.evidence.evidence_schema import Evidence
from raysweep.evidence.robustness_schema import Changed, SensitivityVariation
from raysweep.evidence.verdict_changes import margins_said
from raysweep.report.labels import verdict_cell
from raysweep.report.layout import ReportSection, absent, paragraph
from raysweep.report.tables import Cell, Column, Table, numbers, words

_OUTCOMES = {"holds": "holds", "open": "open: less is supported", "changes": "changes"}


def sensitivity_section(evidence: Evidence) -> ReportSection:
    """Make a row per variation: what it would recommend, and which verdicts change."""
    text = absent("No hypothesis was tested, so there is nothing to vary.")
    if evidence.sensitivity.variations:
        text = paragraph(
            "{} {} In each row one choice is changed and everything is judged again, with the same bootstrap "
            "resamples.",
            evidence.sensitivity.sentence,
            margins_said(evidence.sensitivity.margins),
        )
    return ReportSection("sensitivity", "What would change the recommendation", [text, _variations(evidence)])


def _variations(evidence: Evidence) -> Table[SensitivityVariation]:
    base = {finding.hypothesis: finding.verdict for finding in evidence.findings if finding.scope == "overall"}

    def verdicts(hypothesis: str) -> Column[SensitivityVariation]:
        def cell(variation: SensitivityVariation) -> Cell:
            varied = variation.verdicts[hypothesis]
            change = "holds" if varied.verdict == base[hypothesis] else f"was {base[hypothesis]}"
            ratio = in_one_direction(hypothesis, varied.value)
            value = formats.percent(ratio) if ratio is not None else ""
            return verdict_cell(varied.verdict, ", ".join(part for part in (change, value) if part))

        return Column(hypothesis, (f"verdict_{hypothesis}",), cell, is_number=False)

    return Table[SensitivityVariation](
        "sensitivity",
        "The recommendation and the overall verdicts after changing one choice and no other",
        evidence.sensitivity.variations,
        words("Choice", "choice", lambda variation: variation.group),
        words("Changed to", "variation", lambda variation: METRIC_NAMES.get(variation.name, variation.name)),
        numbers("Documents", "documents", formats.count),
        words(
            "Recommendation",
            "outcome",
            lambda variation: _OUTCOMES[variation.outcome],
            detail=lambda variation: variation.headline if variation.outcome == "changes" else "",
        ),
        *map(verdicts, dict.fromkeys(finding.hypothesis for finding in evidence.findings)),
        Column("Levels' verdicts changed", ("level_verdicts_changed",), _changed_on_levels),
    )


def _changed_on_levels(variation: SensitivityVariation) -> Cell:
    """Count the verdicts on levels that change, and list them: `H1 A1, B2 undecided; H2 C1 confirmed`."""
    changed: list[Changed] = [change for change in variation.changed if change.scope != "overall"]
    levels: dict[tuple[str, str], list[str]] = {}
    for change in changed:
        levels.setdefault((change.hypothesis, change.verdict), []).append(change.scope)
    detail = "; ".join(f"{code} {', '.join(scopes)} {verdict}" for (code, verdict), scopes in levels.items())
    return Cell(text=formats.count(len(changed)), values=(len(changed),), detail=detail)
