"""Reads the files of a corpus as documents with typed columns, and sets bad rows aside.

Ids, levels, first languages, learners and prompts are stripped of white space; texts are kept as they are, unless
`data.clean` unwraps markup.  Levels are known in any case.  A corpus without ids gets them from its rows:
`row00000012`, with the number of the file before it if there are several.  Without first languages all writers have
`unknown`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raysweep.config.data_settings import ColumnsConfig, DataConfig
from raysweep.corpus.cleaning import CleanedTexts, clean_texts
from raysweep.corpus.column_choice import CARRIED, NEEDED, ColumnChooser, read_options
from raysweep.corpus.layouts import LAYOUTS, CorpusLayout
from raysweep.corpus.normalising import is_invisible
from raysweep.corpus.published_splits import read_splits
from raysweep.corpus.quarantine import (
    DUPLICATE_ID,
    EMPTY_TEXT,
    LEFT_OUT,
    MISSING,
    NOT_UTF8,
    NUL_BYTE,
    UNKNOWN_LEVEL,
    UNKNOWN_SPLIT,
    BadRow,
)
from raysweep.errors import InputError
from raysweep.readers.raw_columns import FILE, RawColumns, ReadOptions, short_text, show_cell
from raysweep.readers.reading import open_files, read_file

STRING = pa.large_string()
UNKNOWN = "unknown"
"""The first language of a writer of whom it is not known."""
NO_LANGUAGE = "documents have no first language: taken as 'unknown'"
NO_LEARNER = "documents have no known learner: one writer's texts may be in two splits, and intervals count texts"
Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """The contents of a corpus: `rows` = documents + bad rows."""

    documents: pa.Table  # writing_id, l1, level, learner, prompt, date, score, text: large_string, in file order
    bad_rows: tuple[BadRow, ...]  # in file order
    rows: int
    files: tuple[str, ...]  # names, without folders
    file_of: npt.NDArray[np.int32]  # (D,) the file of each document, an index into `files`
    row_of: Longs  # (D,) its 1-based data row there
    roles: Mapping[str, str]  # role → column
    splits: npt.NDArray[np.int8] | None = None  # (D,) published ones, as indices into SPLITS
    cleaned: CleanedTexts = field(default_factory=CleanedTexts)
    notes: Mapping[str, int] = field(default_factory=dict)  # what a person should look at → columns or documents


def read_corpus(
    files: Path | Sequence[Path], data: DataConfig, columns: ColumnsConfig | None = None, *, needs_levels: bool = True
) -> Corpus:
    """Read the files of a corpus into documents and bad rows.

    Only levels and texts must be there.  If the config names a learner column, every row needs a learner, because a
    document of an unknown learner could share a learner with another split.

    Args:
        columns: replaces `data.columns`.
        needs_levels: set rows without a known level, or without a learner where learners are known, aside; else
            their level is '', and their learner null.

    Raises:
        InputError: a whole file cannot be used.
    """
    paths = [files] if isinstance(files, Path) else list(files)
    layout = LAYOUTS[data.layout] if data.layout is not None and columns is None else None
    chooser = ColumnChooser(columns or data.columns, layout, needed=NEEDED if needs_levels else ("text",))
    options = read_options(data, layout, chooser)
    judge = _Judge(*_read_all(paths, options, layout), chooser.roles, data, layout)
    judge.needs_levels = needs_levels
    return judge.judge()


def bad_repeats(corpus: Corpus, places: np.ndarray, reason: str) -> list[BadRow]:
    """Make quarantine rows for documents that are removed because another split has (almost) the same text.

    Args:
        places: positions of the documents in file order.
        reason: `SAME_TEXT` or `NEAR_DUPLICATE`.
    """
    chosen = corpus.documents.take(pa.array(places))
    return [
        BadRow(
            row=row,
            file=corpus.files[file],
            writing_id=short_text(writing_id.encode()),
            column=corpus.roles["text"],
            reason=reason,
            value=show_cell(text.encode("utf-8", "surrogatepass")),
        )
        for (file, row), writing_id, text in zip(
            zip(corpus.file_of[places].tolist(), corpus.row_of[places].tolist(), strict=True),
            chosen["writing_id"].to_pylist(),
            chosen["text"].to_pylist(),
            strict=True,
        )
    ]


def _read_all(
    paths: list[Path], options: ReadOptions, layout: CorpusLayout | None
) -> tuple[tuple[str, ...], list[RawColumns]]:
    names, raws = [], []
    for file in open_files(paths, layout.files if layout else None):
        names.append(file.short)
        raws.append(read_file(file, options))
    if not raws:
        assert layout is not None
        raise InputError(
            f"data.path: no file is named {layout.files}, as data.layout expects. Name them, or the layout"
        )
    return tuple(names), raws


class _Judge:
    """Applies the checks column by column; each row keeps its first complaint."""

    def __init__(
        self,
        names: tuple[str, ...],
        raws: list[RawColumns],
        roles: dict[str, str],
        data: DataConfig,
        layout: CorpusLayout | None,
    ) -> None:
        self.names = names
        self.raws = raws
        self.roles = roles
        self.data = data
        self.layout = layout
        self.table = pa.concat_tables([raw.table.select(list(dict.fromkeys(roles.values()))) for raw in raws])
        sizes = [raw.table.num_rows for raw in raws]
        self.files = np.repeat(np.arange(len(raws), dtype=np.int32), sizes)
        numbers = [raw.row_numbers for raw in raws]
        self.row_numbers: Longs = np.concatenate(numbers) if len(raws) > 1 else numbers[0]
        # Index of each row's complaint; -1 for none.
        self.complaint = np.full(self.table.num_rows, -1, dtype=np.int8)
        self.complaints: list[tuple[str, str]] = []  # (reason, role)
        self.first_row: dict[int, int] = {}  # place in the table of a duplicate → place of the one kept
        self.notes: dict[str, int] = {}
        self.needs_levels = True

    def judge(self) -> Corpus:
        cells = {role: self._decoded(role) for role in self.roles}
        for role, column in cells.items():
            self._complain(NUL_BYTE, role, _mask(pc.match_substring(column, "\0")))
        cells |= {role: pc.utf8_trim_whitespace(column) for role, column in cells.items() if role != "text"}
        no_level = pa.repeat(pa.scalar("", STRING), self.table.num_rows)
        cells["level"] = self._known_levels(cells["level"]) if "level" in cells else no_level
        for role in ("writing_id", "learner") if self.needs_levels else ("writing_id",):
            if role in cells:
                self._complain(MISSING, role, _mask(is_invisible(cells[role])))
        self._complain(EMPTY_TEXT, "text", _mask(is_invisible(cells["text"])))
        splits = self._known_splits(cells.pop("split")) if "split" in cells else None
        self._name_documents(cells)
        self._note_columns()
        bad_rows, rows = self._bad_rows(), sum(raw.rows for raw in self.raws)
        # From here on columns are copied one after the other, and each original is let go.
        self.raws.clear()
        del self.table
        good = self.complaint < 0
        documents = self._documents(cells, good)
        cleaned = CleanedTexts()
        if self.data.clean or (self.data.clean is None and self.layout is not None and self.layout.clean):
            documents, cleaned = clean_texts(documents)
        self.notes["texts had markup (tags, entities), which was unwrapped"] = cleaned.texts
        self.notes["texts hold nothing but markup, and stayed as they are"] = cleaned.emptied
        return Corpus(
            documents=documents,
            bad_rows=bad_rows,
            rows=rows,
            files=self.names,
            file_of=self.files[good],
            row_of=self.row_numbers[good],
            roles=self.roles,
            splits=splits[good] if splits is not None else None,
            cleaned=cleaned,
            notes={words: count for words, count in self.notes.items() if count},
        )

    def _complain(self, reason: str, role: str, mask: np.ndarray) -> None:
        if mask.any():
            self.complaints.append((reason, role))
            self.complaint[mask & (self.complaint < 0)] = len(self.complaints) - 1

    def _decoded(self, role: str) -> pa.ChunkedArray:
        column = self.table[self.roles[role]]
        try:
            return column.cast(STRING)
        except pa.ArrowInvalid:
            values = [_decode(cell) for cell in column.to_pylist()]
            self._complain(NOT_UTF8, role, np.array([value is None for value in values]))
            return pa.chunked_array([pa.array([value or "" for value in values], STRING)])

    def _known_levels(self, column: pa.ChunkedArray) -> pa.Array:
        """Map each row's level to its name in the config, and complain of rows with unknown levels."""
        known = known_levels(self.data, self.layout)
        left_out = {
            spelling.casefold() for spelling in (*self.data.leave_out, *(self.layout.leave_out if self.layout else ()))
        }
        encoded = column.combine_chunks().dictionary_encode()
        spellings = [spelling.casefold() for spelling in encoded.dictionary.to_pylist()]
        codes = encoded.indices.to_numpy()
        names = [known.get(spelling) for spelling in spellings]
        gone = [known.get(spelling, spelling).casefold() in left_out for spelling in spellings]
        for reason, these in (
            ()
            if not self.needs_levels
            else (
                (LEFT_OUT, gone),
                (MISSING, [not spelling for spelling in spellings]),
                (UNKNOWN_LEVEL, [name is None for name in names]),
            )
        ):
            self._complain(reason, "level", np.array(these, dtype=bool)[codes])
        return pa.array([name or "" for name in names], STRING).take(encoded.indices)

    def _known_splits(self, column: pa.ChunkedArray) -> npt.NDArray[np.int8]:
        names = {**(self.layout.split_names if self.layout else {}), **self.data.split_names}
        splits = read_splits(column, names, in_file_names=self.roles["split"] == FILE)
        self._complain(UNKNOWN_SPLIT, "split", splits < 0)
        return splits

    def _name_documents(self, cells: dict[str, pa.ChunkedArray]) -> None:
        """Give ids and first languages to documents without, and complain of ids that are there twice."""
        if "writing_id" in cells:
            self._complain_of_duplicates(cells["writing_id"])
        else:
            file = [f"{number}-" if len(self.raws) > 1 else "" for number in range(1, len(self.raws) + 1)]
            ids = [
                f"{file[place]}row{row:08}"
                for place, row in zip(self.files.tolist(), self.row_numbers.tolist(), strict=True)
            ]
            cells["writing_id"] = pa.chunked_array([pa.array(ids, STRING)])
            self.notes["documents are named by their rows, for there are no ids: another order is another corpus"] = (
                len(ids)
            )
        if "l1" not in cells:
            cells["l1"] = pa.chunked_array([pa.repeat(pa.scalar("", STRING), self.table.num_rows)])
        empty = is_invisible(cells["l1"])
        self.notes[NO_LANGUAGE] = int((_mask(empty) & (self.complaint < 0)).sum())
        if pc.any(empty).as_py():
            cells["l1"] = pc.if_else(empty, pa.scalar(UNKNOWN, STRING), cells["l1"])
        self.notes[NO_LEARNER] = 0 if "learner" in cells else int((self.complaint < 0).sum())

    def _complain_of_duplicates(self, ids: pa.ChunkedArray) -> None:
        """Keep the first good row of each id, and complain of later ones."""
        places = np.flatnonzero(self.complaint < 0)
        encoded = ids.combine_chunks().take(pa.array(places)).dictionary_encode()
        codes = encoded.indices.to_numpy()
        # Dictionary codes are in order of first appearance.
        first = np.zeros(len(encoded.dictionary), dtype=np.int64)
        first[codes[::-1]] = places[::-1]
        repeated = first[codes] != places
        self.first_row = dict(zip(places[repeated].tolist(), first[codes[repeated]].tolist(), strict=True))
        mask = np.zeros(len(self.complaint), dtype=bool)
        mask[places[repeated]] = True
        self._complain(DUPLICATE_ID, "writing_id", mask)

    def _documents(self, cells: dict[str, pa.ChunkedArray], good: npt.NDArray[np.bool_]) -> pa.Table:
        nothing, mask = pa.chunked_array([pa.nulls(int(good.sum()), STRING)]), pa.array(good)
        for role in ("prompt", "date", "score") if self.needs_levels else CARRIED:
            if role in cells:
                cells[role] = pc.if_else(pc.equal(cells[role], ""), pa.scalar(None, STRING), cells[role])
        names = ("writing_id", "l1", "level", *CARRIED, "text")
        return pa.table({name: cells.pop(name).filter(mask) if name in cells else nothing for name in names})

    def _note_columns(self) -> None:
        used = {*self.roles.values(), ""}
        header = dict(Counter(self.raws[0].header))
        self.notes["columns share a name with another (none of them is used)"] = sum(
            times > 1 and name not in used for name, times in header.items()
        )
        unused = [name for name in header if name not in used]
        shown = ", ".join(unused)
        listed = shown if len(shown) <= 60 else shown[:60] + "…"
        self.notes[f"columns are there and not used: {listed}"] = len(unused)

    def _bad_rows(self) -> tuple[BadRow, ...]:
        found = [
            (place, BadRow(
                row=row.row,
                file=self.names[place],
                writing_id=short_text(row.first_cell) if raw.header[0] == self.roles.get("writing_id") else "",
                column=row.column,
                reason=row.reason,
                value=row.value,
            ))
            for place, raw in enumerate(self.raws) for row in raw.malformed
        ]  # fmt: skip
        for place in np.flatnonzero(self.complaint >= 0).tolist():
            reason, role = self.complaints[self.complaint[place]]
            kept = self.first_row.get(place)
            found.append((int(self.files[place]), BadRow(
                row=int(self.row_numbers[place]),
                file=self.names[self.files[place]],
                writing_id=self._id_at(place),
                column=self.roles[role],
                reason=reason,
                value=show_cell(self.table[self.roles[role]][place].as_py()),
                first_row="" if kept is None else self._place_name(kept, beside=place),
            )))  # fmt: skip
        return tuple(bad for _, bad in sorted(found, key=lambda each: (each[0], each[1].row)))

    def _id_at(self, place: int) -> str:
        column = self.roles.get("writing_id")
        return "" if column is None else short_text(self.table[column][place].as_py().strip())

    def _place_name(self, place: int, *, beside: int) -> str:
        row = f"row {self.row_numbers[place]}"
        return row if self.files[place] == self.files[beside] else f"{self.names[self.files[place]]} {row}"


def known_levels(data: DataConfig, layout: CorpusLayout | None) -> dict[str, str]:
    """Spellings of levels, in small letters, and the level that each is."""
    spelled = (
        {}
        if layout is None
        else {name: level for name, level in layout.levels.items() if level in (*data.levels, *data.leave_out)}
    )
    spelled |= {level: level for level in data.levels} | data.level_aliases
    return {spelling.casefold(): level for spelling, level in spelled.items()}


def _mask(values: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(values.to_numpy(), dtype=bool)


def _decode(cell: bytes) -> str | None:
    try:
        return cell.decode("utf-8")
    except UnicodeDecodeError:
        return None
