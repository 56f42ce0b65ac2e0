"""The table of what would flip the recommendation, built from the evidence alone."""

from collections.abc import Mapping
from typing import Any

from raysweep.evidence import formats
from raysweep.report.contents import MARKS, METRIC_NAMES
from raysweep.report.tables import Cell, Table, number, number_column, text_column, word

Values = Mapping[str, Any]

_OUTCOMES = {"holds": "holds", "open": "open: nothing is recommended", "flips": "flips"}


def sensitivity_table(evidence: Values) -> Table:
    """A row per variation: what is recommended then, and which verdicts are others."""
    found = evidence["sensitivity"]
    codes = list(dict.fromkeys(one["hypothesis"] for one in evidence["findings"]))
    base = {one["hypothesis"]: one["verdict"] for one in evidence["findings"] if one["scope"] == "overall"}
    rows = [
        (
            word(row["group"]),
            word(METRIC_NAMES.get(row["name"], row["name"])),
            number(row["documents"], formats.count),
            word(_OUTCOMES[row["outcome"]], detail=row["headline"] if row["outcome"] == "flips" else ""),
            *(_verdict(row["verdicts"][code], base[code]) for code in codes),
            Cell(
                text=formats.count(len(_on_levels(row))),
                values=(len(_on_levels(row)),),
                detail=_said(_on_levels(row)),
            ),
        )
        for row in found["variations"]
    ]
    return Table(
        name="sensitivity",
        caption="The recommendation and the overall verdicts if one choice is made otherwise, all others as they are",
        columns=(
            text_column("Choice", "choice"),
            text_column("Made otherwise", "variation"),
            number_column("Documents", "documents"),
            text_column("Recommendation", "outcome"),
            *(text_column(code, f"verdict_{code}") for code in codes),
            number_column("Levels' verdicts changed", "level_verdicts_changed"),
        ),
        rows=tuple(rows),
    )


def _said(changed: list[Values]) -> str:
    """`H1 A1, B2 undecided; H2 C1 confirmed`."""
    scopes: dict[tuple[str, str], list[str]] = {}
    for one in changed:
        scopes.setdefault((one["hypothesis"], one["verdict"]), []).append(one["scope"])
    return "; ".join(f"{code} {', '.join(levels)} {verdict}" for (code, verdict), levels in scopes.items())


def _on_levels(row: Values) -> list[Values]:
    return [one for one in row["changed"] if one["scope"] != "overall"]


def _verdict(found: Values, base: str) -> Cell:
    verdict = found["verdict"]
    value = formats.percent(found["value"]) if found["value"] is not None else ""
    said = "holds" if verdict == base else f"was {base}"
    return Cell(
        text=f"{MARKS[verdict]} {verdict}",
        values=(verdict,),
        detail=", ".join(part for part in (said, value) if part),
        mark=verdict,
    )
