"""Inspects unknown files: finds their layout, header and format, and the role of each column."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raysweep.config.data_settings import DataConfig, LayoutName
from raysweep.corpus.column_choice import NEEDED, ColumnChooser, read_options
from raysweep.corpus.column_guess import ADD_HEADER, guess_by_content, guess_by_name
from raysweep.corpus.layouts import LAYOUTS, CorpusLayout, has_level_folders
from raysweep.errors import InputError
from raysweep.readers.json_files import NESTED
from raysweep.readers.raw_columns import ReadOptions, Roles, describe_header, list_names, looks_like_text, short_name
from raysweep.readers.reading import open_files, read_file, sniff_format


class _HeaderFound(Exception):  # noqa: N818 - not an error: it ends the reading of a file once its header is known
    def __init__(self, header: Sequence[str]) -> None:
        super().__init__(header)
        self.header = tuple(header)


def named_layout(files: Sequence[Path]) -> LayoutName | None:
    """Return the layout that the paths of the files alone identify, or None."""
    names = [file.name for file in open_files(files)] if len(files) == 1 else [str(file) for file in files]
    icnale = LAYOUTS["icnale"].name_columns
    assert icnale is not None
    if 2 * sum(icnale(name) is not None for name in names) > len(names):
        return "icnale"
    if not all(name.endswith(".txt") for name in names):
        return None
    if all("CEFR-SP" in short_name(name) for name in names):
        return "cefr_sp"
    return "level_folders" if has_level_folders(names) else None


def read_header(files: Sequence[Path], given: DataConfig, layout: CorpusLayout | None) -> tuple[tuple[str, ...], str]:
    """Return the header and the format of the first file."""

    def stop(_: str, header: Sequence[str]) -> Roles:
        raise _HeaderFound(header)

    chooser = ColumnChooser(given.columns, layout)
    options = read_options(given, layout, chooser)
    for file in open_files(files, layout.files if layout else None):
        kind = options.format or sniff_format(file.read(), file.name, options)
        for xml_layout in (layout,) if kind != "xml" or layout else (LAYOUTS["asag"], LAYOUTS["efcamdat_xml"]):
            try:
                read_file(file, _with_chooser(options, stop, xml_layout))
            except _HeaderFound as stopped:
                shape = xml_layout.xml if xml_layout is not None else None
                if kind == "xml" and shape is not None and f"<{shape.record}".encode() not in file.read():
                    continue
                return stopped.header, kind
        raise InputError(
            f"{file.name}: is XML of no known layout; known are asag and efcamdat_xml. Make a table of it, such as CSV"
        )
    raise InputError("data.path: no file of the layout is there")


def _with_chooser(options: ReadOptions, choose: Any, layout: CorpusLayout | None) -> ReadOptions:
    return replace(options, choose=choose, xml=layout.xml if layout is not None else None)


def guess_columns(
    files: Sequence[Path],
    given: DataConfig,
    header: tuple[str, ...],
    columns: Mapping[str, str],
    *,
    needed: Sequence[str] = NEEDED,
) -> dict[str, str]:
    """Find the columns of the roles that the config does not name: by name, then the needed ones by content.

    Args:
        columns: role → column, as the config names them.

    Raises:
        InputError: a needed column is not found, or several columns may be it.
    """
    named = {("id" if role == "writing_id" else role): name for role, name in guess_by_name(header).items()}
    taken = set(columns.values())
    roles = {role: name for role, name in named.items() if name not in taken and role not in columns}
    if missing := set(needed) - {*roles, *columns}:
        table = read_columns(files, given, header)
        guessed = guess_by_content(str(files[0]), table, {**roles, **columns}, missing)
        roles |= guessed
        if still := sorted(missing - set(guessed)):
            raise InputError(f"{files[0]}: {_not_recognised(still, header, table, len(files))}")
    if roles.get("id") is not None:
        distinct, rows = count_values(files, given, roles["id"])
        if distinct < rows:  # it cannot be the id
            del roles["id"]
    return roles


def read_columns(files: Sequence[Path], given: DataConfig, columns: Sequence[str]) -> pa.Table:
    """Read those columns of the first file that have a name and hold plain values."""
    names = [name for name in dict.fromkeys(columns) if name]
    options = read_options(given, None, ColumnChooser(given.columns, None))
    file = next(open_files(files[:1]))
    while names:
        roles = {f"#{place}": name for place, name in enumerate(names)}
        raw = read_file(file, _with_chooser(options, lambda *_, roles=roles: roles, None))
        nested = {row.column for row in raw.malformed if row.reason == NESTED}
        if raw.table.num_rows or not nested:
            return raw.table
        names = [name for name in names if name not in nested]
    return pa.table({})


def _not_recognised(roles: Sequence[str], header: Sequence[str], table: pa.Table, files: int) -> str:
    named = [name for name in header if name]
    nested = [name for name in named if name not in table.column_names]
    holds = f"{list_names(nested)} {'hold' if nested[1:] else 'holds'} lists or objects"
    hint = f"; {holds}, so flatten the records" if nested else ""
    if looks_like_text(named):
        hint += f". If the file has no header: {ADD_HEADER}"
    elif len(named) < len(header) or len(header) == 1:
        hint += ", or, if a title stands above the row of names, delete it"
        hint += "; columns are divided by commas, semicolons, tabs or bars" if len(header) == 1 else ""
    elif "level" in roles and files > 1:
        hint += """. If the files are named like their levels (A1.csv): --set 'data.columns.level="@file"'"""
    return (
        f"no column is recognised as the {' and as the '.join(roles)}. Found {describe_header(named)}. "
        f"Name yours in data.columns, such as --set data.columns.{roles[0]}=COLUMN{hint}"
    )


def count_values(files: Sequence[Path], given: DataConfig, column: str) -> tuple[int, int]:
    """Return the number of distinct values of a column, and of rows."""
    options = read_options(given, None, ColumnChooser(given.columns, None))
    cells = [
        read_file(file, _with_chooser(options, lambda *_: {"level": column}, None)).table[column]
        for file in open_files(files)
    ]
    values = pa.chunked_array([chunk for each in cells for chunk in each.chunks], pa.large_binary())
    return pc.count_distinct(values).as_py(), len(values)
