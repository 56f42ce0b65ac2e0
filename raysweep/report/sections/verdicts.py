"""Section on the verdicts: whether each hypothesis is confirmed, overall and on each level, and on what basis."""

from markupsafe import Markup

from raysweep.evidence import formats
from raysweep.evidence.claim_words import Comparison, claim_sentence, claim_title, compare, inverse, verdict_words
from raysweep.evidence.evidence_schema import ClaimFinding, Evidence, ScopeAdvice
from raysweep.evidence.lineup import ROLE_NAMES
from raysweep.report.labels import MARKS, confidence_level, metric_name, short_verdict, verdict_cell
from raysweep.report.layout import Block, Figure, ReportSection, paragraph
from raysweep.report.sections.seed_looks import seed_look_blocks
from raysweep.report.svg import Interval, Reference, interval_plot
from raysweep.report.tables import Cell, Column, Table, estimates, limits, numbers, words

Scopes = dict[str, ClaimFinding]
_RATIOS = {
    "H1": ("general", "level alone"),
    "H2": ("general", "best other"),
    "H3": ("best other", "fine-tuned"),
}


def verdict_section(evidence: Evidence) -> ReportSection:
    """Show the grid of verdicts, the forest plot, and the numbers behind them."""
    definitions = paragraph(
        "Each claim says that a ratio of two perplexities is above or below a bound, its margin. A claim is "
        "<strong>confirmed</strong> if the whole interval of that ratio lies on the claim's side of the margin, and "
        "<strong>refuted</strong> if the whole interval lies on the other side. It is <strong>undecided</strong> if "
        "the margin is inside the interval: the data then fit both the claim and its opposite. A level with "
        "<strong>too few learners</strong> is not tested at all. Where several levels are tested, one of them may "
        "seem to differ by chance alone; Holm's correction of p-values and intervals allows for that. A claim about "
        "the best kind of model must hold against each other kind, so that none is called best for its test scores."
    )
    direction = paragraph(
        "Perplexity (PPL) says how surprised a model is by the words that were really there: lower is better. Two "
        "kinds of model are always compared in the same direction, by how much higher the perplexity of the less "
        "adapted kind is. The order is: general, trained on the level alone, fine-tuned for the level. "
        "<strong>Above 0 %, or with a ratio above 1, the more adapted kind is better.</strong>"
    )
    caption = (
        "A diamond shows all tested levels together, a dot one level. Filled marks are decided, hollow marks "
        "undecided. The dashed lines mark equality (1.00) and the claims' margins."
    )
    blocks: list[Block] = [
        _claims(evidence),
        direction,
        definitions,
        _grid(evidence),
        _advice(evidence),
        Figure("forest", _forest(evidence), caption),
        _findings(evidence),
        *seed_look_blocks(evidence),
        _by_share(evidence),
    ]
    return ReportSection("verdicts", "Verdicts", blocks)


def _weighed_by_share(finding: ClaimFinding) -> Comparison | None:
    """Return the overall ratio with each level weighted by its share of the corpus."""
    shared = finding.by_share
    return compare(finding.model_copy(update=shared.model_dump())) if shared else None


def _claims(evidence: Evidence) -> Markup:
    """State every hypothesis in a plain sentence."""
    overall = [finding for finding in evidence.findings if finding.scope == "overall"]
    items = [
        Markup("<li><strong>{} {}.</strong> {}</li>").format(
            finding.hypothesis, claim_title(finding.hypothesis), claim_sentence(finding)
        )
        for finding in overall
    ]
    return Markup('<ul class="claims">{}</ul>').format(Markup("").join(items))


def _advice(evidence: Evidence) -> Table[ScopeAdvice]:
    """Show what the tests support on each level, and the two tests that no hypothesis covers."""
    return Table[ScopeAdvice](
        "advice",
        "What the tests support on each level. Two claims are tested beside the hypotheses: that a level's own model "
        "beats every other kind, and that some adapted model beats the general one. p-values are Holm-corrected over "
        f"the levels; a claim holds where its p is at most {(1 - evidence.settings.confidence) / 2:g}",
        evidence.advice,
        words("Level", "scope", lambda advice: "Overall" if advice.scope == "overall" else advice.scope),
        words("Advice", "way", lambda advice: advice.text),
        numbers("Best other ÷ own model", "other_over_own", formats.ratio, lambda advice: inverse(advice.own_ratio)),
        numbers("p, own model best", "own_p", formats.p_value),
        numbers("p, general model beaten", "plain_p", formats.p_value),
    )


def _by_share(evidence: Evidence) -> Table[ClaimFinding]:
    """Compare the overall ratios under both weightings of the levels."""
    return Table[ClaimFinding](
        "by_share",
        "The overall ratios under two weightings: every level the same, and each level by its share of the documents "
        "of the corpus",
        [finding for finding in evidence.findings if finding.by_share is not None],
        words("Hypothesis", "hypothesis"),
        Column("Every level the same", ("verdict",), _verdict, is_number=False),
        estimates("Ratio", "ratio", formats.ratio, compare),
        words("By share", "verdict_by_share", lambda finding: finding.by_share.verdict if finding.by_share else ""),
        estimates("Ratio by share", "ratio_by_share", formats.ratio, _weighed_by_share),
    )


def _grid(evidence: Evidence) -> Table[Scopes]:
    """Make a row per hypothesis: overall, then each level."""
    hypotheses: dict[str, Scopes] = {}
    for finding in evidence.findings:
        hypotheses.setdefault(finding.hypothesis, {})[finding.scope] = finding

    def verdicts(scope: str) -> Column[Scopes]:
        title = "Overall" if scope == "overall" else scope
        return Column(title, (scope,), lambda row: _verdict(row[scope]), is_number=False)

    return Table[Scopes](
        "verdicts",
        f"Verdicts, overall and per level, by the perplexity of {metric_name(evidence)} ({confidence_level(evidence)} "
        "confidence, Holm-corrected over the levels)",
        list(hypotheses.values()),
        words(
            "Hypothesis", "hypothesis", lambda row: row["overall"].hypothesis, detail=lambda row: _claim(row["overall"])
        ),
        *map(verdicts, ("overall", *evidence.levels)),
    )


def _findings(evidence: Evidence) -> Table[ClaimFinding]:
    """List everything that the verdicts rest on, a row each."""
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
        shown = compare(finding)
        low, high = shown.alone_low, shown.alone_high
        return Cell(
            text=formats.NONE if low is None else f"{formats.ratio(low)} to {formats.ratio(high)}", values=(low, high)
        )

    def divided(finding: ClaimFinding) -> str:
        shown = compare(finding)
        names = (ROLE_NAMES.get(kind, kind) for kind in (shown.above, shown.below))
        return " ÷ ".join(names) if finding.rival else formats.NONE

    return Table[ClaimFinding](
        "findings",
        "The numbers behind each verdict: the ratio of two perplexities, against the other kind of model that is "
        "hardest to beat. On levels, p-values and the interval of the ratio are Holm-corrected, so an interval and "
        "its verdict agree; beside it is the interval of this level alone, without the correction. The last ratio "
        "leaves out the learner who moves it most. Learners who wrote unequally much tell less than as many equal "
        "ones; the column of documents says how many equal ones they weigh as",
        evidence.findings,
        Column("Claim", ("hypothesis", "scope"), _claim_and_scope, is_number=False),
        Column("Verdict", ("verdict",), _verdict, is_number=False),
        words("Perplexities", "divided", divided),
        estimates("Ratio, for all levels together", "ratio", formats.ratio, compare),
        Column("This level alone", ("alone_low", "alone_high"), alone, is_number=True),
        numbers("p, confirm", "p_confirm", formats.p_value),
        numbers("p, refute", "p_refute", formats.p_value),
        numbers("Without one learner", "without_one", formats.ratio, lambda finding: compare(finding).without_one),
        Column("Documents", ("documents", "clusters", "effective"), documents),
        words("Note", "note"),
    )


def _forest(evidence: Evidence) -> Markup:
    """Plot all verdicts: ratios with intervals, and the margins as lines."""
    rows: list[Interval] = []
    for finding in evidence.findings:
        if finding.scope == "overall":
            rows.append(Interval(label=f"{finding.hypothesis}  {_claim(finding)}", text="", is_heading=True))
        shown = compare(finding)
        numbers_shown = f"{formats.ratio(shown.value)} {limits(shown, formats.ratio)} " if shown.value else ""
        rows.append(
            Interval(
                label=finding.scope,
                text=f"{numbers_shown}{MARKS[finding.verdict]} {short_verdict(finding)}",
                value=shown.value,
                low=shown.low,
                high=shown.high,
                style=finding.verdict.replace(" ", "-"),
                is_summary=finding.scope == "overall",
            )
        )
    margins = sorted({1.0, *(compare(finding).margin for finding in evidence.findings)})
    return interval_plot(
        "forest",
        "Forest plot of the hypotheses",
        "For each hypothesis and level the ratio of perplexities with its interval; every number is in the table.",
        rows,
        [Reference(value=margin, label=f"{margin:.2f}") for margin in margins],
        "ratio of perplexities (logarithmic)",
    )


def _claim(finding: ClaimFinding) -> str:
    """State the hypothesis as a ratio and its margin."""
    above, below = _RATIOS[finding.hypothesis]
    side = "below" if finding.hypothesis == "H2" else "above"
    return f"{claim_title(finding.hypothesis)}: PPL {above} ÷ PPL {below} is {side} {compare(finding).margin:.2f}"


def _claim_and_scope(finding: ClaimFinding) -> Cell:
    return Cell(text=f"{finding.hypothesis} {finding.scope}", values=(finding.hypothesis, finding.scope))


def _verdict(finding: ClaimFinding) -> Cell:
    notes = ["leaky split"] if finding.leaky else []
    if verdict_words(finding) != short_verdict(finding):
        notes.append("these trained models")
    notes += [f"explained by: {ROLE_NAMES[kind]}" for kind in finding.explained_by]
    return verdict_cell(finding.verdict, "; ".join(notes), shown=short_verdict(finding))
