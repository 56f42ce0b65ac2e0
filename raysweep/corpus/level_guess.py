"""Derives levels from the values of a level column: CEFR levels in any spelling, or the corpus's own names, ordered."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raysweep.corpus.column_guess import MOST_LEVELS
from raysweep.corpus.layouts import CEFR, SUB_LEVELS, CorpusLayout
from raysweep.errors import InputError
from raysweep.readers.raw_columns import LONGEST_NAME

MOSTLY = 0.6
"""If at least this share of rows has a CEFR level, the other values are not levels."""
_ORDER = (
    "starter", "novice", "beginner", "anfanger", "basic", "elementary", "low", "lower", "principiante", "debutant",
    "preintermediate", "medium", "mid", "middle", "intermediate", "mittel", "intermedio", "intermediaire",
    "independent", "upperintermediate", "high", "higher", "upper", "advanced", "fortgeschritten", "avanzado",
    "avance", "proficient", "proficiency", "expert", "native",
)  # fmt: skip
"""Usual names of levels, lowest first, without accents, case and punctuation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuessedLevels:
    """The levels of a corpus."""

    names: tuple[str, ...]  # lowest first
    aliases: dict[str, str]  # spelling → level, where they differ in more than case
    others: dict[str, int]  # values that are not levels → rows
    is_order_known: bool


def guess_levels(counts: Mapping[str, int], layout: CorpusLayout | None, *, column: str) -> GuessedLevels:
    """Order the values of a level column.

    Args:
        counts: stripped value → rows.

    Raises:
        InputError: the values are too many, or too few, to be levels.
    """
    known = layout.levels if layout is not None else SUB_LEVELS
    folded = {spelling.casefold(): level for spelling, level in known.items()}
    fitting = {value: folded[value.casefold()] for value in counts if value.casefold() in folded}
    share = sum(counts[value] for value in fitting) / max(1, sum(counts.values()))
    if layout is not None or share >= MOSTLY:
        order = layout.level_names if layout is not None else CEFR
        names = tuple(level for level in order if level in fitting.values())
        aliases = (
            {} if layout is not None else {v: name for v, name in fitting.items() if v.casefold() != name.casefold()}
        )
        return GuessedLevels(
            names=names,
            aliases=aliases,
            others={value: rows for value, rows in counts.items() if value not in fitting},
            is_order_known=True,
        )
    return _own_levels(counts, column)


def _own_levels(counts: Mapping[str, int], column: str) -> GuessedLevels:
    values = [value for value in counts if value and value.casefold() not in ("na", "nan", "none", "null", "n/a")]
    if not 2 <= len(values) <= MOST_LEVELS or any(len(value) > LONGEST_NAME for value in values):
        raise InputError(
            f"the column {column!r} has {len(values):,} different values, which are no levels. "
            "Name the right one: --set data.columns.level=COLUMN"
        )
    names: dict[str, str] = {}
    for value in values:
        name = _as_name(value, fallback=f"level{len(names) + 1}")
        while name.casefold() in {taken.casefold() for taken in names.values()}:
            name += "+"
        names[value] = name
    ordered, is_known = _ordered(values)
    return GuessedLevels(
        names=tuple(names[value] for value in ordered),
        aliases={value: name for value, name in names.items() if name != value},
        others={value: rows for value, rows in counts.items() if value not in names},
        is_order_known=is_known,
    )


def _ordered(values: Sequence[str]) -> tuple[list[str], bool]:
    """Sort the values, lowest first; also returns False if they could only be sorted alphabetically."""
    try:
        return sorted(values, key=lambda value: float(value.replace(",", "."))), True
    except ValueError:
        pass
    places = {value: _plain(value) for value in values}
    if all(plain in _ORDER for plain in places.values()):
        return sorted(values, key=lambda value: _ORDER.index(places[value])), True
    numbered = {value: re.fullmatch(r"(\D*)(\d+)(\D*)", value) for value in values}
    if all(numbered.values()) and len({match.group(1, 3) for match in numbered.values() if match}) == 1:
        return sorted(values, key=lambda value: int(numbered[value][2])), True  # type: ignore[index]
    return sorted(values, key=str.casefold), False


def _as_name(value: str, *, fallback: str) -> str:
    """Turn a value into a name that is safe in file names and commands."""
    ascii_only = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", ascii_only).strip("._+-")[:LONGEST_NAME] or fallback


def _plain(value: str) -> str:
    return re.sub(r"[^a-z]", "", unicodedata.normalize("NFKD", value.casefold()))
