"""The tables of scores in all their weightings, built from the evidence alone."""

from collections.abc import Mapping
from typing import Any

from raysweep.evidence import formats
from raysweep.report.contents import METRIC_NAMES, ROLE_NAMES
from raysweep.report.tables import Cell, Column, Table, number, number_column, text_column, word

Values = Mapping[str, Any]


def weightings_table(evidence: Values) -> Table:
    """The metric of the report otherwise weighted: a row per model and seed, a column per level."""
    levels = evidence["matrix"]["levels"]
    rows = []
    scores = [one for one in evidence["scores"] if one["metric"] == evidence["settings"]["metric"]]
    for model in dict.fromkeys(one["model"] for one in scores):
        found = {one["level"]: one for one in scores if one["model"] == model}
        role = ROLE_NAMES[next(iter(found.values()))["role"]]
        rows.append((word(model, detail=role), *(_cell(found.get(level)) for level in levels)))
    return Table(
        name="weightings",
        caption="Perplexity with every document counted the same, and below it bits per byte of the text "
        f"({METRIC_NAMES[evidence['settings']['metric']]}; every seed; compare down a column)",
        columns=(
            text_column("Model", "model"),
            *(Column(title=level, fields=(f"document_ppl_{level}", f"bits_per_byte_{level}")) for level in levels),
        ),
        rows=tuple(rows),
    )


def scores_table(evidence: Values) -> Table:
    """Every score of every model, level and metric: for the reader's own tables."""
    rows = [
        (
            word(one["metric"]),
            word(one["model"]),
            word(one["level"]),
            number(one["documents"], formats.count),
            number(one["tokens"], formats.count),
            number(one["bytes"], formats.count),
            number(one["nats"], formats.count),
            number(one["perplexity"], formats.perplexity),
            number(one["document_perplexity"], formats.perplexity),
            number(one["bits_per_byte"], formats.loss),
        )
        for one in evidence["scores"]
    ]
    return Table(
        name="scores",
        caption="Every score; only those of the same metric and level can be compared, for they are of the same texts",
        columns=(
            text_column("Metric", "metric"),
            text_column("Model", "model"),
            text_column("Level", "level"),
            number_column("Documents", "documents"),
            number_column("Tokens", "tokens"),
            number_column("Bytes", "bytes"),
            number_column("Nats", "nats"),
            number_column("PPL, by token", "ppl"),
            number_column("PPL, by document", "document_ppl"),
            number_column("Bits per byte", "bits_per_byte"),
        ),
        rows=tuple(rows),
    )


def _cell(score: Values | None) -> Cell:
    if score is None:
        return Cell(text=formats.NONE, values=(None, None))
    bits = score["bits_per_byte"]
    return Cell(
        text=formats.perplexity(score["document_perplexity"]),
        values=(score["document_perplexity"], bits),
        detail="" if bits is None else f"{bits:.3f} bits per byte".replace(" ", formats.SPACE),
    )
