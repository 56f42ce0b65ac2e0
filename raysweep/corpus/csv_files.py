"""Reads columns of a CSV file as bytes, and reports problems of the whole file.

Every record is first checked by the letter (`csv_records.py`); those that are malformed are cut out, and
pyarrow, which reads 723,282 rows in about a second, reads the rest.  Cells stay bytes, because invalid UTF-8
is a problem of single rows (`csv_documents.py`).
"""

import csv
import difflib
import gzip
import io
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from raysweep.corpus.csv_records import BadRecord, Scan, scan_records
from raysweep.errors import InputError

BLOCK_BYTES = 16 << 20
LONGEST_RECORD = 1 << 30  # bytes; pyarrow cannot read one of 2 GiB
CELL = pa.large_binary()  # 64-bit offsets: a column may hold more than 2 GiB
OTHER_DELIMITERS = {";": "a semicolon", "\t": "a tab", "|": "a bar"}
MOST_UNPACKED_BYTES = 16 << 30
MOST_UNPACKED_RATIO = 100
"""Texts shrink to a third or a quarter; 100 and more is a file made to fill the memory."""
RATIO_COUNTS_FROM = 64 << 20  # unpacked bytes; a small corpus may repeat itself
SHOWN_CHARACTERS = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class MalformedRow:
    """A record with misplaced quotes or another number of fields than the header."""

    row: int  # 1-based data row
    fields: int
    has_bad_quotes: bool
    content: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class RawColumns:
    """The cells of the requested columns in file order, without malformed records."""

    table: pa.Table  # large_binary, without nulls
    row_numbers: np.ndarray  # int64, the 1-based data row of each row of the table
    malformed: tuple[MalformedRow, ...]
    header: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Data rows of the file, good or bad."""
        return len(self.row_numbers) + len(self.malformed)


def read_columns(path: Path, names: Sequence[str], *, level: str, levels: Collection[str]) -> RawColumns:
    """Read some columns of a CSV file, plain or gzipped.

    Args:
        names: columns that must exist; repeated names are read once.
        level: the level column, one of `names`.
        levels: the known levels, in every spelling.

    Raises:
        InputError: the whole file cannot be used; says why, and the fix.
    """
    data = _read_bytes(path)
    header = _read_header(path, data)
    wanted = tuple(dict.fromkeys(names))
    _check_header(path, header, wanted, levels)
    scan = scan_records(data, fields=len(header), level_at=header.index(level), levels=list(levels))
    _check_records(path, data, scan)
    table = _read_table(_without(data, scan.bad), header, wanted, scan.longest)
    bad_rows = np.array([bad.row for bad in scan.bad], dtype=np.int64)
    raw = RawColumns(
        table=table,
        row_numbers=np.setdiff1d(np.arange(1, scan.rows, dtype=np.int64), bad_rows, assume_unique=True),
        malformed=tuple(
            MalformedRow(
                row=bad.row, fields=bad.fields, has_bad_quotes=bad.has_bad_quotes, content=data[bad.start : bad.end]
            )
            for bad in scan.bad
        ),
        header=tuple(header),
    )
    assert len(raw.row_numbers) == table.num_rows, "the scan and the parser must count the same rows"
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
        data = _unpack(path, data)
    elif path.suffix == ".gz":
        raise InputError(f"{path}: is not gzip data, although its name ends in .gz. Rename it if it is plain CSV")
    if data.startswith(b"PK\x03\x04"):
        raise InputError(f"{path}: is a ZIP or Excel file; must be CSV. Unpack it, or export the sheet as CSV UTF-8")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or data[:200].count(0) > len(data[:200]) // 4:
        raise InputError(f"{path}: is UTF-16 or UTF-32; must be UTF-8. Convert it: iconv -f UTF-16 -t UTF-8")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data or data.isspace():
        raise InputError(f"{path}: is empty; must hold a header and a row per document")
    if re.match(rb"\s*(\[\s*)?\{", data[:SHOWN_CHARACTERS]):
        raise InputError(f"{path}: looks like JSON or JSON lines; must be CSV with a header. Convert it")
    return data


def _unpack(path: Path, packed: bytes) -> bytes:
    """Decompress gzip data of one or several members, but not without limit: a few MB can hold many GB."""
    parts, unpacked = [], 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            while part := file.read(1 << 22):
                parts.append(part)
                unpacked += len(part)
                is_bomb = unpacked > max(RATIO_COUNTS_FROM, MOST_UNPACKED_RATIO * len(packed))
                if is_bomb or unpacked > MOST_UNPACKED_BYTES:
                    raise InputError(
                        f"{path}: its {len(packed):,} bytes of gzip data unpack to more than {unpacked:,}; at most "
                        f"{MOST_UNPACKED_RATIO} times their size and {MOST_UNPACKED_BYTES >> 30} GiB are read. "
                        "If it is a real corpus, unpack it"
                    )
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: its gzip data is damaged or cut short ({error}). Copy it again") from error
    return b"".join(parts)


def _read_header(path: Path, data: bytes) -> list[str]:
    with _fields_of_any_length():
        text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="surrogateescape", newline="")
        header = next(record for record in csv.reader(text) if record)
    try:
        "".join(header).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: its header is not UTF-8. Convert it: iconv -f WINDOWS-1252 -t UTF-8") from error
    return header


def _check_header(path: Path, header: list[str], wanted: Sequence[str], levels: Collection[str]) -> None:
    missing = [name for name in wanted if name not in header]
    if missing:
        _refuse_other_layout(path, header, wanted, levels)
        problems = "; ".join(f"no column {name!r}{_did_you_mean(name, header)}" for name in missing)
        raise InputError(f"{path}: {problems}. Found the columns {_names(header)}. Name yours in data.columns")
    for name in wanted:
        if header.count(name) > 1:
            raise InputError(
                f"{path}: the column {name!r} appears {header.count(name)} times in the header; must appear once"
            )


def _refuse_other_layout(path: Path, header: list[str], wanted: Sequence[str], levels: Collection[str]) -> None:
    """Recognise a first line that is not the header of a CSV file with commas."""
    line = ",".join(header)
    if separator := re.fullmatch(r"sep=(.),?", line.strip(" ")):
        also = "" if separator[1] == "," else ", and save the file with commas instead"
        raise InputError(f"{path}: its first line {line[:9]!r} is meant for Excel; must be the header. Delete it{also}")
    if "\n" in line or "\r" in line:
        raise InputError(f"{path}: a quote in its header takes in the lines below. Remove the quotes from the header")
    if line.startswith("#"):
        raise InputError(f"{path}: its first line is a comment; must be the header. Delete the lines that start with #")
    for delimiter, name in OTHER_DELIMITERS.items():
        cells = [cell.strip().strip('"') for cell in line.split(delimiter)]
        has_names = sum(column in cells for column in wanted) >= 2
        if len(cells) > len(header) and (has_names or len(header) == 1 < len(cells) - 1):
            raise InputError(
                f"{path}: its columns are separated by {name} ({delimiter!r}); must be a comma. "
                "Save it again as CSV with commas"
            )
    level = next((cell.strip() for cell in header if cell.strip() in levels), None)
    if level is not None and not set(wanted) & set(header):
        raise InputError(
            f"{path}: has no header: its first line holds the level {level!r}, as a row does. "
            f"Put a line above it that names the columns, such as {','.join(wanted)}"
        )


def _names(header: list[str]) -> str:
    """List column names, at most 80 characters of them."""
    shown = ", ".join(repr(name) for name in header)
    return shown if len(shown) <= SHOWN_CHARACTERS else shown[:SHOWN_CHARACTERS] + f"… ({len(header):,} in all)"


def _did_you_mean(name: str, header: list[str]) -> str:
    folded = {column.strip().lower().replace(" ", "_"): column for column in header if len(column) < SHOWN_CHARACTERS}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""


def _check_records(path: Path, data: bytes, scan: Scan) -> None:
    """Refuse a file whose rows cannot be told apart, or that has none."""
    if scan.open_at >= 0:
        lines = data.count(b"\n", scan.open_at) + 1
        place = f"row {scan.open_row}" if scan.open_row else "header"
        raise InputError(
            f"{path.name} {place}: a quote opens and never closes, so the rest of the file "
            f"({lines:,} {'line' if lines == 1 else 'lines'}) became one field. "
            'Close it, or double the quotes inside quoted text ("")'
        )
    if scan.bad and scan.bad[0].row == 0:
        raise InputError(f"{path}: its header has a quote in the wrong place. Remove the quotes from it")
    if scan.rows == 1:
        raise InputError(f"{path}: has a header and no rows")
    if scan.longest > LONGEST_RECORD:
        raise InputError(f"{path}: has a row of {scan.longest:,} bytes; at most {LONGEST_RECORD:,} can be read")


def _without(data: bytes, bad: Sequence[BadRecord]) -> bytes:
    """Cut bad records out."""
    if not bad:
        return data
    view = memoryview(data)
    starts, ends = [0, *(record.end for record in bad)], [*(record.start for record in bad), len(data)]
    return b"".join(view[start:end] for start, end in zip(starts, ends, strict=True))


def _read_table(data: bytes, header: list[str], wanted: Sequence[str], longest: int) -> pa.Table:
    """Read well-formed records with pyarrow."""
    # Columns are named by position and the header is read as a row, so unusual header names cannot break the reading.
    places = [str(header.index(name)) for name in wanted]
    table = pyarrow.csv.read_csv(
        pa.BufferReader(data),
        read_options=pyarrow.csv.ReadOptions(
            # pyarrow refuses a record that does not fit a block.
            block_size=max(BLOCK_BYTES, longest + 2),
            column_names=[str(place) for place in range(len(header))],
        ),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(places, CELL),
            include_columns=list(dict.fromkeys(places)),
            strings_can_be_null=False,
            check_utf8=False,
        ),
    )
    return table.slice(1).select(places).rename_columns(list(wanted))


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lift the process-wide limit of Python's csv module, which refuses fields over 131,072 characters."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
