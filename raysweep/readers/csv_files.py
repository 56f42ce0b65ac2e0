"""Reads columns of a delimited file (CSV, TSV, semicolons), and reports problems of the whole file.

The delimiter is the most frequent candidate in the header.  Every record is first checked strictly (`csv_records.py`);
malformed records are cut out, and pyarrow, which reads 723,282 rows in about a second, reads the rest.  A large file is
read a piece at a time.
"""

import csv
import io
import re
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv

from raysweep.errors import InputError
from raysweep.readers.arrow_input import arrow_input
from raysweep.readers.csv_records import BadRecord, Scan, scan_records
from raysweep.readers.raw_columns import (
    CELL,
    IS_EMPTY,
    SORT_TEXTS,
    MalformedRow,
    RawColumns,
    ReadOptions,
    Roles,
    choose_columns,
    short_name,
    show_cell,
)

WRONG_FIELDS = "wrong number of fields"
WRONG_QUOTES = "misplaced quotes"
BLOCK_BYTES = 16 << 20
LONGEST_RECORD = 1 << 30  # bytes; pyarrow cannot read one of 2 GiB
DELIMITERS = ",;\t|"
_SEPARATOR_LINE = re.compile(rb'\s*"?sep=(.)"?[,;\t]*\r?\n')
_limits: list[int] = []
"""The limit of field sizes before `fields_up_to`, and the limits that are requested at present."""
_limits_lock = threading.Lock()


def read_delimited(name: str, data: bytes, options: ReadOptions, *, delimiter: str | None = None) -> RawColumns:
    """Read some columns of a delimited file in UTF-8.

    Args:
        delimiter: found in the header if None.

    Raises:
        InputError: the whole file cannot be used; the message says why, and how to fix it.
    """
    (piece,) = read_delimited_pieces(name, iter((data,)), options, delimiter=delimiter)
    return piece()


def read_delimited_pieces(
    name: str, blocks: Iterator[bytes], options: ReadOptions, *, delimiter: str | None = None
) -> Iterator[Callable[[], RawColumns]]:
    """Check the records of a delimited file, a block at a time, and yield functions that read them.

    Args:
        blocks: the bytes of the file, divided anywhere but in the header; at least one block.

    Raises:
        InputError: as `read_delimited`; possibly after some pieces were yielded.
    """
    data = next(blocks)
    if line := _SEPARATOR_LINE.match(data[:20]):  # a line by which Excel names the delimiter
        delimiter, data = line[1].decode(), data[line.end() :]
    if options.header is not None:
        delimiter = delimiter or "\t"
        data = delimiter.join(options.header).encode() + b"\n" + data
    delimiter = delimiter or _find_delimiter(data)
    header = _read_header(name, data, delimiter, has_quotes=options.has_quotes)
    try:
        roles, wanted = choose_columns(options, name, header)
    except InputError:
        _refuse_other_layout(name, header, options.levels)
        raise
    layout = _TableLayout(
        header=tuple(header), roles=roles, wanted=wanted, delimiter=delimiter, has_quotes=options.has_quotes
    )
    before, following = 0, next(blocks, None)
    while data:
        scan = scan_records(
            data,
            fields=len(header),
            level_at=header.index(roles.get("level", header[0])),
            levels=list(options.levels) if "level" in roles else [],
            delimiter=delimiter,
            has_quotes=options.has_quotes,
            is_last=following is None,
        )
        _check_records(name, data, scan, before, is_last=following is None)
        if scan.rows:
            yield partial(layout.read, data[: scan.end], scan, before)
        before += scan.rows
        # Read at least as much as is left over, so that a record of many blocks is not scanned once per block.
        rest, size = [data[scan.end :]], max(1, len(data) - scan.end)
        while following is not None and size > 0:
            rest.append(following)
            size -= len(following)
            following = next(blocks, None)
        if len(rest) == 1:
            break
        data = b"".join(rest)


@dataclass(frozen=True, kw_only=True, slots=True)
class _TableLayout:
    """The properties that all pieces of a file share."""

    header: tuple[str, ...]
    roles: Roles
    wanted: Sequence[str]
    """The columns to read."""
    delimiter: str
    has_quotes: bool

    def read(self, data: bytes, scan: Scan, before: int) -> RawColumns:
        """Read a piece; `before` is the number of records before it.  The first record of the first is the header."""
        if len(scan.bad) == scan.rows:  # pyarrow refuses to read nothing
            table = pa.table({name: pa.array([], CELL) for name in self.wanted})
        else:
            table = self._read_table(_without(data, scan.bad), scan.longest).slice(0 if before else 1)
        bad_rows = before + np.array([bad.row for bad in scan.bad], dtype=np.int64)
        rows = np.arange(max(1, before), before + scan.rows, dtype=np.int64)
        raw = RawColumns(
            table=table,
            row_numbers=np.setdiff1d(rows, bad_rows, assume_unique=True),
            malformed=tuple(self._malformed(bad, data, before) for bad in scan.bad),
            header=self.header,
            roles=self.roles,
        )
        assert len(raw.row_numbers) == table.num_rows, "the scan and the parser must count the same rows"
        return raw

    def _malformed(self, bad: BadRecord, data: bytes, before: int) -> MalformedRow:
        content = data[bad.start : bad.end]
        count = f"{bad.fields} {'field' if bad.fields == 1 else 'fields'} instead of {len(self.header)}"
        return MalformedRow(
            row=before + bad.row,
            reason=WRONG_QUOTES if bad.has_bad_quotes else WRONG_FIELDS,
            value=show_cell(content.rstrip(b"\r\n")) if bad.has_bad_quotes else count,
            first_cell=content.split(self.delimiter.encode(), 1)[0].strip(b'"\r\n'),
        )

    def _read_table(self, data: bytes, longest: int) -> pa.Table:
        """Read well-formed records with pyarrow.

        Columns are named by position and a header is read as a row, so unusual column names cause no errors.
        """
        places = [str(self.header.index(name)) for name in self.wanted]
        table = pyarrow.csv.read_csv(
            arrow_input(data),
            read_options=pyarrow.csv.ReadOptions(
                # pyarrow refuses a record that does not fit into a block.
                block_size=max(BLOCK_BYTES, longest + 2),
                column_names=[str(place) for place in range(len(self.header))],
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=self.delimiter,
                quote_char='"' if self.has_quotes else False,
                newlines_in_values=self.has_quotes,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(places, CELL),
                include_columns=list(dict.fromkeys(places)),
                strings_can_be_null=False,
                check_utf8=False,
            ),
        )
        return table.select(places).rename_columns(list(self.wanted))


def _find_delimiter(data: bytes) -> str:
    """Return the delimiter that occurs most often in the header, outside of quotes; a comma if none occurs."""
    line = re.match(rb'\s*(?:"(?:[^"]|"")*"|[^"\r\n])*', data[: 1 << 20])
    header = re.sub(rb'"(?:[^"]|"")*"', b"", line.group() if line else b"")
    return max(DELIMITERS, key=lambda delimiter: header.count(delimiter.encode()))


def _read_header(name: str, data: bytes, delimiter: str, *, has_quotes: bool) -> list[str]:
    with fields_up_to(2**31 - 1):
        text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="surrogateescape", newline="")
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if has_quotes else csv.QUOTE_NONE
        header = next((record for record in csv.reader(text, delimiter=delimiter, quoting=quoting) if record), None)
    if header is None:
        raise InputError(f"{name}: {IS_EMPTY}")
    try:
        "".join(header).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{name}: its header is not UTF-8. Say what it is in data.encoding, such as cp1252") from error
    return header


def _refuse_other_layout(name: str, header: list[str], levels: Collection[str]) -> None:
    """Raise if the first line is not a header."""
    line = ",".join(header)
    if "\n" in line or "\r" in line:
        raise InputError(f"{name}: a quote in its header takes in the lines below. Remove the quotes from the header")
    if line.startswith("#"):
        raise InputError(f"{name}: its first line is a comment; must be the header. Delete the lines that start with #")
    level = next((cell.strip() for cell in header if cell.strip() in levels), None)
    if level is not None:
        raise InputError(
            f"{name}: has no header: its first line holds the level {level!r}, as a row does. "
            "Put a line above it that names the columns, such as writing_id,l1,cefr_level,text"
        )


def _check_records(name: str, data: bytes, scan: Scan, before: int, *, is_last: bool) -> None:
    """Raise if the rows of a file cannot be told apart, or if it has none."""
    if scan.open_at >= 0:
        lines = data.count(b"\n", scan.open_at) + 1
        place = f"row {before + scan.open_row}" if before + scan.open_row else "header"
        raise InputError(
            f"{short_name(name)} {place}: a quote opens and never closes, so the rest of the file "
            f"({lines:,} {'line' if lines == 1 else 'lines'}) became one field. "
            'Close it, or double the quotes inside quoted text ("")'
        )
    if scan.bad and before + scan.bad[0].row == 0:
        raise InputError(
            f"{name}: its header has a quote in the wrong place. Remove the quotes from it, or, if "
            "spaces divide the columns, divide them by commas (in R: write.csv)"
        )
    if is_last and before + scan.rows == 1:
        raise InputError(f"{name}: has a header and no rows{f'; {SORT_TEXTS}' if name.endswith('.txt') else ''}")
    if scan.longest > LONGEST_RECORD:
        raise InputError(f"{name}: has a row of {scan.longest:,} bytes; at most {LONGEST_RECORD:,} can be read")


def _without(data: bytes, bad: Sequence[BadRecord]) -> bytes:
    """Return the data without its bad records."""
    if not bad:
        return data
    view = memoryview(data)
    starts, ends = [0, *(record.end for record in bad)], [*(record.start for record in bad), len(data)]
    return b"".join(view[start:end] for start, end in zip(starts, ends, strict=True))


@contextmanager
def fields_up_to(characters: int) -> Iterator[None]:
    """Raise the limit of Python's csv module, which refuses fields over 131,072 characters.

    The limit belongs to the whole process, and files are read in threads: the highest requested limit applies, and the
    original limit is restored after the last block.
    """
    with _limits_lock:
        if not _limits:
            _limits.append(csv.field_size_limit())
        _limits.append(characters)
        csv.field_size_limit(max(_limits))
    try:
        yield
    finally:
        with _limits_lock:
            _limits.remove(characters)
            csv.field_size_limit(max(_limits))
            if len(_limits) == 1:
                _limits.clear()
