"""Reads JSON Lines, and JSON with a list of records.

JSON Lines are read by pyarrow, which parses only the requested columns.  If it fails (a value of another type, a line
that is not JSON), the file is read again line by line, so that exactly the bad lines are set aside.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from raysweep.errors import InputError
from raysweep.readers.arrow_input import arrow_input
from raysweep.readers.raw_columns import CELL, MalformedRow, RawColumns, ReadOptions, Roles, choose_columns, show_cell
from raysweep.storage.printable import SHOWN_CHARACTERS, shown

NOT_JSON = "not JSON"
NESTED = "nested value"
BLOCK_BYTES = 4 << 20
BATCH_ROWS = 8192
RECORDS_FOR_COLUMNS = 1000
_AGAIN = "Copy or export it again"
_LONGEST_BLOCK = 1 << 31
_SPACE = re.compile(r"[\s,]*")


def read_json_lines(name: str, data: bytes, options: ReadOptions) -> RawColumns:
    """Read one record per line; raises InputError if no line is a record, or a column is missing."""
    records = (record for _, record, _ in _lines(data) if isinstance(record, dict))
    first = list(islice(records, RECORDS_FOR_COLUMNS))
    if not first:
        raise InputError(f'{name}: no line is a JSON object; must be one record a line, such as {{"text": …}}')
    header = _keys(first)
    roles, _ = choose_columns(options, name, header)
    table = _read_fast(data, first, roles)
    if table is not None:
        return RawColumns(table=table, row_numbers=np.arange(1, table.num_rows + 1), header=header, roles=roles)
    return _collect(_lines(data), header, roles)


def read_json(name: str, data: bytes, options: ReadOptions) -> RawColumns:
    """Read a list of records, or an object that has exactly one such list.

    Raises:
        InputError: it is not JSON, holds no records, or a column is missing.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name} line {line}: is not UTF-8. Say what it is in data.encoding, such as cp1252"
        ) from error
    records = _list_items(name, text) if text.lstrip().startswith("[") else _only_list(name, text)
    first = list(islice(records, RECORDS_FOR_COLUMNS))
    header = _keys([record for record in first if isinstance(record, dict)])
    if not header:
        raise InputError(f'{name}: its list holds no records; must be a list of objects, such as [{{"text": …}}]')
    roles, _ = choose_columns(options, name, header)
    return _collect(((row, record, b"") for row, record in enumerate(chain(first, records), start=1)), header, roles)


def _read_fast(
    data: bytes, first: Sequence[Mapping[str, Any]], roles: Roles, block: int = BLOCK_BYTES
) -> pa.Table | None:
    """Read the columns with pyarrow; returns None if it cannot read the file."""
    names = list(dict.fromkeys(roles.values()))
    numbers = {name for name in names if any(type(record.get(name)) is int for record in first)}
    types = {name: pa.int64() if name in numbers else pa.string() for name in names}
    try:
        table = pyarrow.json.read_json(
            arrow_input(data),
            read_options=pyarrow.json.ReadOptions(block_size=block),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=pa.schema(list(types.items())), unexpected_field_behavior="ignore"
            ),
        )
    except pa.ArrowInvalid as error:
        is_too_long = "straddling" in str(error) and block < len(data) < _LONGEST_BLOCK
        return _read_fast(data, first, roles, len(data) + 1) if is_too_long else None
    columns = {name: pc.fill_null(table[name].cast(pa.string()).cast(pa.binary()).cast(CELL), b"") for name in names}
    return pa.table(columns)


def _lines(data: bytes) -> Iterator[tuple[int, Any, bytes]]:
    """Yield the number, the record and the bytes of each line; the record is None if the line is not JSON."""
    row, start = 0, 0
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        line = data[start:end].strip()
        start = end + 1
        if line:
            row += 1
            try:
                yield row, json.loads(line, object_pairs_hook=_unique), line
            except (ValueError, RecursionError):
                yield row, None, line


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a key is there twice")
    return record


def _list_items(name: str, text: str) -> Iterator[Any]:
    """Yield the items of a list, one at a time."""
    decode = json.JSONDecoder().raw_decode
    place = text.index("[") + 1
    while True:
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        if text[place : place + 1] == "]":
            return
        try:
            item, place = decode(text, place)
        except (ValueError, RecursionError) as error:
            raise _not_json(name, text, error) from error
        yield item


def _only_list(name: str, text: str) -> Iterator[Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not_json(name, text, error) from error
    lists = [key for key, value in content.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(lists) != 1:
        keys = shown(list(content))
        raise InputError(
            f"{name}: holds an object with the keys {keys}; must be a list of records (in pandas: "
            "orient='records'), or hold one list"
        )
    yield from content[lists[0]]


def _not_json(name: str, text: str, error: ValueError | RecursionError) -> InputError:
    if not isinstance(error, json.JSONDecodeError):
        return InputError(f"{name}: its JSON is nested too deep; must be a list of flat records")
    end = " (cut short?)" if error.pos >= len(text.rstrip()) - 1 else ""
    place = f"line {error.lineno}, column {error.colno}"
    fix = "Put the records into one list, or one a line without commas" if error.msg == "Extra data" else _AGAIN
    return InputError(f"{name}: is not JSON: {error.msg} at {place}{end}. {fix}")


def _keys(records: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for record in records for key in record))


def _collect(records: Iterable[tuple[int, Any, bytes]], header: tuple[str, ...], roles: Roles) -> RawColumns:
    """Collect cells record by record, and set aside what is not a flat record."""
    names = list(dict.fromkeys(roles.values()))
    rows: list[int] = []
    malformed: list[MalformedRow] = []
    chunks: dict[str, list[pa.Array]] = {name: [] for name in names}
    cells: dict[str, list[bytes]] = {name: [] for name in names}
    for row, record, source in records:
        if not isinstance(record, dict):
            value = show_cell(source) if source else shown(record, SHOWN_CHARACTERS)
            malformed.append(MalformedRow(row=row, reason=NOT_JSON, value=value))
            continue
        values = [record.get(name) for name in names]
        if (nested := next((n for n, v in enumerate(values) if isinstance(v, dict | list)), None)) is not None:
            kind = "an object" if isinstance(values[nested], dict) else "a list"
            malformed.append(MalformedRow(row=row, reason=NESTED, value=kind, column=names[nested]))
            continue
        rows.append(row)
        for name, content in zip(names, values, strict=True):
            cells[name].append(to_cell(content))
        if len(rows) % BATCH_ROWS == 0:
            flush_cells(cells, chunks)
    flush_cells(cells, chunks)
    table = pa.table({name: pa.chunked_array(chunks[name], CELL) for name in names})
    numbers = np.array(rows, dtype=np.int64)
    return RawColumns(table=table, row_numbers=numbers, malformed=tuple(malformed), header=header, roles=roles)


def flush_cells(cells: dict[str, list[bytes]], chunks: dict[str, list[pa.Array]]) -> None:
    """Move the cells of each column into a new chunk of the column."""
    for name, values in cells.items():
        chunks[name].append(pa.array(values, CELL))
        values.clear()


def to_cell(value: Any) -> bytes:
    """Convert a plain value to the bytes of a cell; whole numbers have no decimals, None and NaN are empty cells."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if value is None or value != value:
        return b""
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).encode()
