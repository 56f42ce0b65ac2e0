"""Derives levels from the values of a level column: CEFR levels in any spelling, or the corpus's own names, ordered."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raysweep.corpus.column_guess import MOST_LEVELS, cefr_level, is_no_value
from raysweep.corpus.layouts import BELOW_A1, CEFR, CorpusLayout
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
    if layout is not None:
        folded = {spelling.casefold(): level for spelling, level in layout.levels.items()}
        fitting = {value: folded[value.casefold()] for value in counts if value.casefold() in folded}
    else:
        fitting = {value: level for value in counts if (level := cefr_level(value))}
    said = sum(rows for value, rows in counts.items() if not is_no_value(value))
    share = sum(counts[value] for value in fitting) / max(1, said)
    if layout is not None or share >= MOSTLY:
        order = layout.level_names if layout is not None else (BELOW_A1, *CEFR)
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
    values = [value for value in counts if not is_no_value(value)]
    folded: dict[str, list[str]] = {}
    for value in values:
        folded.setdefault(unicodedata.normalize("NFKC", value).casefold(), []).append(value)
    if not 2 <= len(folded) <= MOST_LEVELS or any(len(value) > LONGEST_NAME for value in values):
        raise InputError(
            f"the column {column!r} has {len(folded):,} different values, which are no levels (2 to {MOST_LEVELS} "
            "short ones can be). Name the right one: --set data.columns.level=COLUMN"
        )
    ordered, is_known = _ordered([spellings[0] for spellings in folded.values()])
    spelled = {spellings[0]: spellings for spellings in folded.values()}
    names: dict[str, str] = {}
    for place, value in enumerate(ordered, start=1):
        name = _as_name(value, fallback=f"level{place}")
        while name.casefold() in {taken.casefold() for taken in names.values()}:
            name += "+"
        names |= dict.fromkeys(spelled[value], name)
    return GuessedLevels(
        names=tuple(names[value] for value in ordered),
        aliases={value: name for value, name in names.items() if name.casefold() != value.casefold()},
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
        is_falling = all(re.fullmatch(r"N[1-5]", value, re.IGNORECASE) for value in values)  # JLPT: N5 is the lowest
        return sorted(values, key=lambda value: int(numbered[value][2]), reverse=is_falling), True  # type: ignore[index]
    return sorted(values, key=str.casefold), False


def _as_name(value: str, *, fallback: str) -> str:
    """Turn a value into a name that is safe in file names and commands."""
    if re.fullmatch(r"\d+,\d+", value):
        return value.replace(",", ".")
    decomposed = unicodedata.normalize("NFKD", value)
    ascii_only = decomposed.encode("ascii", "ignore").decode()
    if 2 * sum(map(str.isalnum, ascii_only)) <= sum(map(str.isalnum, decomposed)):
        return fallback  # what is left of 'А1' in Cyrillic is no name for it
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", ascii_only).strip("._+-")[:LONGEST_NAME] or fallback


def _plain(value: str) -> str:
    return re.sub(r"[^a-z]", "", unicodedata.normalize("NFKD", value.casefold()))
