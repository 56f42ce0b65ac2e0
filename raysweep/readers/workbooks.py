"""Reads Excel and OpenDocument workbooks through calamine, a reader in Rust."""

import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from raysweep.errors import InputError
from raysweep.readers.json_files import BATCH_ROWS, flush_cells, to_cell
from raysweep.readers.raw_columns import CELL, RawColumns, ReadOptions, choose_columns, list_names

_MANIFEST = "META-INF/manifest.xml"
_MOST_MANIFEST_BYTES = 1 << 20
_ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")
_FILE_PASS = re.compile(rb"\x09\x08\x10\x00.{16}(\x86\x00\x00\x00)?\x2f\x00", re.DOTALL)
"""In an .xls file: the record that begins the workbook, followed by the record that describes its encryption."""


def read_workbook(name: str, data: bytes, options: ReadOptions) -> RawColumns:
    """Read one sheet; its first row that is not empty is the header, and empty rows are skipped.

    Raises:
        InputError: the workbook is damaged or protected, it is not clear which sheet is meant, the sheet is empty, or
            a column is missing.
    """
    rows = _rows(name, data, options.sheet)
    header = tuple(_name(value) for value in next(rows, ()))
    if not any(header):
        raise InputError(f"{name}: its sheet is empty; must hold a header and a row per document")
    roles, names = choose_columns(options, name, header)
    places = [header.index(column) for column in names]
    chunks: dict[str, list[pa.Array]] = {column: [] for column in names}
    cells: dict[str, list[bytes]] = {column: [] for column in names}
    count = 0
    for row in rows:
        count += 1
        for column, place in zip(cells.values(), places, strict=True):
            column.append(to_cell(row[place]) if place < len(row) else b"")
        if count % BATCH_ROWS == 0:
            flush_cells(cells, chunks)
    flush_cells(cells, chunks)
    if not count:
        raise InputError(f"{name}: has a header and no rows")
    table = pa.table({column: pa.chunked_array(chunk, CELL) for column, chunk in chunks.items()})
    return RawColumns(table=table, row_numbers=np.arange(1, count + 1, dtype=np.int64), header=header, roles=roles)


def _rows(name: str, data: bytes, sheet: str | None) -> Iterator[Sequence[Any]]:
    """Return an iterator over the rows of the sheet that are not empty."""
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError

    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(data))
        names = book.sheet_names
        if sheet is not None and sheet not in names:
            raise InputError(f"{name}: has no sheet {sheet[:80]!r}; its sheets are {list_names(names)}")
        sheets = [book.get_sheet_by_name(each) for each in names if sheet in (None, each)]
        filled = [each for each in sheets if each.total_height > 0] or sheets
        if len(filled) > 1:
            several = list_names([each.name for each in filled])
            raise InputError(
                f"{name}: has {len(filled)} sheets, {several}. Name the one to read in data.sheet, or put all "
                "rows into one sheet, with a column for the level"
            )
        rows = filled[0].iter_rows()
    except (CalamineError, OSError, ValueError) as error:
        if isinstance(error, PasswordError) or _is_protected(data):
            raise InputError(f"{name}: is protected by a password; must be open. Save it again without one") from error
        raise InputError(
            f"{name}: its workbook is damaged or of another kind ({str(error)[:120]}). Copy it again"
        ) from error
    return (row for row in rows if any(value != "" and value is not None for value in row))


def _is_protected(data: bytes) -> bool:
    """Tell whether a workbook that calamine could not read has a password; calamine says only that no format fits."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return _ENCRYPTED_STREAM in data or _FILE_PASS.search(data) is not None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(_MANIFEST) as manifest:
            return b"encryption-data" in manifest.read(_MOST_MANIFEST_BYTES)
    except (KeyError, OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile):
        return False  # no manifest, or a damaged one


def _name(value: Any) -> str:
    return to_cell(value).decode("utf-8", "replace").strip()
