"""Reads the files of a corpus as documents with typed columns, and sets bad rows aside.

Ids, levels, first languages, learners and prompts are stripped of white space; texts are kept as they are, unless
`data.clean` removes markup.  Levels are recognised in upper and lower case.  A corpus without ids gets them from its
row numbers: `row00000012`, prefixed with the number of the file if there are several.  Without first languages every
document has `unknown`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raysweep.config.data_settings import ColumnsConfig, DataConfig
from raysweep.corpus.cleaning import CleanedTexts, clean_texts
from raysweep.corpus.column_choice import NEEDED, ColumnChooser, read_options
from raysweep.corpus.layouts import LAYOUTS, CorpusLayout, level_and_path
from raysweep.corpus.quarantine import DUPLICATE_ID, BadRow
from raysweep.corpus.row_checks import (
    DOCUMENT_COLUMNS,
    FILE_NUMBER,
    HAS_NO_LANGUAGE,
    ROW,
    SPLIT,
    WRITTEN_ID,
    CheckedRows,
    FileRows,
    RowChecker,
)
from raysweep.errors import InputError
from raysweep.readers.cpu_threads import map_in_threads, release_freed_memory
from raysweep.readers.raw_columns import RawColumns, ReadOptions, short_text, show_cell
from raysweep.readers.reading import open_files, read_pieces

NO_LANGUAGE = "documents have no first language: taken as 'unknown'"
NO_LEARNER = "documents have no known learner: one writer's texts may be in two splits, and intervals count texts"
NAMED_BY_ROWS = "documents are named by their rows, for there are no ids: another order is another corpus"
Kept = TypeVar("Kept")
_Piece = tuple[int, Callable[[], RawColumns]]
"""The number of a file, and a function that reads the file or a part of it."""

_IDS_AT_ONCE = 1 << 20
_FILES_AT_ONCE = 64
Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """The content of a corpus: `rows` = documents + bad rows."""

    documents: pa.Table  # writing_id, l1, level, learner, prompt, date, score, text: large_string, in file order
    bad_rows: tuple[BadRow, ...]  # in file order
    rows: int
    files: tuple[str, ...]  # names, without folders
    file_of: npt.NDArray[np.int32]  # (D,) the file of each document, an index into `files`
    row_of: Longs  # (D,) its 1-based data row there
    roles: Mapping[str, str]  # role → column
    splits: npt.NDArray[np.int8] | None = None  # (D,) published splits, as indices into SPLITS
    cleaned: CleanedTexts = field(default_factory=CleanedTexts)
    notes: Mapping[str, int] = field(default_factory=dict)  # note for a person → number of columns or documents


def read_corpus(
    files: Path | Sequence[Path], data: DataConfig, columns: ColumnsConfig | None = None, *, needs_levels: bool = True
) -> Corpus:
    """Read the files of a corpus into documents and bad rows, in memory.

    Only levels and texts are required.  If the config names a learner column, every row needs a learner, because a
    document of an unknown learner could share its learner with another split.

    Args:
        columns: replaces `data.columns`.
        needs_levels: set aside rows without a known level, and rows without a learner if there is a learner column;
            otherwise their level is '' and their learner null.

    Raises:
        InputError: a whole file cannot be used.
    """
    reader = RowReader(files, data, columns, needs_levels=needs_levels)
    rows = pa.concat_tables(list(reader.read(lambda checked: checked.good)))
    order, first = sort_by_id(rows["writing_id"].chunks)
    is_kept = np.ones(len(order), dtype=np.bool_)
    is_kept[order] = first < 0
    repeated = order[first >= 0]
    names = rows.select([WRITTEN_ID, FILE_NUMBER, ROW])
    reader.add_repeated(names.take(pa.array(repeated)), names.take(pa.array(first[first >= 0])))
    rows = rows.filter(pa.array(is_kept))
    documents, cleaned = rows.select(DOCUMENT_COLUMNS), CleanedTexts()
    if reader.is_cleaned:
        documents, cleaned = clean_texts(documents)
    return Corpus(
        documents=documents,
        bad_rows=reader.bad_rows,
        rows=reader.rows,
        files=tuple(reader.files),
        file_of=rows[FILE_NUMBER].to_numpy(),
        row_of=rows[ROW].to_numpy(),
        roles=reader.roles,
        splits=rows[SPLIT].to_numpy() if SPLIT in rows.column_names else None,
        cleaned=cleaned,
        notes=reader.notes(rows.num_rows, without_language=_count(rows[HAS_NO_LANGUAGE]), cleaned=cleaned),
    )


class RowReader:
    """Reads and checks the rows of a corpus, a piece at a time, and collects bad rows, counts and file names."""

    def __init__(
        self,
        files: Path | Sequence[Path],
        data: DataConfig,
        columns: ColumnsConfig | None = None,
        *,
        needs_levels: bool = True,
    ) -> None:
        self._paths = [files] if isinstance(files, Path) else list(files)
        self._data = data
        self._layout: CorpusLayout | None = (
            LAYOUTS[data.layout] if data.layout is not None and columns is None else None
        )
        self._needs_levels = needs_levels
        self._chooser = ColumnChooser(
            columns or data.columns, self._layout, needed=NEEDED if needs_levels else ("text",)
        )
        self._bad_rows: list[tuple[int, BadRow]] = []  # with the number of the file
        self._header: tuple[str, ...] = ()
        self._malformed = 0
        self._has_several_files = False
        self.files: list[str] = []
        self.rows = 0
        self.is_cleaned = data.clean or (data.clean is None and self._layout is not None and self._layout.clean)

    @property
    def roles(self) -> Mapping[str, str]:
        """Role → column."""
        return self._chooser.roles

    @property
    def bad_rows(self) -> tuple[BadRow, ...]:
        """The bad rows in file order."""
        return tuple(bad for _, bad in sorted(self._bad_rows, key=lambda each: (each[0], each[1].row)))

    def read(self, keep: Callable[[CheckedRows], Kept]) -> Iterator[Kept]:
        """Read pieces in parallel, and yield `keep`'s results in order; InputError if a whole file cannot be used."""
        options = read_options(self._data, self._layout, self._chooser)
        if self._layout is LAYOUTS["level_folders"]:
            names = [file.name for file in open_files(self._paths, self._layout.files)]
            options = replace(options, name_columns=level_and_path(names))

        def check(pieces: list[_Piece]) -> tuple[CheckedRows, Kept]:
            files = [FileRows(number=number, name=self.files[number], raw=read()) for number, read in pieces]
            checked = RowChecker(
                files=files,
                roles=self.roles,
                data=self._data,
                layout=self._layout,
                has_several_files=self._has_several_files,
                needs_levels=self._needs_levels,
            ).check()
            return replace(checked, good=checked.good.slice(0, 0)), keep(checked)

        for checked, kept in map_in_threads(check, self._pieces(options)):
            self._header = self._header or checked.header
            self.rows += checked.rows
            self._malformed += checked.malformed
            self._bad_rows += checked.bad_rows
            yield kept
        if not self.files:
            assert self._layout is not None
            raise InputError(
                f"data.path: no file is named {self._layout.files}, as data.layout expects. Name them, or the layout"
            )

    def _pieces(self, options: ReadOptions) -> Iterator[list[_Piece]]:
        """Yield large files in pieces, and small files, of which there may be thousands, several at a time."""
        opened = open_files(self._paths, self._layout.files if self._layout else None)
        following = next(opened, None)
        together: list[_Piece] = []
        while (file := following) is not None:
            following = next(opened, None)
            number = len(self.files)
            self.files.append(file.short)
            self._has_several_files = number > 0 or following is not None
            for read in read_pieces(file, options):
                if not self.roles:
                    # Read the first file, which determines the columns, before reading others in parallel.
                    read = partial(_already_read, read())
                together.append((number, read))
                if len(together) == _FILES_AT_ONCE or file.is_large:
                    yield together
                    together = []
        if together:
            yield together

    def add_repeated(self, repeated: pa.Table, kept: pa.Table) -> None:
        """Set aside rows whose id an earlier row has.

        Args:
            repeated: the ids (as written), files and row numbers of these rows.
            kept: the earlier row of each.
        """
        for row, first in zip(repeated.to_pylist(), kept.to_pylist(), strict=True):
            place = f"row {first[ROW]}"
            other_file = "" if first[FILE_NUMBER] == row[FILE_NUMBER] else f"{self.files[first[FILE_NUMBER]]} "
            cell = row[WRITTEN_ID].encode()
            bad = BadRow(
                row=row[ROW],
                file=self.files[row[FILE_NUMBER]],
                writing_id=short_text(cell.strip()),
                column=self.roles["writing_id"],
                reason=DUPLICATE_ID,
                value=show_cell(cell),
                first_row=other_file + place,
            )
            self._bad_rows.append((row[FILE_NUMBER], bad))

    def notes(self, documents: int, *, without_language: int, cleaned: CleanedTexts) -> dict[str, int]:
        """Return notes for a person, each with the number of columns or documents that it concerns."""
        used = {*self.roles.values(), ""}
        header = dict(Counter(self._header))
        unused = [name for name in header if name not in used]
        shown = ", ".join(unused)
        listed = shown if len(shown) <= 60 else shown[:60] + "…"
        notes = {
            NAMED_BY_ROWS: 0 if "writing_id" in self.roles else self.rows - self._malformed,
            NO_LANGUAGE: without_language,
            NO_LEARNER: 0 if "learner" in self.roles else documents,
            "columns share a name with another (none of them is used)": sum(
                times > 1 and name not in used for name, times in header.items()
            ),
            f"columns are there and not used: {listed}": len(unused),
            "texts had markup (tags, entities), which was unwrapped": cleaned.texts,
            "texts hold nothing but markup, and stayed as they are": cleaned.emptied,
        }
        return {words: count for words, count in notes.items() if count}


def sort_by_id(ids: list[pa.Array]) -> tuple[Longs, Longs]:
    """Return the order that sorts rows by id (by code point) and, for each row in that order, the first row with the
    same id, or −1 if it is the first itself.

    Args:
        ids: in parts; the list is emptied, because a second copy of all ids would take much memory.
    """
    column = pa.concat_arrays(ids) if ids else pa.array([], pa.large_string())
    ids.clear()
    release_freed_memory()
    order: Longs = pc.sort_indices(column).to_numpy().view(np.int64)  # stable
    is_new = np.ones(len(order), dtype=np.bool_)
    for start in range(1, len(order), _IDS_AT_ONCE):
        some = column.take(pa.array(order[start - 1 : start + _IDS_AT_ONCE]))
        is_new[start : start + _IDS_AT_ONCE] = pc.not_equal(some.slice(1), some.slice(0, len(some) - 1)).to_numpy(
            zero_copy_only=False
        )
    if is_new.all():
        return order, np.full(len(order), -1, dtype=np.int64)
    runs = np.cumsum(is_new) - 1
    return order, np.where(is_new, -1, order[is_new][runs])


def bad_repeats(rows: pa.Table, files: Sequence[str], column: str, reason: str) -> list[BadRow]:
    """Make quarantine rows for documents that are removed because another split has (almost) the same text.

    Args:
        rows: the ids, texts, files and row numbers of these documents.
        column: the name of the text column.
        reason: `SAME_TEXT`, `NEAR_DUPLICATE` or `CROSSED`.
    """
    return [
        BadRow(
            row=row[ROW],
            file=files[row[FILE_NUMBER]],
            writing_id=short_text(row["writing_id"].encode()),
            column=column,
            reason=reason,
            value=show_cell(row["text"].encode("utf-8", "surrogatepass")),
        )
        for row in rows.select(["writing_id", "text", FILE_NUMBER, ROW]).to_pylist()
    ]


def _already_read(raw: RawColumns) -> RawColumns:
    return raw


def _count(mask: pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)
