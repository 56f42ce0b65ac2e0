"""Section on interpolated models: loss between the general and each fine-tuned model, and whether one beats both."""

from math import log

from markupsafe import Markup

from raysweep.evidence import formats
from raysweep.evidence.evidence_schema import Evidence
from raysweep.evidence.robustness_schema import BetweenScope, Interpolation, WeightScore
from raysweep.report.labels import MARKS
from raysweep.report.layout import Block, Figure, Folded, Panels, ReportSection, key_of, paragraph
from raysweep.report.svg import Series, curve_panel
from raysweep.report.tables import Cell, Column, Table, estimates, numbers, words
from raysweep.statistics.claims import Verdict

_KEY = (("specialised", "test documents"), ("transfer", "valid documents (choose the share)"))
_WORDS = {
    Verdict.CONFIRMED: "better than both",
    Verdict.REFUTED: "worse than one of them",
    Verdict.UNDECIDED: "open",
    Verdict.NOT_TESTED: "not tested",
}


def between_section(evidence: Evidence) -> ReportSection:
    """Make a panel per level, and compare each level's chosen share with both ends; empty if not configured."""
    between = evidence.interpolation
    blocks: list[Block] = []
    if between is not None:
        text = (
            "Between the general model (share 0) and a fine-tuned one (share 1) lie models whose weights are mixed "
            "from both; they cost no training. For each level the share with the lowest perplexity on valid documents "
            "is chosen, and tested on test documents, which had no part in the choice."
        )
        blocks = [
            paragraph(text),
            Panels(key_of(_KEY), [_panel(between, place, level) for place, level in enumerate(between.levels)]),
            _scopes(between),
            Folded("Perplexity at every share, as a table", _scores(between)),
        ]
    return ReportSection("between", "Between the general and the fine-tuned model", blocks)


def _panel(between: Interpolation, place: int, level: str) -> Figure:
    scores = [score for score in between.scores if score.level == level]
    test = [(score.weight, log(score.perplexity.value)) for score in scores]
    valid = [(score.weight, log(score.valid_perplexity)) for score in scores]
    series = [
        Series(label="test", points=test, style="specialised"),
        Series(label="valid", points=valid, style="transfer"),
    ]
    description = "; ".join(f"{score.weight:g}: {formats.perplexity(score.perplexity.value)}" for score in scores)
    name, title = f"between-{place}", f"Loss by share of the fine-tuned model: {level}"
    plot: Markup = curve_panel(name, title, f"Test perplexity by share: {description}", series, across="share")
    return Figure(name, plot, level, _KEY)


def _scopes(between: Interpolation) -> Table[BetweenScope]:
    def verdict(scope: BetweenScope) -> Cell:
        text = f"{MARKS[scope.verdict]} {_WORDS[scope.verdict]}"
        if scope.weight in (0.0, 1.0):
            text = (
                f"{MARKS[Verdict.UNDECIDED]} the {'fine-tuned' if scope.weight else 'general'} model itself is chosen"
            )
        return Cell(text=text, values=(scope.verdict,), mark=scope.verdict, detail=scope.note)

    return Table[BetweenScope](
        "between",
        "The model at the chosen share against both ends, on test documents; overall, every level weighs the same. The "
        "verdict says whether it is better than both, after Holm over the levels",
        between.scopes,
        words("Level", "scope"),
        numbers("Chosen share", "weight", lambda weight: formats.NONE if weight is None else f"{weight:g}"),
        numbers("Valid documents", "valid_documents", formats.count),
        numbers("Test documents", "documents", formats.count),
        estimates("General model's perplexity above it", "general_over_best", formats.percent),
        estimates("Fine-tuned model's above it", "transfer_over_best", formats.percent),
        Column("Verdict", ("verdict",), verdict, is_number=False),
        numbers("p", "p_value", formats.p_value),
    )


def _scores(between: Interpolation) -> Table[WeightScore]:
    return Table[WeightScore](
        "between_scores",
        "Perplexity by the fine-tuned model's share of the weights; the chosen share is bold",
        between.scores,
        words("Level", "level"),
        numbers("Share", "weight", lambda weight: f"{weight:g}"),
        numbers("On valid documents", "valid_ppl", formats.perplexity, lambda score: score.valid_perplexity),
        estimates(
            "On test documents",
            "ppl",
            formats.perplexity,
            lambda score: score.perplexity,
            is_best=lambda score: score.is_chosen,
        ),
    )
