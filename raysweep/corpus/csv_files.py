"""Reads columns of a CSV file as bytes, and reports problems of the whole file.

pyarrow reads a well-formed file of 723,282 rows in about a second.  If pyarrow refuses the file (a record has
too few or too many fields), Python's csv module reads it again, more slowly, and finds the malformed records.
Both follow RFC 4180 with the same leniency and give the same cells, which a test checks.  Cells stay bytes,
because invalid UTF-8 is a problem of single rows (`csv_documents.py`).
"""

import csv
import difflib
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from raysweep.errors import InputError

BLOCK_BYTES = 16 << 20  # pyarrow refuses a longer record; Python's csv module then reads the file
CELL = pa.large_binary()  # 64-bit offsets: a column may hold more than 2 GiB
OTHER_DELIMITERS = {";": "a semicolon", "\t": "a tab", "|": "a bar"}


@dataclass(frozen=True, kw_only=True, slots=True)
class MalformedRow:
    """A record with another number of fields than the header."""

    row: int  # 1-based data row
    fields: int
    first_field: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class RawColumns:
    """The cells of the requested columns in file order, without malformed records."""

    table: pa.Table  # large_binary, without nulls
    row_numbers: np.ndarray  # int64, the 1-based data row of each row of the table
    malformed: tuple[MalformedRow, ...]
    header: tuple[str, ...]
    last_field: bytes  # the last field of the file, in any column

    @property
    def rows(self) -> int:
        """Data rows of the file, good or bad."""
        return len(self.row_numbers) + len(self.malformed)


def read_columns(path: Path, names: Sequence[str], *, slowly: bool = False) -> RawColumns:
    """Read some columns of a CSV file, plain or gzipped.

    Args:
        names: columns that must exist; repeated names are read once.
        slowly: read with Python's csv module instead of pyarrow (for tests).

    Raises:
        InputError: the whole file cannot be used; says why, and the fix.
    """
    data = _read_bytes(path)
    header = _read_header(path, data)
    wanted = tuple(dict.fromkeys(names))
    _check_header(path, header, wanted)
    raw = (None if slowly else _read_fast(data, header, wanted)) or _read_slowly(data, header, wanted)
    if raw.rows == 0:
        raise InputError(f"{path}: has a header and no rows")
    _check_quotes_close(path, data, raw)
    return raw


def _read_bytes(path: Path) -> bytes:
    """Read the file, decompressed and without a byte order mark."""
    if not path.exists():
        raise InputError(f"{path}: no such file. Set data.csv to the corpus, or leave it out for the synthetic sample")
    if not path.is_file():
        raise InputError(f"{path}: is a folder; data.csv must be a CSV file (.csv or .csv.gz)")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: its gzip data is damaged or cut short ({error}). Copy it again") from error
    elif path.suffix == ".gz":
        raise InputError(f"{path}: is not gzip data, although its name ends in .gz. Rename it if it is plain CSV")
    if data.startswith(b"PK\x03\x04"):
        raise InputError(f"{path}: is a ZIP or Excel file; must be CSV. Unpack it, or export the sheet as CSV UTF-8")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or data[:200].count(0) > len(data[:200]) // 4:
        raise InputError(f"{path}: is UTF-16 or UTF-32; must be UTF-8. Convert it: iconv -f UTF-16 -t UTF-8")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data or data.isspace():
        raise InputError(f"{path}: is empty; must hold a header and a row per document")
    return data


def _read_header(path: Path, data: bytes) -> list[str]:
    with _fields_of_any_length():
        header = next(_records(data))
    try:
        "".join(header).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: its header is not UTF-8. Convert it: iconv -f WINDOWS-1252 -t UTF-8") from error
    return header


def _check_header(path: Path, header: list[str], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in header]
    if missing:
        _refuse_other_delimiter(path, header, wanted)
        columns = ", ".join(repr(name) for name in header)
        problems = "; ".join(f"no column {name!r}{_did_you_mean(name, header)}" for name in missing)
        raise InputError(f"{path}: {problems}. Found the columns {columns}. Name yours in data.columns")
    for name in wanted:
        if header.count(name) > 1:
            raise InputError(
                f"{path}: the column {name!r} appears {header.count(name)} times in the header; must appear once"
            )


def _refuse_other_delimiter(path: Path, header: list[str], wanted: Sequence[str]) -> None:
    line = ",".join(header)
    for delimiter, name in OTHER_DELIMITERS.items():
        cells = [cell.strip().strip('"') for cell in line.split(delimiter)]
        if len(cells) > len(header) and sum(column in cells for column in wanted) >= 2:
            raise InputError(
                f"{path}: its columns are separated by {name} ({delimiter!r}); must be a comma. "
                "Save it again as CSV with commas"
            )


def _did_you_mean(name: str, header: list[str]) -> str:
    folded = {column.strip().lower().replace(" ", "_"): column for column in header}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""


def _read_fast(data: bytes, header: list[str], wanted: Sequence[str]) -> RawColumns | None:
    """Read with pyarrow; None if a record is malformed or longer than a block."""
    # Columns are named by position and the header is read as a row, so unusual header names cannot break the reading.
    places = [str(header.index(name)) for name in wanted]
    last = str(len(header) - 1)
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            read_options=pyarrow.csv.ReadOptions(
                block_size=BLOCK_BYTES, column_names=[str(place) for place in range(len(header))]
            ),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys([*places, last], CELL),
                include_columns=list(dict.fromkeys([*places, last])),
                strings_can_be_null=False,
                check_utf8=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    table = table.slice(1)
    return RawColumns(
        table=table.select(places).rename_columns(list(wanted)),
        row_numbers=np.arange(1, table.num_rows + 1, dtype=np.int64),
        malformed=(),
        header=tuple(header),
        last_field=table[last][-1].as_py() if table.num_rows else b"",
    )


def _read_slowly(data: bytes, header: list[str], wanted: Sequence[str]) -> RawColumns:
    """Read with Python's csv module, which continues after a malformed record."""
    places = [header.index(name) for name in wanted]
    columns: list[list[bytes]] = [[] for _ in wanted]
    row_numbers: list[int] = []
    malformed: list[MalformedRow] = []
    record: list[str] = [""]
    with _fields_of_any_length():
        records = _records(data)
        next(records)
        for row, record in enumerate(records, start=1):
            if len(record) != len(header):
                malformed.append(MalformedRow(row=row, fields=len(record), first_field=_encode(record[0])))
                continue
            row_numbers.append(row)
            for place, column in zip(places, columns, strict=True):
                column.append(_encode(record[place]))
    table = pa.table({name: pa.array(column, CELL) for name, column in zip(wanted, columns, strict=True)})
    return RawColumns(
        table=table,
        row_numbers=np.array(row_numbers, dtype=np.int64),
        malformed=tuple(malformed),
        header=tuple(header),
        last_field=_encode(record[-1]),
    )


def _records(data: bytes) -> Iterator[list[str]]:
    """Iterate over the records, header first, without empty lines; bytes outside UTF-8 become surrogates."""
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="surrogateescape", newline="")
    return (record for record in csv.reader(text) if record)


def _encode(field: str) -> bytes:
    return field.encode("utf-8", "surrogateescape")


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lift the process-wide limit of Python's csv module, which refuses fields over 131,072 characters."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _check_quotes_close(path: Path, data: bytes, raw: RawColumns) -> None:
    """Refuse a quote that never closes, which makes the rest of the file one field without any parser error.

    This can only happen in the last record.  It ends inside quotes if the file ends with an opening quote and
    the last field with its quotes doubled; a field of only quotes is decided by their number.
    """
    last = raw.last_field
    if last.strip(b'"'):
        is_open = data.endswith(b'"' + last.replace(b'"', b'""'))
    else:
        is_open = (len(data) - len(data.rstrip(b'"'))) % 2 == 1
    if is_open:
        lines = last.count(b"\n") + 1
        raise InputError(
            f"{path.name} row {raw.rows}: a quote opens and never closes, so the rest of the file "
            f"({lines:,} {'line' if lines == 1 else 'lines'}) became one field. "
            'Close it, or double the quotes inside quoted text ("")'
        )
