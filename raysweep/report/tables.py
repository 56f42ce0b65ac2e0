"""A table of the report: records, columns that turn a record into a cell, and its CSV and TeX.

A column is declared once: its title, its CSV fields, and how it reads a record.  A table is
shown four times: on the page, in Markdown, as CSV (full precision, limits in separate columns)
and as TeX (booktabs).  Of a folded table, Markdown shows at most 30 rows and TeX 400.
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
"""A longer folded table is shown as a link to its CSV file, and not written as TeX, since nobody reads it on a page."""
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
    """The text to show, the values for CSV, and a mark that each rendering shows in its own way."""

    text: str
    values: tuple[Value, ...]
    """One value for each field of the column."""
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
    """Returns the CSV value if there is exactly one, so that no cell has to be made for it."""
    values: Callable[[Taken], tuple[Value, ...]] | None = None
    """The same for several values."""


class Table(Generic[Record]):
    """A row per record; the first cell of a row is its header.

    Write `Table[Gain](...)`: mypy then checks what the columns' functions take from a `Gain`.
    """

    def __init__(self, name: str, caption: str, records: Sequence[Record], *columns: Column[Record]) -> None:
        """Args: `name` is the stem of the file names, and the anchor on the page."""
        self.name, self.caption, self.records, self.columns = name, caption, records, columns

    @property
    def is_long(self) -> bool:
        """Whether it has more rows than anybody would read."""
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
    """Make a column of text: the result of `text`, or else the record's attribute named `field`."""
    get = text or attrgetter(field)

    def cell(record: Record) -> Cell:
        return Cell(text=get(record), values=(get(record),), detail=detail(record) if detail else "")

    return Column(title, (field,), cell, is_number=False, value=get)


def numbers(
    title: str, field: str, show: Show, value: Callable[[Record], float | None] | None = None
) -> Column[Record]:
    """Make a column of plain numbers: the result of `value`, or else the record's attribute named `field`."""
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
    """Make a column of values with limits, read from a record as in `numbers`."""
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
    """Format limits as `[+1.0 %, +3.2 %]`; '' if there are none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"[{show(estimate.low)}, {show(estimate.high)}]"


def without_empty_columns(table: Table[Any]) -> Table[Any]:
    """Return the table as shown to a reader, without columns that are empty in every row; CSV keeps them."""
    columns = zip(table.columns, *table.rows, strict=True)
    kept = [column for column, *cells in columns if any(cell.text not in ("", NONE) or cell.detail for cell in cells)]
    return Table(table.name, table.caption, table.records, *kept)


def to_csv(table: Table[Any]) -> str:
    """Write RFC 4180 CSV with a header; absent values are empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([field for column in table.columns for field in column.fields])
    writer.writerows(zip(*(field for column in table.columns for field in _csv_fields(column, table)), strict=True))
    return buffer.getvalue()


def _csv_fields(column: Column[Any], table: Table[Any]) -> list[list[Value]]:
    """Return a column's CSV fields, each with its values for all rows."""
    if column.value is not None:
        return [_plain(map(column.value, table.records))]
    values = column.values or (lambda record: column.cell(record).values)
    return [_plain(of_field) for of_field in zip(*map(values, table.records), strict=True)]


def to_tex(table: Table[Any]) -> str:
    r"""Render a floating table in booktabs style, which needs `\usepackage{booktabs}`."""
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
    """Escape text so that TeX sets it literally."""
    return printable(text).translate(_TEX)


def _tex_cell(cell: Cell) -> str:
    # TeX's usual fonts have no glyph for a verdict's mark, so only its word is written.
    text = str(cell.values[0]) if cell.mark not in ("", "best") else cell.text
    shown = escape_tex(f"{text} {cell.detail}".strip())
    return rf"\textbf{{{shown}}}" if cell.mark == "best" else shown


def _plain(values: Iterable[Value]) -> list[Value]:
    """Format numbers to 12 digits, all that a sum of floats keeps, and quote text that a spreadsheet would run."""
    return [
        f"{value:.12g}" if isinstance(value, float) else _safe(value) if isinstance(value, str) else value
        for value in values
    ]


# Names occur in thousands of rows.
_safe = lru_cache(maxsize=4096)(spreadsheet_safe)
