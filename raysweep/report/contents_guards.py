"""The tables of the guards: what leaks and how large the lie is, and what the controls say of the gains."""

from collections.abc import Mapping
from typing import Any

from raysweep.evidence import formats
from raysweep.evidence.guards import LEAK_WORDS
from raysweep.report.contents import ROLE_NAMES
from raysweep.report.tables import (
    Cell,
    Table,
    interval,
    interval_column,
    number,
    number_column,
    text_column,
    word,
)

Values = Mapping[str, Any]

CONTROL_MARKS = {
    # verdict: its sign, and the verdict of a hypothesis that it is coloured like
    "survives": ("✔", "confirmed"),
    "explained": ("✘", "refuted"),
    "open": ("?", "undecided"),
    "no gain": ("–", "not tested"),
    "not tested": ("–", "not tested"),
}


def leaks_table(evidence: Values) -> Table:
    """How many test documents are known to train or valid, by kind of leak."""
    leaks = evidence["leaks"]
    total = leaks["test_documents"]
    rows = [
        (word(words.capitalize()), number(count, formats.count), number(count / total, formats.share))
        for kind, words in LEAK_WORDS.items()
        if total and (count := leaks["by_kind"].get(kind)) is not None
    ]
    return Table(
        name="leaks",
        caption="Test documents that train or valid knows",
        columns=(
            text_column("They share", "kind"),
            number_column("Test documents", "documents"),
            number_column("Share of all", "share"),
        ),
        rows=tuple(rows),
    )


def leak_effects_table(evidence: Values) -> Table:
    """The size of the lie, model by model."""
    rows = [
        (
            word(one["name"], detail=ROLE_NAMES[one["role"]]),
            number(one["leaky"], formats.perplexity),
            number(one["clean"], formats.perplexity),
            interval(one["ratio"], formats.percent),
            interval(one["against_start"], formats.percent),
            number(one["documents"], formats.count),
        )
        for one in evidence["leaks"]["effects"]
    ]
    return Table(
        name="leak_effects",
        caption="The size of the lie: perplexity on leaky test documents against clean ones of the same levels",
        columns=(
            text_column("Model", "model"),
            number_column("Leaky", "ppl_leaky"),
            number_column("Clean", "ppl_clean"),
            interval_column("Leaky against clean", "leaky_over_clean"),
            interval_column("The same, beyond the start's", "leaky_over_clean_against_start"),
            number_column("Leaky documents", "documents"),
        ),
        rows=tuple(rows),
    )


def controls_table(evidence: Values) -> Table:
    """What every control says of every gain."""
    rows = [
        (
            word(f"{ROLE_NAMES[one['kind']].capitalize()}, {one['scope']}"),
            _verdict(one["verdict"]),
            interval(one["raw"], formats.percent),
            interval(one["own"], formats.percent),
            interval(one["remaining"], formats.percent),
            number(one["explained_share"], formats.share),
            number(one["p_remaining"], formats.p_value),
            word(one["note"]),
        )
        for one in evidence["controls"]["findings"]
    ]
    return Table(
        name="controls",
        caption="Controls: is the gain of a level's own model more than size, steps or chance would give?",
        columns=(
            text_column("Control", "control"),
            text_column("The gain", "verdict"),
            interval_column("Gain of the level's model", "raw"),
            interval_column("Gain of the control", "own"),
            interval_column("Left beyond the control", "remaining"),
            number_column("Explained", "explained_share"),
            number_column("p, left", "p_remaining"),
            text_column("Note", "note"),
        ),
        rows=tuple(rows),
    )


def control_models_table(evidence: Values) -> Table:
    """Perplexity of the control models on every level; apart from the others, for none is meant to be used."""
    levels = evidence["matrix"]["levels"]
    rows = [
        (
            word(row["name"], detail=ROLE_NAMES[row["role"]] + (f"; {row['reason']}" if row["reason"] else "")),
            *(interval(row["cells"].get(level), formats.perplexity) for level in levels),
        )
        for row in evidence["controls"]["rows"]
    ]
    return Table(
        name="control_models",
        caption="Perplexity of the control models on each level's test documents",
        columns=(text_column("Model", "model"), *(interval_column(level, f"ppl_{level}") for level in levels)),
        rows=tuple(rows),
    )


def _verdict(verdict: str) -> Cell:
    sign, like = CONTROL_MARKS[verdict]
    return Cell(text=f"{sign} {verdict}", values=(verdict,), mark=like)
