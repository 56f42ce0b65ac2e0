"""Derives levels from the values of a level column: CEFR levels in any spelling, or the corpus's own names, ordered."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raysweep.config.section import NAME
from raysweep.corpus.column_guess import MOST_LEVELS, cefr_levels, is_no_value
from raysweep.corpus.layouts import BELOW_A1, CEFR, CorpusLayout
from raysweep.errors import InputError
from raysweep.readers.raw_columns import LONGEST_NAME

MOSTLY = 0.6
"""If at least this share of rows has a CEFR level, the other values are not levels."""
_ORDER = (
    "starter", "novice", "beginner", "anfanger", "anfaenger", "basic", "elementary", "low", "lower", "principiante",
    "debutant", "preintermediate", "lowerintermediate", "lowintermediate", "medium", "mid", "middle", "intermediate",
    "mittel", "intermedio", "intermediaire", "independent", "upperintermediate", "highintermediate", "high", "higher",
    "upper", "advanced", "fortgeschritten", "avanzado", "avance", "proficient", "proficiency", "expert", "native",
)  # fmt: skip
"""Usual names of levels, lowest first, without accents, case and punctuation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuessedLevels:
    """The levels of a corpus."""

    names: tuple[str, ...]  # lowest first
    aliases: dict[str, str]  # spelling → level, where they differ in more than case
    others: dict[str, int]  # values that are not levels → rows
    is_order_known: bool


def guess_levels(
    counts: Mapping[str, int],
    layout: CorpusLayout | None,
    *,
    column: str,
    is_japanese: bool = False,
    order: Sequence[str] = (),
) -> GuessedLevels:
    """Order the values of a level column.

    Args:
        counts: stripped value → rows.
        is_japanese: the texts are in Japanese, so that N1 to N5 are levels of the JLPT.
        order: the levels, lowest first, if the user gave them; a sub-level that is one of them is not merged.

    Raises:
        InputError: the values are too many, too few or too doubtful to be levels.
    """
    is_jlpt = is_japanese or "jlpt" in column.casefold()
    guessed = _cefr_levels(counts, layout, column) or _own_levels(counts, column, is_jlpt=is_jlpt)
    if not order:
        _refuse_one_level(guessed, counts, column)
        return guessed
    given = {level.casefold() for level in order}
    return GuessedLevels(
        names=tuple(order),
        aliases={v: name for v, name in guessed.aliases.items() if v.casefold() not in given and name in order},
        others={value: rows for value, rows in guessed.others.items() if value.casefold() not in given},
        is_order_known=True,
    )


def _refuse_one_level(guessed: GuessedLevels, counts: Mapping[str, int], column: str) -> None:
    apart = sorted(value for value in counts if value not in guessed.others and NAME.match(value))
    if len(guessed.names) == 1 and len({value.casefold() for value in apart}) > 1:
        raise InputError(
            f"the column {column!r} has one level: {', '.join(apart)} were counted as {guessed.names[0]}; "
            f"`--set 'data.levels=[{','.join(apart)}]'` keeps them apart"
        )


def _cefr_levels(counts: Mapping[str, int], layout: CorpusLayout | None, column: str) -> GuessedLevels | None:
    """Return the levels of the layout or the CEFR; None if too few rows have one."""
    if layout is not None:
        folded = {spelling.casefold(): level for spelling, level in layout.levels.items()}
        fitting = {value: folded[value.casefold()] for value in counts if value.casefold() in folded}
    else:
        fitting = cefr_levels(counts)
    filled = sum(rows for value, rows in counts.items() if not is_no_value(value))
    share = sum(counts[value] for value in fitting) / max(1, filled)
    if layout is None and share < MOSTLY:
        return None
    others = {value: rows for value, rows in counts.items() if value not in fitting}
    is_latin = layout is not None or all(unicodedata.normalize("NFKC", value).isascii() for value in fitting)
    doubtful = [value for value in others if re.fullmatch(r"[^\W\d_]\s*\d\S*", value)]
    if doubtful and not is_latin:
        shown = ", ".join(doubtful)
        raise InputError(
            f"the column {column!r} has levels in Cyrillic or Greek letters, and {shown}, which may be levels. Say "
            f"which ones: --set 'data.level_aliases={{{doubtful[0]}: LEVEL}}', or leave them out: "
            f"--set 'data.leave_out=[{shown}]'"
        )
    order = layout.level_names if layout is not None else (BELOW_A1, *CEFR)
    aliases = {v: name for v, name in fitting.items() if layout is None and v.casefold() != name.casefold()}
    return GuessedLevels(
        names=tuple(level for level in order if level in fitting.values()),
        aliases=aliases,
        others=others,
        is_order_known=True,
    )


def _own_levels(counts: Mapping[str, int], column: str, *, is_jlpt: bool) -> GuessedLevels:
    values = [value for value in counts if not is_no_value(value)]
    if not _sort_levels(values, is_jlpt=is_jlpt)[1]:  # 'none' is a level beside 'some' and 'much'
        values = [value for value in counts if not is_no_value(value) or value.casefold() == "none"]
    folded: dict[str, list[str]] = {}
    for value in values:
        folded.setdefault(_fold(value), []).append(value)
    if not folded:
        raise InputError(
            f"the column {column!r} has no value in any row; must hold levels (the result of a formula counts once a "
            "spreadsheet program has saved it). Name the right one: --set data.columns.level=COLUMN"
        )
    if not 2 <= len(folded) <= MOST_LEVELS or any(len(value) > LONGEST_NAME for value in values):
        raise InputError(
            f"the column {column!r} has {len(folded):,} different values, which are no levels (2 to {MOST_LEVELS} "
            "short ones can be). Name the right one: --set data.columns.level=COLUMN"
        )
    spelled = {spellings[0]: spellings for spellings in folded.values()}
    ordered, is_known = _sort_levels(list(spelled), is_jlpt=is_jlpt)
    numbered = [f"level{place}" for place in range(1, len(ordered) + 1)]
    levels = [_as_name(value, fallback=name) for value, name in zip(ordered, numbered, strict=True)]
    if len({level.casefold() for level in levels}) < len(levels):
        levels = numbered
    names = {v: level for value, level in zip(ordered, levels, strict=True) for v in spelled[value]}
    return GuessedLevels(
        names=tuple(levels),
        aliases={value: name for value, name in names.items() if name.casefold() != value.casefold()},
        others={value: rows for value, rows in counts.items() if value not in names},
        is_order_known=is_known,
    )


def _fold(value: str) -> str:
    """Fold a spelling, so that 5 and 5.0 are one level."""
    plain = unicodedata.normalize("NFKC", value).casefold()
    number = re.fullmatch(r"(-?\d+)([.,]\d*?)0*", plain)
    return number[1] + number[2].replace(",", ".").rstrip(".") if number else plain


def _sort_levels(values: Sequence[str], *, is_jlpt: bool) -> tuple[list[str], bool]:
    """Sort the values, lowest first; also returns False if the order is a guess."""
    try:
        return sorted(values, key=lambda value: float(value.replace(",", "."))), True
    except ValueError:
        pass
    places = {value: _plain(value) for value in values}
    if all(plain in _ORDER for plain in places.values()):
        return sorted(values, key=lambda value: _ORDER.index(places[value])), True
    numbered = {value: re.fullmatch(r"(\D*)(\d+)(\D*)", value) for value in values}
    if all(numbered.values()) and len({match.group(1, 3) for match in numbered.values() if match}) == 1:
        may_fall = all(re.fullmatch(r"N[1-5]", value, re.IGNORECASE) for value in values)  # JLPT: N5 is the lowest
        rising = sorted(values, key=lambda value: int(numbered[value][2]))  # type: ignore[index]
        return (rising[::-1] if may_fall and is_jlpt else rising), is_jlpt or not may_fall
    return sorted(values, key=str.casefold), False


def _as_name(value: str, *, fallback: str) -> str:
    """Turn a value into a name that is safe in file names and commands."""
    if re.fullmatch(r"\d+,\d+", value):
        return value.replace(",", ".")
    decomposed = unicodedata.normalize("NFKD", re.sub(r"^-(?=\d)", "minus", value))
    ascii_only = decomposed.encode("ascii", "ignore").decode()
    if 2 * sum(map(str.isalnum, ascii_only)) <= sum(map(str.isalnum, decomposed)):
        return fallback  # what is left of 'А1' in Cyrillic is no name for it
    words = re.sub(r"[^A-Za-z0-9._+-]+", " ", ascii_only).split()
    return "-".join(words).lstrip("._+-").rstrip("._")[:LONGEST_NAME] or fallback


def _plain(value: str) -> str:
    return re.sub(r"[^a-z]", "", unicodedata.normalize("NFKD", value.casefold()))
