"""The report's tables as records, and what they look like as CSV and TeX.

Every table is built once, from the evidence, and shown four times: on the page, in Markdown, as CSV
(numbers in full, limits in columns of their own) and as TeX (booktabs).
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raysweep.evidence.formats import NONE

Value = str | int | float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column; `fields` name its columns in CSV (more than one for a value with limits)."""

    title: str
    fields: tuple[str, ...]
    is_number: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """What is shown, what is computed with, and a mark that only a rendering understands."""

    text: str
    values: tuple[Value, ...]
    detail: str = ""
    """Shown smaller: an interval, a note."""
    mark: str = ""
    """'best', or a verdict."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows under columns; the first cell of a row is its header."""

    name: str
    """The file's stem, and the anchor on the page."""
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def word(text: str, mark: str = "", detail: str = "") -> Cell:
    """A cell of text."""
    return Cell(text=text, values=(text,), mark=mark, detail=detail)


def number(value: float | None, show: Callable[[float | None], str]) -> Cell:
    """A cell of one number."""
    return Cell(text=show(value), values=(value,))


def interval(found: Mapping[str, Any] | None, show: Callable[[float | None], str], mark: str = "") -> Cell:
    """A cell of a value with its limits: three columns in CSV."""
    value, low, high = (found[name] if found else None for name in ("value", "low", "high"))
    bounds = f"[{show(low)}, {show(high)}]" if low is not None and high is not None else ""
    return Cell(text=show(value), values=(value, low, high), detail=bounds, mark=mark)


def text_column(title: str, field: str) -> Column:
    """A column of words."""
    return Column(title=title, fields=(field,), is_number=False)


def number_column(title: str, field: str) -> Column:
    """A column of plain numbers."""
    return Column(title=title, fields=(field,))


def interval_column(title: str, field: str) -> Column:
    """A column of values with limits."""
    return Column(title=title, fields=(field, f"{field}_low", f"{field}_high"))


def without_empty_columns(table: Table) -> Table:
    """What a person is shown: a column that says nothing in any row is left out; CSV keeps it."""
    kept = [
        place
        for place in range(len(table.columns))
        if any(row[place].text not in ("", NONE) or row[place].detail for row in table.rows)
    ]
    return replace(
        table,
        columns=tuple(table.columns[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in table.rows),
    )


def to_csv(table: Table) -> str:
    """RFC 4180 with a header; absent values are empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([field for column in table.columns for field in column.fields])
    for row in table.rows:
        writer.writerow(
            ["" if value is None else _plain(value) for cell in _padded(table, row) for value in cell.values]
        )
    return buffer.getvalue()


def to_tex(table: Table) -> str:
    r"""A floating table in booktabs style; needs `\usepackage{booktabs}`."""
    alignment = "".join("r" if column.is_number else "l" for column in table.columns)
    lines = [
        rf"\begin{{table}}\centering\caption{{{escape_tex(table.caption)}}}\label{{tab:{_label(table.name)}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        " & ".join(escape_tex(column.title) for column in table.columns) + r" \\",
        r"\midrule",
        *(" & ".join(_tex_cell(cell) for cell in row) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\N{MINUS SIGN}": r"$-$",
    "\N{DIVISION SIGN}": r"$\div$",
    "\N{EN DASH}": "--",
    "\N{NO-BREAK SPACE}": "~",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{RIGHTWARDS ARROW}": r"$\rightarrow$",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
}


def escape_tex(text: str) -> str:
    """Text as TeX sets it literally."""
    return "".join(_TEX.get(character, character) for character in text)


def _tex_cell(cell: Cell) -> str:
    # A verdict's mark is for the eye, and no glyph of TeX's usual fonts: there the word does.
    text = str(cell.values[0]) if cell.mark not in ("", "best") else cell.text
    shown = escape_tex(f"{text} {cell.detail}".strip())
    return rf"\textbf{{{shown}}}" if cell.mark == "best" else shown


def _label(name: str) -> str:
    return name.replace("_", "-")


def _plain(value: Value) -> str:
    """Numbers to 12 digits, which is all that survives a sum; a word that a spreadsheet would run is kept a word."""
    if isinstance(value, float):
        return f"{value:.12g}"
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text[:1] in "=+@" else text


def _padded(table: Table, row: Sequence[Cell]) -> list[Cell]:
    """Cells with as many values as their column has fields."""
    cells = []
    for column, cell in zip(table.columns, row, strict=True):
        missing = len(column.fields) - len(cell.values)
        cells.append(Cell(text=cell.text, values=cell.values + (None,) * missing))
    return cells
