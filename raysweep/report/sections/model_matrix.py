"""Section on every model's perplexity on every level, the same weighted in other ways, and all scores."""

from collections.abc import Callable
from math import log

from raysweep.evidence import formats
from raysweep.evidence.breakdowns import PUBLISHED
from raysweep.evidence.evidence_schema import Evidence, Matrix
from raysweep.evidence.lineup import ROLE_NAMES
from raysweep.evidence.robustness_schema import LevelScores, Row
from raysweep.report.labels import metric_name
from raysweep.report.layout import Block, Figure, Folded, ReportSection, heading, paragraph
from raysweep.report.svg import HeatCell, HeatRow, heat_map
from raysweep.report.tables import Cell, Column, Table, estimates, numbers, words

PALEST = log(2.0)
"""Log ratio to the best perplexity from which a cell has no shade: twice the best or more."""
DARKEST = 0.62


def matrix_section(evidence: Evidence) -> ReportSection:
    """Show the matrix as a heat map and as a table, and relative to the general model."""
    against_general = _heat_against_general(evidence)
    blocks: list[Block] = [
        paragraph(
            "All models are scored on the same blanks of the same held-out documents. A perplexity (PPL) of 20 means "
            "that a model is as unsure of each next token (a word, or a piece of one) as if it had to choose among 20 "
            "equally likely ones; 1 would be certainty."
        ),
        _heat(evidence),
        _matrix(evidence),
        *_length_effect(evidence),
        Folded("The same with equal weight for every document, and in bits per byte", _weightings(evidence)),
        Folded("The number that is published for infilling models", _published(evidence)),
        Folded("Every score, by metric, model and level", _scores(evidence)),
    ]
    if against_general:
        blocks += [heading("Against the general model"), against_general]
    return ReportSection("matrix", "Every model on every level", blocks)


def level_perplexities(matrix: Matrix, level: str) -> Column[Row]:
    """Make the column of a level: every model's perplexity, with a clearly best model's in bold."""
    return estimates(
        f"{level} (n{formats.SPACE}={formats.SPACE}{matrix.sizes[level].documents:,})",
        f"ppl_{level}",
        formats.perplexity,
        lambda row: row.cells.get(level),
        is_best=lambda row: matrix.leaders.get(level) == row.name,
    )


def _matrix(evidence: Evidence) -> Table[Row]:
    """Make the table of every model's perplexity on every level, with the best of each level marked."""
    matrix = evidence.matrix
    return Table[Row](
        "matrix",
        f"Perplexity on each level's test documents ({metric_name(evidence)}); lower is better. A level's best model "
        "is bold if it is shown to be better than each other one (the interval of their ratio lies above 1); otherwise "
        "none is bold",
        matrix.rows,
        words("Model", "model", lambda row: row.name, detail=_role),
        *(level_perplexities(matrix, level) for level in matrix.levels),
    )


def _role(row: Row) -> str:
    seeds = f", mean of {len(row.models)} seeds" if len(row.models) > 1 else ""
    missing = f"; {'; '.join(row.missing.values())}" if row.missing else ""
    return ROLE_NAMES[row.role] + seeds + missing


def _weightings(evidence: Evidence) -> Table[str]:
    """Weight the report's metric in other ways: a row per model and seed, a column per level."""
    metric = evidence.settings.metric
    scores = _scores_of(evidence, metric)
    texts = _scores_of(evidence, "infill_textonly" if metric == "infill" else metric)

    def weighted(level: str) -> Column[str]:
        fields = (f"document_ppl_{level}", f"bits_per_byte_{level}")
        perplexities = scores[level].document_perplexity if level in scores else {}
        bits = texts[level].bits_per_byte if level in scores and level in texts else {}

        def values(model: str) -> tuple[float | None, float | None]:
            return perplexities.get(model), bits.get(model)

        return Column(level, fields, lambda model: _weighted(*values(model)), values=values)

    return Table[str](
        "weightings",
        "Perplexity with equal weight for every document, and below it bits per byte of the text alone, which can be "
        f"compared between tokenizers ({metric_name(evidence)}; every seed; compare within a column)",
        _models(evidence) if scores else [],
        _model(evidence),
        *map(weighted, evidence.matrix.levels),
    )


def _published(evidence: Evidence) -> Table[str]:
    """Show perplexity as defined in the tables of the paper on infilling, beside the report's metric."""
    published, ours = _scores_of(evidence, PUBLISHED), _scores_of(evidence, evidence.settings.metric)

    def perplexities(level: str) -> Column[str]:
        theirs, own = (of[level].perplexity if level in of else {} for of in (published, ours))

        def values(model: str) -> tuple[float | None, float | None]:
            return theirs.get(model), own.get(model)

        def cell(model: str) -> Cell:
            detail = f"this report's metric: {formats.perplexity(own.get(model))}"
            return Cell(text=formats.perplexity(theirs.get(model)), values=values(model), detail=detail)

        return Column(level, (f"sentence_text_ppl_{level}", f"ppl_{level}"), cell, values=values)

    return Table[str](
        "published_metric",
        "For comparison with the tables of Donahue, Lee and Liang (2020): perplexity of the text of sentence blanks "
        "alone, without the ends of answers; below it the metric of this report. Their corpora and model sizes differ",
        _models(evidence) if published else [],
        _model(evidence),
        *map(perplexities, evidence.matrix.levels),
    )


def _models(evidence: Evidence) -> list[str]:
    """Return the scored models, every seed, in the order of the matrix."""
    return [model for row in evidence.matrix.rows for model in row.models]


def _model(evidence: Evidence) -> Column[str]:
    """Make the column of a model's name and role."""
    roles = {model: ROLE_NAMES[row.role] for row in evidence.matrix.rows for model in row.models}
    return words("Model", "model", lambda model: model, detail=lambda model: roles[model])


def _scores_of(evidence: Evidence, metric: str) -> dict[str, LevelScores]:
    """Return the scores under a metric by level."""
    return {scores.level: scores for scores in evidence.scores if scores.metric == metric}


def _length_effect(evidence: Evidence) -> list[Block]:
    """Explain why weighting tokens and weighting documents give different gains."""
    effect = evidence.length_effect
    if effect is None:
        return []
    shown = f"{effect.correlation:+.2f}".replace("-", "\N{MINUS SIGN}")
    if abs(effect.correlation) < 0.1:
        relation = "hardly depends on"
    else:
        relation = "grows with" if effect.correlation > 0 else "falls with"
    return [
        paragraph(
            "Here every token counts the same, so documents with long answers count more. The gain of a level's own "
            "model over the general one {} the length of a document's answers: the rank correlation is {} ({:,} "
            "documents, mean over the levels). The further this correlation is from 0, the more the gain changes "
            "where every document counts the same.",
            relation,
            shown,
            effect.documents,
        )
    ]


def _weighted(perplexity: float | None, bits: float | None) -> Cell:
    return Cell(
        text=formats.perplexity(perplexity),
        values=(perplexity, bits),
        detail="" if bits is None else f"{bits:.3f} bits per byte".replace(" ", formats.SPACE),
    )


def _scores(evidence: Evidence) -> Table[tuple[str, LevelScores]]:
    """List every score of every model, level and metric, for the reader's own analysis."""
    metrics = dict.fromkeys(scores.metric for scores in evidence.scores)
    by_level = [_scores_of(evidence, metric).values() for metric in metrics]
    return Table[tuple[str, LevelScores]](
        "scores",
        "Every score; compare only scores of the same metric and level, because only these cover the same texts",
        [(model, scores) for of_metric in by_level for model in _models(evidence) for scores in of_metric],
        words("Metric", "metric", lambda row: row[1].metric),
        words("Model", "model", lambda row: row[0]),
        words("Level", "level", lambda row: row[1].level),
        numbers("Documents", "documents", formats.count, lambda row: row[1].documents),
        numbers("Tokens", "tokens", formats.count, lambda row: row[1].tokens),
        numbers("Bytes", "bytes", formats.count, lambda row: row[1].bytes),
        numbers("Nats", "nats", formats.count, lambda row: row[1].nats[row[0]]),
        numbers("PPL, by token", "ppl", formats.perplexity, lambda row: row[1].perplexity[row[0]]),
        numbers("PPL, by document", "document_ppl", formats.perplexity, lambda row: row[1].document_perplexity[row[0]]),
        numbers("Bits per byte", "bits_per_byte", formats.loss, lambda row: row[1].bits_per_byte.get(row[0])),
    )


def _best_by_level(matrix: Matrix) -> dict[str, str]:
    """Find the row with the lowest perplexity per level."""
    best: dict[str, str] = {}
    for level in matrix.levels:
        values = {row.name: row.cells[level].value for row in matrix.rows if level in row.cells}
        best[level] = min(values, key=lambda name: values[name])
    return best


def _heat(evidence: Evidence) -> Figure:
    """Draw the matrix: the stronger the shade, the closer to the level's best model."""
    matrix = evidence.matrix
    best = _best_by_level(matrix)
    lowest = {level: next(row for row in matrix.rows if row.name == best[level]).cells[level].value for level in best}

    def cell(row: Row, level: str) -> HeatCell | None:
        if level not in row.cells:
            return None
        value = row.cells[level].value
        shade = DARKEST * max(0.0, 1.0 - log(value / lowest[level]) / PALEST)
        return HeatCell(text=formats.perplexity(value), shade=shade, is_best=matrix.leaders.get(level) == row.name)

    plot = heat_map(
        "heat",
        "Heat map of perplexities",
        "Rows are models, columns are levels; a level's best model is outlined if the data tell that it is the best.",
        matrix.levels,
        _heat_rows(matrix, cell),
    )
    return Figure(
        "heat",
        plot,
        "The stronger the shade, the closer a model is to the lowest perplexity of the level; a cell without a shade "
        "has at least twice that. A model is outlined if it is shown to be better than each other one (the interval of "
        "their ratio lies above 1). Compare within a column only, because levels differ in difficulty.",
    )


def _heat_against_general(evidence: Evidence) -> Figure | None:
    """Draw the matrix again, as a change from the general model's perplexity."""
    matrix = evidence.matrix
    general = next((row for row in matrix.rows if row.role == "general" and row.cells), None)
    if general is None:
        return None
    base = general.cells

    def cell(row: Row, level: str) -> HeatCell | None:
        is_best = matrix.leaders.get(level) == row.name
        if row is general:
            return HeatCell(text="equal", shade=0.0, is_best=is_best)
        if level not in row.cells:
            return None
        ratio = base[level].value / row.cells[level].value
        shade = max(-DARKEST, min(DARKEST, DARKEST * log(ratio) / PALEST))
        return HeatCell(text=formats.percent(ratio), shade=shade, is_best=is_best)

    plot = heat_map(
        "heat-general",
        "Heat map: how much higher the general model's perplexity is",
        "Rows are models, columns are levels; above 0 % the row's model is better than the general one.",
        matrix.levels,
        _heat_rows(matrix, cell),
    )
    return Figure(
        "heat-general",
        plot,
        "By how much the general model's perplexity is higher than that of the row's model, on the same level. A plus "
        "sign (or “times”) and a blue shade mean that the row's model is better than the general one; a minus sign and "
        "a brown shade mean that it is worse. The shade is full at twice or half the perplexity.",
    )


def _heat_rows(matrix: Matrix, cell: Callable[[Row, str], HeatCell | None]) -> list[HeatRow]:
    return [
        HeatRow(
            label=row.name,
            note=ROLE_NAMES[row.role],
            cells=[cell(row, level) for level in matrix.levels],
            reason=row.reason,
        )
        for row in matrix.rows
    ]
