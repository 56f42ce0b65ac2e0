"""A first look at files of which nothing is known: their layout, header and format, and which column is what."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raysweep.config.data_settings import DataConfig, LayoutName
from raysweep.corpus.column_choice import NEEDED, ColumnChooser, read_options
from raysweep.corpus.column_guess import guess_by_content, guess_by_name
from raysweep.corpus.layouts import LAYOUTS, CorpusLayout
from raysweep.errors import InputError
from raysweep.readers.raw_columns import ReadOptions, Roles, check_columns
from raysweep.readers.reading import open_files, read_file, sniff_format


class _Looked(Exception):  # noqa: N818 - it is no error: a reader is left once its header is known
    def __init__(self, header: Sequence[str]) -> None:
        super().__init__(header)
        self.header = tuple(header)


def named_layout(files: Sequence[Path]) -> LayoutName | None:
    """The layout that only the names of the files tell."""
    names = [file.name for file in open_files(files)] if len(files) == 1 else [file.name for file in files]
    shorts = [name.rpartition("/")[2] for name in names]
    icnale = LAYOUTS["icnale"].name_columns
    assert icnale is not None
    if sum(icnale(name) is not None for name in shorts) > len(shorts) / 2:
        return "icnale"
    if all("CEFR-SP" in name and name.endswith(".txt") for name in shorts):
        return "cefr_sp"
    return None


def look(files: Sequence[Path], given: DataConfig, layout: CorpusLayout | None) -> tuple[tuple[str, ...], str]:
    """The columns and the format of the first file."""

    def look(_: str, header: Sequence[str]) -> Roles:
        raise _Looked(header)

    chooser = ColumnChooser(given.columns, layout)
    options = read_options(given, layout, chooser)
    for file in open_files(files, layout.files if layout else None):
        kind = options.format or sniff_format(file.read(), file.name, options)
        for xml_layout in (layout,) if kind != "xml" or layout else (LAYOUTS["asag"], LAYOUTS["efcamdat_xml"]):
            try:
                read_file(file, _with(options, look, xml_layout))
            except _Looked as looked:
                if kind == "xml" and xml_layout is not None and not _holds(file.read(), xml_layout):
                    continue
                return looked.header, kind
        raise InputError(f"{file.name}: is XML of no known layout; known are {', '.join(LAYOUTS)}")
    raise InputError("data.path: no file of the layout is there")


def _with(options: ReadOptions, choose: Any, layout: CorpusLayout | None) -> ReadOptions:
    return replace(options, choose=choose, xml=layout.xml if layout is not None else None)


def _holds(data: bytes, layout: CorpusLayout) -> bool:
    assert layout.xml is not None
    return f"<{layout.xml.record}".encode() in data


def guess_columns(
    files: Sequence[Path],
    given: DataConfig,
    header: tuple[str, ...],
    columns: Mapping[str, str],
    *,
    needed: Sequence[str] = NEEDED,
) -> dict[str, str]:
    """Columns by name, then those that are needed by content; what the config names is taken.

    Raises:
        InputError: a column that is needed is not found.
    """
    named = {("id" if role == "writing_id" else role): name for role, name in guess_by_name(header).items()}
    taken = set(columns.values())
    roles = {role: name for role, name in named.items() if name not in taken and role not in columns}
    missing = set(needed) - {*roles, *columns}
    if missing:
        table = _read_all_columns(files, given, header)
        known = {**roles, **columns}
        guessed = guess_by_content(table, known)
        roles |= {role: guessed[role] for role in missing if role in guessed}
        still = sorted(missing - set(guessed))
        if still:
            check_columns(str(files[0]), header, [f"the {role}" for role in still])
    if roles.get("id") is not None and not _is_key(files, given, roles["id"]):
        del roles["id"]
    return roles


def _read_all_columns(files: Sequence[Path], given: DataConfig, header: tuple[str, ...]) -> pa.Table:
    roles = {"level": header[0], **{f"#{place}": name for place, name in enumerate(dict.fromkeys(header))}}
    options = read_options(given, None, ColumnChooser(given.columns, None))
    file = next(open_files(files[:1]))
    return read_file(file, _with(options, lambda *_: roles, None)).table


def _is_key(files: Sequence[Path], given: DataConfig, column: str) -> bool:
    """Tell whether a column's values differ from row to row, so that it can be the id."""
    options = read_options(given, None, ColumnChooser(given.columns, None))
    cells = [
        read_file(file, _with(options, lambda *_: {"level": column}, None)).table[column] for file in open_files(files)
    ]
    values = pa.chunked_array([chunk for each in cells for chunk in each.chunks], pa.large_binary())
    return bool(pc.count_distinct(values).as_py() == len(values))
