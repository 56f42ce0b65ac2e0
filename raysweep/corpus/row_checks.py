"""Checks the rows of a piece of a corpus, column by column, and records the first problem of each bad row.

That ids are distinct is checked for the whole corpus in `corpus_rows.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raysweep.config.data_settings import DataConfig
from raysweep.corpus.column_choice import CARRIED
from raysweep.corpus.layouts import CorpusLayout
from raysweep.corpus.normalising import bare, is_invisible
from raysweep.corpus.published_splits import read_splits
from raysweep.corpus.quarantine import (
    EMPTY_TEXT,
    LEFT_OUT,
    MISSING,
    NOT_UTF8,
    NUL_BYTE,
    UNKNOWN_LEVEL,
    UNKNOWN_SPLIT,
    BadRow,
)
from raysweep.readers.raw_columns import FILE, RawColumns, short_text, show_cell

STRING = pa.large_string()
UNKNOWN = "unknown"
"""The first language of a document whose writer's first language is not known."""
DOCUMENT_COLUMNS = ("writing_id", "l1", "level", *CARRIED, "text")
WRITTEN_ID, HAS_NO_LANGUAGE, FILE_NUMBER, ROW, SPLIT = "written_id", "has_no_language", "file", "row", "split"
"""Columns of a good row in addition to those of a document: the id with its white space; whether the first language is
missing; the number of its file, its 1-based data row there, and its published split as an index into SPLITS."""

Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedRows:
    """The rows of a piece of a corpus: `rows` = good rows + bad rows."""

    good: pa.Table  # DOCUMENT_COLUMNS and the additional columns, in file order
    bad_rows: tuple[tuple[int, BadRow], ...]  # each with the number of its file
    rows: int
    malformed: int  # bad rows that could not be divided into cells
    header: tuple[str, ...]  # of the first file


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRows:
    """Rows of a file."""

    number: int  # number of the file, from 0
    name: str  # file name without the folder
    raw: RawColumns


@dataclass(kw_only=True)
class RowChecker:
    """Checks the rows of a piece, which may come from several files."""

    files: Sequence[FileRows]
    roles: Mapping[str, str]
    """Role → column."""
    data: DataConfig
    layout: CorpusLayout | None
    has_several_files: bool
    """Whether the corpus has several files, so that ids made from row numbers include the file's number."""
    needs_levels: bool
    """Whether rows without a known level, and rows without a learner if there is a learner column, are set aside;
    otherwise their level is '' and their learner null."""

    def __post_init__(self) -> None:
        """Concatenate the columns and row numbers of the files."""
        self.table = pa.concat_tables(
            [file.raw.table.select(list(dict.fromkeys(self.roles.values()))) for file in self.files]
        )
        sizes = [file.raw.table.num_rows for file in self.files]
        self.place_of_file = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        self.file_numbers = np.array([file.number for file in self.files], dtype=np.int32)[self.place_of_file]
        self.row_numbers: Longs = np.concatenate([file.raw.row_numbers for file in self.files])
        # Index into `complaints` for each row; -1 for none.
        self.complaint = np.full(self.table.num_rows, -1, dtype=np.int8)
        self.complaints: list[tuple[str, str]] = []  # (reason, role)

    def check(self) -> CheckedRows:
        """Return the good rows as documents, and the first problem of every bad row; call it once."""
        cells = {role: self._decoded(role) for role in self.roles}
        for role, column in cells.items():
            self._mark_bad(NUL_BYTE, role, _mask(pc.match_substring(column, "\0")))
        if "writing_id" in cells:
            cells[WRITTEN_ID] = cells["writing_id"]
        cells |= {
            role: pc.utf8_trim_whitespace(column) for role, column in cells.items() if role not in ("text", WRITTEN_ID)
        }
        no_level = pa.repeat(pa.scalar("", STRING), self.table.num_rows)
        cells["level"] = self._known_levels(cells["level"]) if "level" in cells else no_level
        for role in ("writing_id", "learner") if self.needs_levels else ("writing_id",):
            if role in cells:
                self._mark_bad(MISSING, role, _mask(is_invisible(cells[role])))
        self._mark_bad(EMPTY_TEXT, "text", _mask(is_invisible(cells["text"])))
        splits = self._known_splits(cells.pop("split")) if "split" in cells else None
        self._name_documents(cells)
        good = self.complaint < 0
        documents = self._documents(cells, good).append_column(ROW, pa.array(self.row_numbers[good]))
        if splits is not None:
            documents = documents.append_column(SPLIT, pa.array(splits[good]))
        return CheckedRows(
            good=documents,
            bad_rows=self._bad_rows(),
            rows=sum(file.raw.rows for file in self.files),
            malformed=sum(len(file.raw.malformed) for file in self.files),
            header=self.files[0].raw.header,
        )

    def _mark_bad(self, reason: str, role: str, mask: np.ndarray) -> None:
        if mask.any():
            self.complaints.append((reason, role))
            self.complaint[mask & (self.complaint < 0)] = len(self.complaints) - 1

    def _decoded(self, role: str) -> pa.ChunkedArray:
        column = self.table[self.roles[role]]
        try:
            return column.cast(STRING)
        except pa.ArrowInvalid:
            values = [_decode(cell) for cell in column.to_pylist()]
            self._mark_bad(NOT_UTF8, role, np.array([value is None for value in values]))
            return pa.chunked_array([pa.array([value or "" for value in values], STRING)])

    def _known_levels(self, column: pa.ChunkedArray) -> pa.Array:
        """Map each row's level to its name in the config, and record rows with unknown levels as bad."""
        known = known_levels(self.data, self.layout)
        leave_out = (*self.data.leave_out, *(self.layout.leave_out if self.layout else ()))
        left_out = {bare(spelling).casefold() for spelling in leave_out}
        encoded = column.combine_chunks().dictionary_encode()
        spellings = [bare(spelling).casefold() for spelling in encoded.dictionary.to_pylist()]
        codes = encoded.indices.to_numpy()
        names = [known.get(spelling) for spelling in spellings]
        masks = {
            LEFT_OUT: [known.get(spelling, spelling).casefold() in left_out for spelling in spellings],
            MISSING: [not spelling for spelling in spellings],
            UNKNOWN_LEVEL: [name is None for name in names],
        }
        for reason, is_bad in masks.items() if self.needs_levels else ():
            self._mark_bad(reason, "level", np.array(is_bad, dtype=bool)[codes])
        return pa.array([name or "" for name in names], STRING).take(encoded.indices)

    def _known_splits(self, column: pa.ChunkedArray) -> npt.NDArray[np.int8]:
        names = {**(self.layout.split_names if self.layout else {}), **self.data.split_names}
        splits = read_splits(column, names, in_file_names=self.roles["split"] == FILE)
        self._mark_bad(UNKNOWN_SPLIT, "split", splits < 0)
        return splits

    def _name_documents(self, cells: dict[str, pa.ChunkedArray]) -> None:
        """Add ids and first languages where they are missing."""
        if "writing_id" not in cells:
            digits = pc.utf8_lpad(pa.array(self.row_numbers).cast(STRING), 8, "0")
            prefixes = [f"{file.number + 1}-row" if self.has_several_files else "row" for file in self.files]
            prefix = pa.array(prefixes, STRING).take(pa.array(self.place_of_file))
            names = pc.binary_join_element_wise(prefix, digits, pa.scalar("", STRING))
            cells["writing_id"] = pa.chunked_array([names])
        if "l1" not in cells:
            cells["l1"] = pa.chunked_array([pa.repeat(pa.scalar("", STRING), self.table.num_rows)])
        cells[HAS_NO_LANGUAGE] = empty = is_invisible(cells["l1"])
        if pc.any(empty).as_py():
            cells["l1"] = pc.if_else(empty, pa.scalar(UNKNOWN, STRING), cells["l1"])

    def _documents(self, cells: dict[str, pa.ChunkedArray], good: npt.NDArray[np.bool_]) -> pa.Table:
        nothing, mask = pa.chunked_array([pa.nulls(int(good.sum()), STRING)]), pa.array(good)
        for role in ("prompt", "date", "score") if self.needs_levels else CARRIED:
            if role in cells:
                cells[role] = pc.if_else(pc.equal(cells[role], ""), pa.scalar(None, STRING), cells[role])
        names = (*DOCUMENT_COLUMNS, WRITTEN_ID, HAS_NO_LANGUAGE)
        table = pa.table({name: cells.pop(name).filter(mask) if name in cells else nothing for name in names})
        return table.append_column(FILE_NUMBER, pa.array(self.file_numbers[good]))

    def _bad_rows(self) -> tuple[tuple[int, BadRow], ...]:
        id_column = self.roles.get("writing_id")
        bad_rows = [
            (file.number, BadRow(
                row=row.row,
                file=file.name,
                writing_id=short_text(row.first_cell) if file.raw.header[0] == id_column else "",
                column=row.column,
                reason=row.reason,
                value=row.value,
            ))
            for file in self.files for row in file.raw.malformed
        ]  # fmt: skip
        for place in np.flatnonzero(self.complaint >= 0).tolist():
            reason, role = self.complaints[self.complaint[place]]
            file = self.files[self.place_of_file[place]]
            bad_rows.append((file.number, BadRow(
                row=int(self.row_numbers[place]),
                file=file.name,
                writing_id=short_text(self.table[id_column][place].as_py().strip()) if id_column else "",
                column=self.roles[role],
                reason=reason,
                value=show_cell(self.table[self.roles[role]][place].as_py()),
            )))  # fmt: skip
        return tuple(bad_rows)


def known_levels(data: DataConfig, layout: CorpusLayout | None) -> dict[str, str]:
    """Return a mapping from the bare, case-folded spellings of levels to levels."""
    of_layout = layout.levels if layout is not None else {}
    spelled = {name: level for name, level in of_layout.items() if level in (*data.levels, *data.leave_out)}
    spelled |= {level: level for level in data.levels} | data.level_aliases
    return {bare(spelling).casefold(): level for spelling, level in spelled.items()}


def _mask(values: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(values.to_numpy(), dtype=bool)


def _decode(cell: bytes) -> str | None:
    try:
        return cell.decode("utf-8")
    except UnicodeDecodeError:
        return None
