"""Checks every record of a delimited file against RFC 4180, a byte at a time, before a lenient parser reads it.

pyarrow and Python's csv module accept text after a closing quote, and quotes inside unquoted fields; with a
quote too many or too few they read two rows as one.  This scan finds such records, and records with another
number of fields than the header, so that they are set aside.

A missing quote can also leave a formally valid record: a quoted field that swallows the rows up to the next quote.
Such a field is recognised by a line inside it that has a known level in the position of the level column.  Every
record with bad quotes is divided before such lines, and every part is set aside as a row, so the swallowed rows are
counted.  An essay with a line that looks like a row of its corpus is set aside too; it is listed, not lost.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raysweep.readers.compiled import kernel

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]

QUOTES, FIELDS = 1, 2
_START, _UNQUOTED, _QUOTED, _CLOSED = range(4)
_PARTS_AT_FIRST = 1 << 12


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRecord:
    """Bytes that are set aside as one row."""

    row: int  # 0 is the header
    start: int
    end: int  # after the line break
    has_bad_quotes: bool  # otherwise the number of fields is wrong
    fields: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """The records of a file, without empty lines."""

    rows: int  # records and parts of records, the header included
    bad: tuple[BadRecord, ...]  # in file order
    longest: int  # bytes of the longest record
    open_row: int  # the row in which a quote opens that never closes; -1 if there is none
    open_at: int  # the offset of that quote
    end: int  # the end of the complete records; an incomplete one may follow, unless this is the end of the file


def scan_records(
    data: bytes,
    *,
    fields: int,
    level_at: int,
    levels: Sequence[str],
    delimiter: str = ",",
    has_quotes: bool = True,
    is_last: bool = True,
) -> Scan:
    """Find the malformed records.

    Args:
        fields: number of fields of the header.
        level_at: the position of the level column.
        levels: the known levels, in every spelling.
        is_last: whether the file, and so the last record, ends with the data.
    """
    encoded = [level.encode() for level in levels]
    ends = np.cumsum([0, *map(len, encoded)])
    spellings = np.frombuffer(b"".join(encoded) or b"\0", dtype=np.uint8)
    parts = np.empty((_PARTS_AT_FIRST, 5), dtype=np.int64)
    text = np.frombuffer(data, dtype=np.uint8)
    signs = ord(delimiter), 34 if has_quotes else -1
    while True:
        records, count, longest, open_row, open_at, end_of_records = _scan(
            text, is_last, *signs, fields, level_at, spellings, ends, parts
        )
        if count <= len(parts):
            break
        parts = np.empty((count, 5), dtype=np.int64)
    bad: list[BadRecord] = []
    for place, (number, start, end, kind, own_fields) in enumerate(parts[:count].tolist()):
        has_bad_quotes = kind == QUOTES
        starts = [start]
        if has_bad_quotes:
            starts += _rows_inside(data, start, end, level_at, frozenset(levels), delimiter)
        for first, last in zip(starts, [*starts[1:], end], strict=True):
            # Each earlier bad record that was divided into several rows shifts the later row numbers.
            row = number + len(bad) - place
            bad.append(BadRecord(row=row, start=first, end=last, has_bad_quotes=has_bad_quotes, fields=own_fields))
    extra = len(bad) - count
    return Scan(
        rows=records + extra,
        bad=tuple(bad),
        longest=longest,
        open_row=open_row if open_row < 0 else open_row + extra,
        open_at=open_at,
        end=end_of_records,
    )


def _rows_inside(
    data: bytes, start: int, end: int, level_at: int, levels: frozenset[str], delimiter: str
) -> Iterator[int]:
    """Find the lines of a bad record, after its first, that have a known level in the level column."""
    place = start
    for line in data[start:end].splitlines(keepends=True):
        if place > start:
            # Python's csv module refuses longer fields.
            plain = line[:100_000].decode("utf-8", "replace").strip("\r\n")
            cells = next(csv.reader([plain], delimiter=delimiter), [])
            if level_at < len(cells) and cells[level_at].strip() in levels:
                yield place
        place += len(line)


@kernel
def _scan(
    data: Bytes,
    is_last: bool,
    delimiter: int,
    quote: int,
    fields: int,
    level_at: int,
    levels: Bytes,
    ends: Longs,
    parts: Longs,
) -> tuple[int, int, int, int, int, int]:
    """Write the bad records (row, start, end, kind, fields) to `parts`, as far as there is room.

    Returns:
        The number of records and of bad records, the length of the longest record, the row and offset of a quote that
        never closes (-1 if there is none), and the end of the complete records.
    """
    rows, count, longest = 0, 0, 0
    state, found, has_bad_quotes = _START, 1, False
    start, opened = 0, 0
    is_inside, commas, cell = False, 0, 0  # state of a line after the first one in a quoted field
    for place in range(len(data) + is_last):
        # The end of the file ends a record as a line break does.
        byte = data[place] if place < len(data) else np.uint8(10)
        is_break = byte == 10 or byte == 13
        if state == _QUOTED:
            if place == len(data):
                return rows, count, longest, rows, opened, start
            if byte == quote:
                state = _CLOSED
            elif byte == delimiter or is_break:
                is_at_level = is_inside and commas == level_at and (byte == delimiter or level_at == fields - 1)
                if is_at_level and _is_level(data[cell:place], levels, ends):
                    has_bad_quotes = True
                commas, cell = commas + 1, place + 1
                if is_break:
                    is_inside, commas = True, 0
        elif is_break:
            if place > start:
                if has_bad_quotes or found != fields:
                    if count < len(parts):
                        _write(parts[count], rows, start, place + 1, QUOTES if has_bad_quotes else FIELDS, found)
                    count += 1
                rows += 1
                longest = max(longest, place - start)
            state, found, has_bad_quotes = _START, 1, False
            start = place + 1
        elif byte == delimiter:
            state = _START
            found += 1
        elif byte == quote and state == _START:
            state, is_inside, opened = _QUOTED, False, place
        elif byte == quote and state == _CLOSED:
            state = _QUOTED
        else:
            has_bad_quotes = has_bad_quotes or byte == quote or state == _CLOSED
            state = _UNQUOTED
    return rows, count, longest, -1, -1, start


@kernel
def _write(part: Longs, row: int, start: int, end: int, kind: int, fields: int) -> None:
    part[0], part[1], part[2], part[3], part[4] = row, start, end, kind, fields


@kernel
def _is_level(cell: Bytes, levels: Bytes, ends: Longs) -> bool:
    """Tell whether a cell is a known level, ignoring surrounding spaces and tabs."""
    first, last = 0, len(cell)
    while first < last and (cell[first] == 32 or cell[first] == 9):
        first += 1
    while last > first and (cell[last - 1] == 32 or cell[last - 1] == 9):
        last -= 1
    for number in range(len(ends) - 1):
        size = ends[number + 1] - ends[number]
        if size == last - first and size > 0:
            equal = 0
            while equal < size and cell[first + equal] == levels[ends[number] + equal]:
                equal += 1
            if equal == size:
                return True
    return False
