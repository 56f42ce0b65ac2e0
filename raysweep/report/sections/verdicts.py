"""Verdicts: is each hypothesis confirmed, overall and on each level, and what does that rest on?"""

from markupsafe import Markup

from raysweep.evidence import formats
from raysweep.evidence.answer import verdict_words
from raysweep.evidence.evidence_schema import ClaimFinding, Evidence, ScopeAdvice
from raysweep.evidence.lineup import ROLE_NAMES
from raysweep.report.labels import MARKS, confidence_level, verdict_cell
from raysweep.report.layout import Block, Figure, ReportSection, paragraph
from raysweep.report.svg import Interval, Reference, interval_plot
from raysweep.report.tables import Cell, Column, Table, estimates, limits, numbers, words

Scopes = dict[str, ClaimFinding]


def verdict_section(evidence: Evidence) -> ReportSection:
    """The grid of verdicts, the forest plot, and the numbers behind them."""
    definitions = paragraph(
        "A claim is <strong>confirmed</strong> if its whole interval lies beyond the margin, <strong>refuted</strong> "
        "if the whole interval lies on the other side, and <strong>undecided</strong> if there are too few data to "
        "tell. The intervals of levels hold for all levels together. PPL is perplexity. A claim about “the best other” "
        "must hold against every other kind of model, so that the best is never chosen by its test scores."
    )
    caption = (
        "A diamond shows all tested levels together, a dot one level. Filled marks are decided, hollow marks "
        "undecided. The dashed lines mark equality and the margins."
    )
    blocks: list[Block] = [
        definitions,
        _grid(evidence),
        _advice(evidence),
        Figure(_forest(evidence), caption),
        _findings(evidence),
        _by_share(evidence),
    ]
    return ReportSection("verdicts", "Verdicts", blocks)


def _advice(evidence: Evidence) -> Table[ScopeAdvice]:
    """What the tests support on each level, and the two tests that no hypothesis names."""
    return Table[ScopeAdvice](
        "advice",
        "What the tests support on each level. Two claims are tested beside the hypotheses: that a level's own model "
        "beats every other kind, and that some adapted model beats the general one. Each claim is corrected by Holm "
        "over the levels",
        evidence.advice,
        words("Level", "scope", lambda advice: "Overall" if advice.scope == "overall" else advice.scope),
        words("Advice", "way", lambda advice: advice.text),
        numbers("Own model ÷ best other", "own_ratio", formats.ratio),
        numbers("p, own model best", "own_p", formats.p_value),
        numbers("p, general model beaten", "plain_p", formats.p_value),
    )


def _by_share(evidence: Evidence) -> Table[ClaimFinding]:
    """The overall ratios under both weightings of the levels."""
    return Table[ClaimFinding](
        "by_share",
        "The overall ratios under two weightings: every level the same, and each level by its share of the documents "
        "of the corpus",
        [finding for finding in evidence.findings if finding.by_share is not None],
        words("Hypothesis", "hypothesis"),
        Column("Every level the same", ("verdict",), _verdict, is_number=False),
        estimates("Ratio", "ratio", formats.ratio, lambda finding: finding),
        words("By share", "verdict_by_share", lambda finding: finding.by_share.verdict if finding.by_share else ""),
        estimates("Ratio by share", "ratio_by_share", formats.ratio, lambda finding: finding.by_share),
    )


def _grid(evidence: Evidence) -> Table[Scopes]:
    """One row per hypothesis: overall, then each level."""
    hypotheses: dict[str, Scopes] = {}
    for finding in evidence.findings:
        hypotheses.setdefault(finding.hypothesis, {})[finding.scope] = finding

    def verdicts(scope: str) -> Column[Scopes]:
        title = "Overall" if scope == "overall" else scope
        return Column(title, (scope,), lambda row: _verdict(row[scope]), is_number=False)

    return Table[Scopes](
        "verdicts",
        f"Verdicts, overall and per level ({confidence_level(evidence)} confidence, Holm-corrected over the levels)",
        list(hypotheses.values()),
        words(
            "Hypothesis", "hypothesis", lambda row: row["overall"].hypothesis, detail=lambda row: _claim(row["overall"])
        ),
        *map(verdicts, ("overall", *evidence.levels)),
    )


def _findings(evidence: Evidence) -> Table[ClaimFinding]:
    """Everything a verdict rests on, a row each."""
    clusters = "learners" if evidence.settings.clusters == "learner" else "independent"

    def documents(finding: ClaimFinding) -> Cell:
        return Cell(
            text=formats.count(finding.documents or None),
            values=(finding.documents, finding.clusters, finding.effective),
            detail=f"{finding.clusters:,} {clusters}, weighing as {finding.effective:,.0f}"
            if finding.effective
            else "",
        )

    def alone(finding: ClaimFinding) -> Cell:
        low, high = finding.alone_low, finding.alone_high
        shown = formats.NONE if low is None else f"{formats.ratio(low)} to {formats.ratio(high)}"
        return Cell(text=shown, values=(low, high))

    return Table[ClaimFinding](
        "findings",
        "The numbers behind each verdict. On levels, p-values and the interval of the ratio are Holm-corrected, so an "
        "interval and its verdict agree; beside it is the interval of this level alone, without the correction. The "
        "last ratio leaves out the learner who moves it most",
        evidence.findings,
        Column("Claim", ("hypothesis", "scope"), _claim_and_scope, is_number=False),
        Column("Verdict", ("verdict",), _verdict, is_number=False),
        estimates("Ratio, for all levels together", "ratio", formats.ratio, lambda finding: finding),
        Column("This level alone", ("alone_low", "alone_high"), alone, is_number=True),
        words("Against", "rival", lambda finding: ROLE_NAMES.get(finding.rival, finding.rival) or formats.NONE),
        numbers("p, confirm", "p_confirm", formats.p_value),
        numbers("p, refute", "p_refute", formats.p_value),
        numbers("Without one learner", "without_one", formats.ratio),
        Column("Documents", ("documents", "clusters", "effective"), documents),
        words("Note", "note"),
    )


def _forest(evidence: Evidence) -> Markup:
    """All verdicts: ratios with intervals, the margins as lines."""
    rows: list[Interval] = []
    for finding in evidence.findings:
        if finding.scope == "overall":
            rows.append(Interval(label=f"{finding.hypothesis}  {_claim(finding)}", text="", is_heading=True))
        verdict = finding.verdict
        shown = f"{formats.ratio(finding.value)} {limits(finding, formats.ratio)} " if finding.value else ""
        rows.append(
            Interval(
                label=finding.scope,
                text=f"{shown}{MARKS[verdict]} {verdict}",
                value=finding.value,
                low=finding.low,
                high=finding.high,
                style=verdict.replace(" ", "-"),
                is_summary=finding.scope == "overall",
            )
        )
    margins = sorted({1.0, *evidence.settings.margins.values()})
    return interval_plot(
        "forest",
        "Forest plot of the hypotheses",
        "For each hypothesis and level the ratio of perplexities with its interval; every number is in the table.",
        rows,
        [Reference(value=margin, label=f"{margin:.2f}") for margin in margins],
        "ratio of perplexities (logarithmic)",
    )


def _claim(finding: ClaimFinding) -> str:
    """The hypothesis as one sentence with its margin."""
    return {
        "H1": f"Specialisation matters: PPL general ÷ PPL specialised is above {finding.margin:.2f}",
        "H2": f"The general model suffices: PPL general ÷ PPL best other is below {finding.margin:.2f}",
        "H3": f"Transfer is best: PPL fine-tuned ÷ PPL best other is below {finding.margin:.2f}",
    }[finding.hypothesis]


def _claim_and_scope(finding: ClaimFinding) -> Cell:
    return Cell(text=f"{finding.hypothesis} {finding.scope}", values=(finding.hypothesis, finding.scope))


def _verdict(finding: ClaimFinding) -> Cell:
    notes = ["leaky split"] if finding.leaky else []
    if verdict_words(finding.verdict, finding.seeds) != finding.verdict:
        notes.append("these trained models")
    notes += [f"explained by: {ROLE_NAMES[kind]}" for kind in finding.explained_by]
    return verdict_cell(finding.verdict, "; ".join(notes))
