"""Rows that cannot become documents: the reasons, the limit on their number, and the file that lists them.

Every data row is either a document or a bad row with the first problem found in it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raysweep.config.data_settings import DataConfig
from raysweep.errors import InputError
from raysweep.readers.csv_files import WRONG_FIELDS, WRONG_QUOTES
from raysweep.readers.json_files import NESTED, NOT_JSON
from raysweep.storage.atomic_files import csv_writer
from raysweep.storage.printable import spreadsheet_safe

NOT_UTF8 = "not UTF-8"
NUL_BYTE = "NUL byte"
MISSING = "missing value"
UNKNOWN_LEVEL = "unknown level"
UNKNOWN_SPLIT = "unknown split"
EMPTY_TEXT = "empty text"
DUPLICATE_ID = "duplicate id"
SAME_TEXT = "the same text as a document of another split"
CROSSED = "its learner and its prompt are in different splits"
NEAR_DUPLICATE = "almost the same as a text of another split"
"""With this reason and `SAME_TEXT` the row itself is good, but joining its group to that of the other text would have
made a group too large."""
NEAR_TRAINING = "the same or almost the same as a text of train or valid"
"""The reason for rows of a further corpus, on which models are only scored."""
LEFT_OUT = "level left out"
"""Requested by `data.leave_out`, so it does not count as a bad row."""

MOST_BAD = 0.2
"""Above this share of bad rows, `init` refuses the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRow:
    """A row set aside, with the first problem found in it."""

    row: int  # 1-based data row of its file
    file: str  # file name without the folder
    writing_id: str  # as far as it is readable
    column: str  # column name in the file; empty if the whole row is bad
    reason: str  # one of the reasons above
    value: str  # the bad value, escaped and cut to about 80 characters
    first_row: str = ""  # the row that is kept if this one has a duplicate id


def count_by_reason(bad_rows: Sequence[BadRow]) -> dict[str, int]:
    """Count rows by reason, the most frequent first."""
    return dict(Counter(bad.reason for bad in bad_rows).most_common())


def check_bad_rows(
    bad_rows: Sequence[BadRow], *, rows: int, documents: int, what: str, data: DataConfig, quarantine: Path | None
) -> None:
    """Raise InputError, with the first bad row and the counts, if too many were set aside, or no row is left.

    Args:
        what: the name of the corpus in messages.
        quarantine: the file that lists the bad rows; None if it is not written.
    """
    bad = [row for row in bad_rows if row.reason != LEFT_OUT]
    if not bad and not documents:
        raise InputError(f"{what}: all {rows:,} rows are of levels in data.leave_out, so no text remains")
    share = len(bad) / rows
    if not bad or (share <= data.max_bad_fraction and documents):
        return
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in count_by_reason(bad).items())
    limit = f"data.max_bad_fraction allows {100 * data.max_bad_fraction:g} %"
    raise InputError(
        f"{explain_bad_row(bad[0], data)}\n"
        f"{what}: {len(bad):,} of {rows:,} rows are bad ({100 * share:.1f} %; {limit}): "
        f"{reasons}{f'. All of them are listed in {quarantine}' if quarantine else ''}"
    )


def check_share(bad: Sequence[BadRow], rows: int, data: DataConfig) -> float:
    """Return the share of bad rows; raises InputError if so many suggest a misjudged format or column."""
    share = len(bad) / max(1, rows)
    if share <= MOST_BAD:
        return share
    reasons = ", ".join(f"{count:,} {why}" for why, count in count_by_reason(bad).items())
    raise InputError(f"{explain_usual(bad, data)}\n{share:.0%} of all rows are set aside: {reasons}")


def explain_usual(bad: Sequence[BadRow], data: DataConfig) -> str:
    """Explain the first row of the most frequent kind, and how to do without such rows."""
    (reason, column), _ = Counter((row.reason, row.column) for row in bad).most_common(1)[0]
    example = next(row for row in bad if (row.reason, row.column) == (reason, column))
    role = next((role for role, name in data.columns.model_dump().items() if name == column), None)
    fix = ""
    if role in ("level", "text") and reason in (EMPTY_TEXT, MISSING):
        fix = f", or name the right column with --set data.columns.{role}=COLUMN"
    elif role is not None and reason == MISSING:
        fix = f", or do without it: --set data.columns.{role}=null"
    return f"{explain_bad_row(example, data)}{fix}"


def write_quarantine(path: Path, bad_rows: Sequence[BadRow]) -> None:
    """Write quarantine.csv (row, writing_id, column, reason, value, file); only its header if no row is bad."""
    with csv_writer(path, ["row", "writing_id", "column", "reason", "value", "file"]) as writer:
        writer.writerows(
            [bad.row, *map(spreadsheet_safe, (bad.writing_id, bad.column, bad.reason, bad.value, bad.file))]
            for bad in bad_rows
        )


_QUOTING = "Texts with commas, quotes or newlines must be quoted, with quotes inside them doubled"
_LONGEST_SHOWN = 42


def explain_bad_row(bad: BadRow, data: DataConfig) -> str:
    """Say what is wrong with a row and how to fix it, without quoting its text: only quarantine.csv does."""
    place = f"{bad.file} row {bad.row}"
    if bad.reason == WRONG_FIELDS:
        return f"{place}: found {bad.value}. {_QUOTING}"
    if bad.reason == WRONG_QUOTES:
        what = (
            "quotes after a backslash"
            if '\\\\"' in bad.value
            else "a quote is missing, is not doubled, or has a space before it"
        )
        return f"{place}: {what}. {_QUOTING}; if quotes are plain characters, set data.quotes: none"
    if bad.reason == NOT_JSON:
        return f"{place}: is no JSON object whose keys differ. Copy or export the file again"
    value = bad.value if len(bad.value) <= _LONGEST_SHOWN else "a long value"
    add = "Add it to data.levels or data.level_aliases, or to data.leave_out to do without such rows"
    must = {
        UNKNOWN_LEVEL: f"found {value}; known levels are {', '.join(data.levels)}. {add}",
        UNKNOWN_SPLIT: f"found {value}; must be train, valid (dev) or test. Say what it is in data.split_names",
        EMPTY_TEXT: "found no text; must hold one. Leave such rows out",
        MISSING: "found no value; must not be empty. Fill it in, or name another column in data.columns",
        NUL_BYTE: "found a NUL byte; must not hold any. Remove them",
        NOT_UTF8: "is not UTF-8. If the whole file has another encoding, say so in data.encoding, such as cp1252",
        DUPLICATE_ID: f"found {value}; {bad.first_row} has the same id. Give every document its own",
        NESTED: f"found {bad.value}; must be text or a number. Flatten the records",
    }[bad.reason]
    return f"{place}, column {bad.column!r}: {must}"
