"""The tables of new learners: who answers them, what it costs not to know their level, and how often it is found."""

from collections.abc import Mapping
from typing import Any

from raysweep.evidence import formats
from raysweep.report.tables import (
    Cell,
    Column,
    Table,
    interval,
    interval_column,
    number,
    number_column,
    text_column,
    word,
)

Values = Mapping[str, Any]

FAMILY_NAMES = {"specialised": "models trained per level", "transfer": "models fine-tuned per level"}
WAY_NAMES = {
    "general": "the general model",
    "chosen": "the model chosen by the visible text",
    "mixture": "the mixture of the levels' models",
    "oracle": "the true level's model (oracle)",
}


def ways_table(evidence: Values) -> Table:
    """All levels together: perplexity of every way, against the oracle and against the general model."""
    rows = [
        (
            word(FAMILY_NAMES[family["family"]]),
            word(WAY_NAMES[way]),
            interval(family["overall"]["perplexity"][way], formats.perplexity),
            interval(family["overall"]["over_oracle"].get(way), formats.percent),
            interval(family["overall"]["over_general"].get(way), formats.percent),
        )
        for family in evidence["cold_start"]
        for way in family["ways"]
    ]
    return Table(
        name="cold_start",
        caption="A learner of unknown level, by who answers (answers of the first mask and their ends; geometric mean "
        "over the levels)",
        columns=(
            text_column("Models", "family"),
            text_column("Answered by", "way"),
            interval_column("Perplexity", "ppl"),
            interval_column("Against the oracle", "over_oracle"),
            interval_column("Against the general model", "over_general"),
        ),
        rows=tuple(rows),
    )


def groups_table(evidence: Values) -> Table:
    """By level, and by length of the visible text: how often the level is found, and the price of not knowing it."""
    rows = [
        (
            word(FAMILY_NAMES[family["family"]]),
            word(group["name"] if kind == "by_level" else f"{group['name']} tokens"),
            number(group["documents"], formats.count),
            interval(group["accuracy"], formats.share),
            *(interval(group["over_oracle"].get(way), formats.percent) for way in ("general", "chosen", "mixture")),
        )
        for family in evidence["cold_start"]
        for kind in ("by_level", "by_length")
        for group in family[kind]
    ]
    return Table(
        name="cold_start_groups",
        caption="The same by level, and by length of the visible text: levels found, and perplexity against the oracle",
        columns=(
            text_column("Models", "family"),
            text_column("Level, or visible text", "group"),
            number_column("Documents", "documents"),
            interval_column("Level found", "accuracy"),
            interval_column("General", "general_over_oracle"),
            interval_column("Chosen", "chosen_over_oracle"),
            interval_column("Mixture", "mixture_over_oracle"),
        ),
        rows=tuple(rows),
    )


def confusion_table(evidence: Values) -> Table:
    """Perplexity as a classifier of levels: true by row, found by column."""
    levels = list(dict.fromkeys(level for family in evidence["cold_start"] for level in family["levels"]))
    rows = []
    for family in evidence["cold_start"]:
        for level, counts in zip(family["levels"], family["confusion"], strict=True):
            by_level = dict(zip(family["levels"], counts, strict=True))
            total = sum(counts)
            rows.append(
                (
                    word(FAMILY_NAMES[family["family"]]),
                    word(level),
                    *(_count(by_level.get(found), total, is_right=found == level) for found in levels),
                )
            )
    return Table(
        name="confusion",
        caption="Perplexity as a classifier of levels: documents of each level (row) by the level whose model expects "
        "their visible text most (column); the right ones are bold",
        columns=(
            text_column("Models", "family"),
            text_column("True level", "level"),
            *(Column(title=f"Found {level}", fields=(f"found_{level}",)) for level in levels),
        ),
        rows=tuple(rows),
    )


def accuracy_said(evidence: Values) -> list[str]:
    """A sentence per family: how often the level was found."""
    said = []
    for family in evidence["cold_start"]:
        every, long = family["accuracy"], family["accuracy_long"]
        if every is None:
            continue
        models = FAMILY_NAMES[family["family"]]
        text = f"By {models}, the level of {_share(every)} of {every['documents']:,} documents is found"
        if long is not None:
            text += f", and of {_share(long)} of the {long['documents']:,} with {family['long']} visible tokens or more"
        if family["unseen"]:
            text += f"; {family['unseen']:,} more show no text at all"
        said.append(f"{text}.")
    return said


def _share(found: Values) -> str:
    bounds = f" ({formats.share(found['low'])} to {formats.share(found['high'])})" if found["low"] is not None else ""
    return f"{formats.share(found['value'])}{bounds}"


def _count(count: int | None, total: int, *, is_right: bool) -> Cell:
    share = f"{formats.share(count / total)}" if count and total else ""
    return Cell(
        text=formats.count(count),
        values=(count,),
        detail=share,
        mark="best" if is_right and count else "",
    )
