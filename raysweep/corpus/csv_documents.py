"""Reads the corpus CSV as documents with typed columns, and sets bad rows aside.

Every data row is either a document or goes to the quarantine with the first problem found in it.  Rows are
counted as records, from 1: the header does not count, a text with quoted newlines is one row, empty lines
are none.  Ids, levels, first languages, learners and prompts are stripped of white space; texts are kept
as they are.
"""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysweep.config.data_settings import ColumnsConfig, DataConfig
from raysweep.corpus.csv_files import RawColumns, read_columns
from raysweep.corpus.normalising import is_invisible
from raysweep.errors import InputError
from raysweep.storage.atomic_files import atomic_file
from raysweep.storage.printable import spreadsheet_safe

WRONG_FIELDS = "wrong number of fields"
WRONG_QUOTES = "misplaced quotes"
NOT_UTF8 = "not UTF-8"
NUL_BYTE = "NUL byte"
MISSING = "missing value"
UNKNOWN_LEVEL = "unknown level"
LEFT_OUT = "level left out"
"""The user said so in `data.leave_out`, so such a row is no mistake."""
EMPTY_TEXT = "empty text"
DUPLICATE_ID = "duplicate id"
SAME_TEXT = "the same text as a document of another split"
NEAR_DUPLICATE = "almost the same as a text of another split"
"""With these two the row itself is good, but grouping it would have made one group too large."""

SHOWN_CHARACTERS = 80
STRING = pa.large_string()


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRow:
    """A row set aside, with the first problem found in it."""

    row: int  # 1-based data row
    writing_id: str  # as far as it is readable
    column: str  # its name in the CSV; empty if the whole row is bad
    reason: str  # one of the reasons above
    value: str  # the bad value, escaped, cut to about 80 characters
    first_row: int | None = None  # the row that is kept, if this one has a duplicate id


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """The contents of a CSV: `rows` = documents + bad rows."""

    documents: pa.Table  # writing_id, l1, level, learner, prompt, text: large_string, in file order
    bad_rows: tuple[BadRow, ...]  # in file order
    rows: int
    repeated_columns: tuple[str, ...] = ()  # names that stand more than once in the header and are not used

    def bad_by_reason(self) -> dict[str, int]:
        """Count the bad rows by reason, the most frequent first."""
        return dict(Counter(bad.reason for bad in self.bad_rows).most_common())


def read_corpus(path: Path, data: DataConfig, columns: ColumnsConfig | None = None) -> Corpus:
    """Read a corpus CSV (plain or gzipped) into documents and bad rows.

    Only prompts may be empty.  If the config names a learner column, every row needs a learner, because a
    document of an unknown learner could share a learner with another split.

    Args:
        columns: replaces `data.columns`.

    Raises:
        InputError: the whole file cannot be used.
    """
    names = columns or data.columns
    roles = {"writing_id": names.id, "l1": names.l1, "level": names.level, "text": names.text}
    roles |= {role: name for role, name in (("learner", names.learner), ("prompt", names.prompt)) if name is not None}
    raw = read_columns(
        path, list(roles.values()), level=names.level, levels={*data.levels, *data.leave_out, *data.level_aliases}
    )
    return _Judge(raw, roles, data).judge()


def check_bad_rows(corpus: Corpus, path: Path, data: DataConfig, quarantine: Path) -> None:
    """Stop if too many rows were set aside, or no row is left.

    Raises:
        InputError: names the first bad row, its problem and the fix, then the counts by reason and the
            file that lists all bad rows.
    """
    mistakes = [bad for bad in corpus.bad_rows if bad.reason != LEFT_OUT]
    if not mistakes and not corpus.documents.num_rows:
        raise InputError(f"{path.name}: all {corpus.rows:,} rows are of levels in data.leave_out, so no text remains")
    if not mistakes:
        return
    share = len(mistakes) / corpus.rows
    if share <= data.max_bad_fraction and corpus.documents.num_rows:
        return
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in corpus.bad_by_reason().items())
    limit = f"data.max_bad_fraction allows {100 * data.max_bad_fraction:g} %"
    raise InputError(
        f"{_explain(mistakes[0], path, data)}\n"
        f"{path.name}: {len(mistakes):,} of {corpus.rows:,} rows are bad ({100 * share:.1f} %; {limit}): "
        f"{reasons}. All of them are listed in {quarantine}"
    )


def bad_repeats(corpus: Corpus, places: np.ndarray, column: str, reason: str) -> list[BadRow]:
    """Make quarantine rows for documents that are removed because another split has (almost) the same text.

    Args:
        places: positions of the documents in file order.
        column: the text column's name in the CSV.
        reason: `SAME_TEXT` or `NEAR_DUPLICATE`.
    """
    bad = np.array([bad.row for bad in corpus.bad_rows], dtype=np.int64)
    rows = np.setdiff1d(np.arange(1, corpus.rows + 1), bad, assume_unique=True)[places]
    chosen = corpus.documents.take(pa.array(places))
    return [
        BadRow(
            row=row,
            writing_id=_text(writing_id.encode()),
            column=column,
            reason=reason,
            value=show_cell(text.encode("utf-8", "surrogatepass")),
        )
        for row, writing_id, text in zip(
            rows.tolist(), chosen["writing_id"].to_pylist(), chosen["text"].to_pylist(), strict=True
        )
    ]


def show_cell(cell: bytes) -> str:
    """Quote and escape a cell as Python does, cut to about 80 characters."""
    value = _decode(cell)
    cut = cell if value is None else value
    shown = repr(cut[:SHOWN_CHARACTERS])
    return shown.removeprefix("b") + ("…" if len(cut) > SHOWN_CHARACTERS else "")


def write_quarantine(path: Path, bad_rows: tuple[BadRow, ...]) -> None:
    """Write quarantine.csv: row, writing_id, column, reason, value; only the header if no row is bad."""
    with atomic_file(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["row", "writing_id", "column", "reason", "value"])
        writer.writerows(
            [bad.row, *map(spreadsheet_safe, (bad.writing_id, bad.column, bad.reason, bad.value))] for bad in bad_rows
        )


_QUOTING = "Texts with commas, quotes or newlines must be quoted, with quotes inside them doubled"


def _explain(bad: BadRow, path: Path, data: DataConfig) -> str:
    if bad.reason == WRONG_FIELDS:
        return f"{path.name} row {bad.row}: found {bad.value}. {_QUOTING}"
    if bad.reason == WRONG_QUOTES:
        what = "quotes after a backslash" if '\\\\"' in bad.value else "a quote is missing, or is not doubled"
        return f"{path.name} row {bad.row}: found {bad.value}; {what}. {_QUOTING}"
    must = {
        UNKNOWN_LEVEL: f"known levels are {', '.join(data.levels)}. Add it to data.levels or data.level_aliases",
        EMPTY_TEXT: "must hold a text. Leave such rows out",
        MISSING: "must not be empty. Fill it in, or name another column in data.columns",
        NUL_BYTE: "must not hold NUL bytes. Remove them",
        NOT_UTF8: "must be UTF-8. If the whole file has another encoding, convert it: iconv -f WINDOWS-1252 -t UTF-8",
        DUPLICATE_ID: f"row {bad.first_row} has the same id. Give every document its own",
    }[bad.reason]
    return f"{path.name} row {bad.row}, column {bad.column!r}: found {bad.value}; {must}"


class _Judge:
    """Applies the checks column by column; each row keeps its first complaint."""

    def __init__(self, raw: RawColumns, roles: dict[str, str], data: DataConfig) -> None:
        self.raw = raw
        self.roles = roles
        self.data = data
        # Index of each row's complaint; -1 for none.
        self.complaint = np.full(raw.table.num_rows, -1, dtype=np.int8)
        self.complaints: list[tuple[str, str]] = []  # (reason, role)
        self.first_row: dict[int, int] = {}  # place in the table of a duplicate → place of the one kept

    def judge(self) -> Corpus:
        cells = {role: self._decoded(role) for role in self.roles}
        for role, column in cells.items():
            self._complain(NUL_BYTE, role, _mask(pc.match_substring(column, "\0")))
        cells |= {role: pc.utf8_trim_whitespace(column) for role, column in cells.items() if role != "text"}
        for role in ("writing_id", "l1", "level", "learner"):
            if role in cells:
                self._complain(MISSING, role, _mask(is_invisible(cells[role])))
        cells["level"] = self._known_levels(cells["level"])
        self._complain(EMPTY_TEXT, "text", _mask(is_invisible(cells["text"])))
        self._complain_of_duplicates(cells["writing_id"])
        good = pa.array(self.complaint < 0)
        used = {*self.roles.values(), ""}
        return Corpus(
            documents=self._documents(cells).filter(good),
            bad_rows=self._bad_rows(),
            rows=self.raw.rows,
            repeated_columns=tuple(name for name, n in Counter(self.raw.header).items() if n > 1 and name not in used),
        )

    def _complain(self, reason: str, role: str, mask: np.ndarray) -> None:
        if mask.any():
            self.complaints.append((reason, role))
            self.complaint[mask & (self.complaint < 0)] = len(self.complaints) - 1

    def _decoded(self, role: str) -> pa.ChunkedArray:
        column = self.raw.table[self.roles[role]]
        try:
            return column.cast(STRING)
        except pa.ArrowInvalid:
            values = [_decode(cell) for cell in column.to_pylist()]
            self._complain(NOT_UTF8, role, np.array([value is None for value in values]))
            return pa.chunked_array([pa.array([value or "" for value in values], STRING)])

    def _known_levels(self, column: pa.ChunkedArray) -> pa.Array:
        """Map each row's level to its name in the config, and complain of rows with unknown levels."""
        known = {level: level for level in self.data.levels} | self.data.level_aliases
        encoded = column.combine_chunks().dictionary_encode()
        names = [known.get(spelling, spelling) for spelling in encoded.dictionary.to_pylist()]
        codes = encoded.indices.to_numpy()
        left_out = np.array([name in self.data.leave_out for name in names], dtype=bool)[codes]
        self._complain(LEFT_OUT, "level", left_out)
        names = [name if name in self.data.levels else None for name in names]
        self._complain(UNKNOWN_LEVEL, "level", np.array([name is None for name in names], dtype=bool)[codes])
        return pa.array([name or "" for name in names], STRING).take(encoded.indices)

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

    def _documents(self, cells: dict[str, pa.ChunkedArray]) -> pa.Table:
        nothing = pa.nulls(self.raw.table.num_rows, STRING)
        prompt = cells.get("prompt")
        if prompt is not None:
            cells["prompt"] = pc.if_else(pc.equal(prompt, ""), pa.scalar(None, STRING), prompt)
        names = ("writing_id", "l1", "level", "learner", "prompt", "text")
        return pa.table({name: cells.get(name, nothing) for name in names})

    def _bad_rows(self) -> tuple[BadRow, ...]:
        bad = [
            BadRow(
                row=row.row,
                writing_id=_text(row.content.split(b",", 1)[0].strip(b'"\r\n')) if self._id_is_first() else "",
                column="",
                reason=WRONG_QUOTES if row.has_bad_quotes else WRONG_FIELDS,
                value=show_cell(row.content.rstrip(b"\r\n"))
                if row.has_bad_quotes
                else f"{row.fields} {'field' if row.fields == 1 else 'fields'} instead of {len(self.raw.header)}",
            )
            for row in self.raw.malformed
        ]
        row_numbers, table = self.raw.row_numbers, self.raw.table
        for place in np.flatnonzero(self.complaint >= 0).tolist():
            reason, role = self.complaints[self.complaint[place]]
            kept = self.first_row.get(place)
            bad.append(
                BadRow(
                    row=int(row_numbers[place]),
                    writing_id=_text(table[self.roles["writing_id"]][place].as_py().strip()),
                    column=self.roles[role],
                    reason=reason,
                    value=show_cell(table[self.roles[role]][place].as_py()),
                    first_row=None if kept is None else int(row_numbers[kept]),
                )
            )
        return tuple(sorted(bad, key=lambda bad_row: bad_row.row))

    def _id_is_first(self) -> bool:
        return self.raw.header[0] == self.roles["writing_id"]


def _mask(values: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(values.to_numpy(), dtype=bool)


def _decode(cell: bytes) -> str | None:
    try:
        return cell.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _text(cell: bytes) -> str:
    """Decode a cell as printable text."""
    text = cell[: 4 * SHOWN_CHARACTERS].decode("utf-8", "backslashreplace")[:SHOWN_CHARACTERS]
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
