"""A table of the report: records, columns that turn a record into a cell, and its CSV and TeX.

A column is declared once: its title, its CSV fields, and what it takes from a record.  A table is
shown four times: on the page, in Markdown, as CSV (numbers in full, limits in columns of their own)
and as TeX (booktabs).  Of one that the page folds, Markdown shows no more than 30 rows and TeX 400.
"""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from raysweep.evidence.formats import NONE
from raysweep.storage.printable import printable, spreadsheet_safe

LONGEST_TABLE = 400
"""A folded table of more rows is shown as a link to its CSV file, and not written as TeX: nobody reads it on a page."""
Value = str | int | float | None
Show = Callable[[float | None], str]
Record = TypeVar("Record")
Taken = TypeVar("Taken", contravariant=True)


class HasLimits(Protocol):
    """A value with the limits of its interval; all three may be unknown."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


class Cell(NamedTuple):
    """What is shown, what CSV holds, and a mark that each rendering shows in its own way."""

    text: str
    values: tuple[Value, ...]
    """One for each field of the column."""
    detail: str = ""
    """Shown smaller: an interval, a note."""
    mark: str = ""
    """'best', or a verdict."""


@dataclass(frozen=True, slots=True)
class Column(Generic[Taken]):
    """A column; a value with limits has three CSV fields, other values have one."""

    title: str
    fields: tuple[str, ...]
    cell: Callable[[Taken], Cell]
    is_number: bool = True
    value: Callable[[Taken], Value] | None = None
    """What CSV holds, where that is one value: then no cell is made for it."""
    values: Callable[[Taken], tuple[Value, ...]] | None = None
    """The same where it is several."""


class Table(Generic[Record]):
    """A row per record; the first cell of a row is its header.

    Write `Table[Gain](...)`: mypy then checks what the columns' functions take from a `Gain`.
    """

    def __init__(self, name: str, caption: str, records: Sequence[Record], *columns: Column[Record]) -> None:
        """`name` is the file's stem, and the anchor on the page."""
        self.name, self.caption, self.records, self.columns = name, caption, records, columns

    @property
    def is_long(self) -> bool:
        """It has more rows than anybody reads."""
        return len(self.records) > LONGEST_TABLE

    @cached_property
    def rows(self) -> list[list[Cell]]:
        """The cells, made once."""
        return [[column.cell(record) for column in self.columns] for record in self.records]


def words(
    title: str,
    field: str,
    text: Callable[[Record], str] | None = None,
    detail: Callable[[Record], str] | None = None,
) -> Column[Record]:
    """A column of text: what `text` says, or else the record's attribute of the field's name."""
    get = text or attrgetter(field)

    def cell(record: Record) -> Cell:
        return Cell(text=get(record), values=(get(record),), detail=detail(record) if detail else "")

    return Column(title, (field,), cell, is_number=False, value=get)


def numbers(
    title: str, field: str, show: Show, value: Callable[[Record], float | None] | None = None
) -> Column[Record]:
    """A column of plain numbers: what `value` says, or else the record's attribute of the field's name."""
    get = value or attrgetter(field)

    def cell(record: Record) -> Cell:
        return Cell(text=show(get(record)), values=(get(record),))

    return Column(title, (field,), cell, value=get)


def estimates(
    title: str,
    field: str,
    show: Show,
    estimate: Callable[[Record], HasLimits | None] | None = None,
    is_best: Callable[[Record], bool] | None = None,
) -> Column[Record]:
    """A column of values with limits, taken like those of `numbers`."""
    get = estimate or attrgetter(field)

    def values(record: Record) -> tuple[Value, ...]:
        known = get(record)
        return (known.value, known.low, known.high) if known else (None, None, None)

    def cell(record: Record) -> Cell:
        known = get(record)
        mark = "best" if is_best and is_best(record) else ""
        shown = show(known.value if known else None)
        return Cell(text=shown, values=values(record), detail=limits(known, show), mark=mark)

    return Column(title, (field, f"{field}_low", f"{field}_high"), cell, values=values)


def limits(estimate: HasLimits | None, show: Show) -> str:
    """`[+1.0 %, +3.2 %]`; '' where there are none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"[{show(estimate.low)}, {show(estimate.high)}]"


def without_empty_columns(table: Table[Any]) -> Table[Any]:
    """The table as a person is shown it: without the columns that are empty in every row; CSV keeps them."""
    columns = zip(table.columns, *table.rows, strict=True)
    kept = [column for column, *cells in columns if any(cell.text not in ("", NONE) or cell.detail for cell in cells)]
    return Table(table.name, table.caption, table.records, *kept)


def to_csv(table: Table[Any]) -> str:
    """RFC 4180 with a header; absent values are empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([field for column in table.columns for field in column.fields])
    writer.writerows(zip(*(field for column in table.columns for field in _csv_fields(column, table)), strict=True))
    return buffer.getvalue()


def _csv_fields(column: Column[Any], table: Table[Any]) -> list[list[Value]]:
    """The fields of a column in CSV, each with what `csv` writes for every row."""
    if column.value is not None:
        return [_plain(map(column.value, table.records))]
    values = column.values or (lambda record: column.cell(record).values)
    return [_plain(of_field) for of_field in zip(*map(values, table.records), strict=True)]


def to_tex(table: Table[Any]) -> str:
    r"""A floating table in booktabs style; needs `\usepackage{booktabs}`."""
    alignment = "".join("r" if column.is_number else "l" for column in table.columns)
    label = table.name.replace("_", "-")
    lines = [
        rf"\begin{{table}}\centering\caption{{{escape_tex(table.caption)}}}\label{{tab:{label}}}",
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


_TEX = str.maketrans(
    {
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
)


def escape_tex(text: str) -> str:
    """Text as TeX sets it literally."""
    return printable(text).translate(_TEX)


def _tex_cell(cell: Cell) -> str:
    # TeX's usual fonts have no glyph for a verdict's mark, so its word is written alone.
    text = str(cell.values[0]) if cell.mark not in ("", "best") else cell.text
    shown = escape_tex(f"{text} {cell.detail}".strip())
    return rf"\textbf{{{shown}}}" if cell.mark == "best" else shown


def _plain(values: Iterable[Value]) -> list[Value]:
    """Numbers to 12 digits, all that a sum of floats keeps; text that a spreadsheet would run is quoted."""
    return [
        f"{value:.12g}" if isinstance(value, float) else _safe(value) if isinstance(value, str) else value
        for value in values
    ]


# A name stands in thousands of rows.
_safe = lru_cache(maxsize=4096)(spreadsheet_safe)
