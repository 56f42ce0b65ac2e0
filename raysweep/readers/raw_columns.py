"""The result of every reader: cells of the requested columns, the row of each record, and the malformed records.

Cells stay bytes until the corpus checks them, because invalid UTF-8 is a problem of single rows.  Rows are records,
counted from 1: the header and empty lines do not count, and a text with line breaks is one row.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from raysweep.errors import InputError
from raysweep.storage.printable import SHOWN_CHARACTERS, printable

SORT_TEXTS = (
    "if each file is one text, put it into a folder that is named like its level (A1/anna.txt), with no other files; "
    "if all have one level, add --set data.layout=level_folders"
)
"""The advice for plain texts that were taken for tables."""
IS_EMPTY = "is empty; must hold a header and a row per document"
CELL = pa.large_binary()  # 64-bit offsets: a column may hold more than 2 GiB

LONGEST_NAME = 40
"""Most characters of a column's name that a message repeats."""
Roles = Mapping[str, str]
"""Role of a column (`level`, `text`, …) → its name in the file."""
FILE = "@file"
"""A column that every file has: its name, without folder and suffix."""
NameColumns = Callable[[str], Mapping[str, str] | None]
"""Reads columns from the path of a text file; returns None if the path has another form."""
Choose = Callable[[str, Sequence[str]], Roles]
"""Given a file's name and its columns, chooses the columns to read; raises if one is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class XmlShape:
    """The position of the records in an XML file."""

    record: str  # the element that is one record
    columns: Mapping[str, str]  # column → a path below the record: `learner/@id`, `topic`, `.//p`


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadOptions:
    """Settings for reading files."""

    choose: Choose
    levels: frozenset[str]  # the known levels, in every spelling
    format: str | None = None  # recognised by the content if None
    encoding: str = "utf-8"
    sheet: str | None = None
    has_quotes: bool = True  # for delimited files; if False, a quote is an ordinary character
    header: tuple[str, ...] | None = None  # for delimited files without a header
    xml: XmlShape | None = None
    name_columns: NameColumns | None = None  # for files that hold one plain text each


@dataclass(frozen=True, kw_only=True, slots=True)
class MalformedRow:
    """A record that could not be divided into cells."""

    row: int  # 1-based data row
    reason: str
    value: str  # escaped, cut to about 80 characters
    column: str = ""  # the column of the bad cell, if there is one
    first_cell: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class RawColumns:
    """The cells of the requested columns in file order, without malformed records."""

    table: pa.Table  # large_binary, without nulls; columns have their names in the file
    row_numbers: np.ndarray  # int64, the 1-based data row of each row of the table
    malformed: tuple[MalformedRow, ...] = ()
    header: tuple[str, ...]
    roles: Roles = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of data rows of the file, including malformed ones."""
        return len(self.row_numbers) + len(self.malformed)


def choose_columns(options: ReadOptions, name: str, header: Sequence[str]) -> tuple[Roles, list[str]]:
    """Choose the columns of a file and check that it has them; returns the roles, and the columns to read."""
    roles = options.choose(name, header)
    columns = list(dict.fromkeys(roles.values()))
    check_columns(name, header, columns)
    return roles, columns


def check_columns(name: str, header: Sequence[str], wanted: Iterable[str]) -> None:
    """Raise if a column is missing or appears twice."""
    missing = [column for column in wanted if column not in header]
    if missing:
        problems = "; ".join(f"no column {column!r}{did_you_mean(column, header)}" for column in missing)
        raise InputError(f"{name}: {problems}. Found {describe_header(header)}. Name yours in data.columns")
    for column in wanted:
        if (times := list(header).count(column)) > 1:
            raise InputError(f"{name}: the column {column!r} appears {times} times in the header; must appear once")


def list_names(names: Sequence[str]) -> str:
    """List names, cut to about 80 characters."""
    shown = ", ".join(map(repr, names))
    return shown if len(shown) <= SHOWN_CHARACTERS else shown[:SHOWN_CHARACTERS] + f"… ({len(names):,} in all)"


def describe_header(header: Sequence[str]) -> str:
    """List the columns, unless they look like a text: a learner's text must not be quoted if a header is missing."""
    if looks_like_text(header):
        return f"a first line of {len(header):,} {'cell' if len(header) == 1 else 'cells'} that looks like a text"
    return f"the columns {list_names(header)}"


def looks_like_text(header: Sequence[str]) -> bool:
    """Tell whether a cell of the first line is longer than a name, or ends like a sentence."""
    return any(len(name) > LONGEST_NAME or re.search(r"[.?!]\s*$", name) for name in header)


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """Suggest a column with a similar name."""
    folded = {column.strip().lower().replace(" ", "_"): column for column in names if len(column) < SHOWN_CHARACTERS}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""


def short_name(name: str) -> str:
    """Return the name of a file, or of a file in an archive (`archive.zip: folder/name`), without its folder."""
    return name_parts(name)[-1]


def name_parts(name: str) -> list[str]:
    """Divide the name of a file, or of a file in an archive, into folders and name."""
    return re.split(r"/|: ", name)


def show_cell(cell: bytes) -> str:
    """Quote and escape a cell as Python does, cut to about 80 characters."""
    try:
        cut: str | bytes = cell.decode("utf-8")
    except UnicodeDecodeError:
        cut = cell
    return repr(cut[:SHOWN_CHARACTERS]).removeprefix("b") + ("…" if len(cut) > SHOWN_CHARACTERS else "")


def short_text(cell: bytes) -> str:
    """Decode the start of a cell as printable text."""
    return printable(cell[: 4 * SHOWN_CHARACTERS].decode("utf-8", "backslashreplace")[:SHOWN_CHARACTERS])
