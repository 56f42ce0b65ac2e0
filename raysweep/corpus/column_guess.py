"""Guesses the role of each column of an unknown file: by its name or, if no name is known, by its content."""

import re
import shlex
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from raysweep.corpus.layouts import BELOW_A1, SUB_LEVELS
from raysweep.errors import InputError
from raysweep.readers.raw_columns import SORT_TEXTS, list_names, looks_like_text

NAMES: dict[str, tuple[str, ...]] = {
    "level": (
        "cefr_level", "cefr", "cefrlevel", "humannotator_cefr_level", "level", "niveau", "nivel", "livello", "uroven",
        "niva", "stufe", "proficiency", "proficiency_level", "label", "band", "jlpt", "jlpt_level",
    ),
    "text": (
        "text", "full_text", "essay", "essay_text", "content", "body", "answer", "response", "document", "writing",
        "sentence", "texte", "testo", "texto", "essay_content", "transcript", "inhalt", "aufsatz", "antwort",
        "reponse", "respuesta", "risposta",
    ),
    "writing_id": (
        "writing_id", "id", "text_id", "textid", "doc_id", "document_id", "essay_id", "public_essay_id", "uid", "docid",
        "essayid", "filename", "file_name", "file", "text_id_kaggle", "record_id", "identifiant", "nr", "no",
    ),
    "l1": (
        "l1", "native_language", "mother_tongue", "first_language", "muttersprache", "nationality", "country",
        "langue_maternelle", "lengua_materna", "madrelingua", "native", "modersmal",
    ),
    "learner": (
        "learner_id", "learner", "user_id", "userid", "public_user_id", "author_id", "author", "student_id", "student",
        "participant_id", "participant", "writer_id", "writer", "subject_id", "candidate", "candidate_id", "schuler",
        "schuler_id", "schulerin", "schueler", "schueler_id", "schuelerin", "lerner", "lerner_id",
        "teilnehmer", "proband", "apprenant", "id_apprenant", "eleve", "etudiant", "estudiante",
        "alumno", "aprendiz", "studente", "apprendente", "uczen", "elev",
    ),
    "prompt": (
        "prompt", "prompt_id", "prompt_name", "task", "task_id", "topic", "topic_id", "question", "assignment",
        "aufgabe", "consigne", "consegna", "consigna", "thema", "tema",
    ),
    "split": ("split", "set", "partition", "subset", "fold", "part"),
    "date": ("date", "created_at", "timestamp", "created_timestamp", "datum", "year", "fecha", "data"),
    "score": ("score", "grade", "mark", "points", "note", "punkte", "holistic_score", "overall"),
}  # fmt: skip
"""Usual names of columns by role, the most reliable first, without accents, case and punctuation."""
MOST_LEVELS = 30
ADD_HEADER = (
    "Put a line above it that names the columns, such as id,level,text, or name the corpus with --set "
    f"data.layout=NAME; {SORT_TEXTS}"
)
_CEFR = {spelling.casefold(): level for spelling, level in SUB_LEVELS.items()} | dict.fromkeys(
    ("pre-a1", "prea1", "<a1", "a0"), BELOW_A1
)
_BEFORE = re.compile(r"^(cefr|gers|mcer|cecr|level|niveau|nivel|livello|stufe)+[:-]?(?=[abc])")
"""Words that people put before a CEFR level."""
_LOOKALIKES = str.maketrans("авсαβγ", "abcabc")
"""Small Cyrillic letters that look like A, B and C, and the first three Greek ones."""
_CYRILLIC = str.maketrans("абв", "abc")
"""The first three Cyrillic letters, which stand for A, B and C in Bulgarian; its В1 is C1."""
_BLANKS = "?-–—./_ "
_NO_VALUES = ("na", "nan", "none", "null", "n/a", "unknown")
_SHORT = 24  # characters of a level
_AS_LONG = 1 / 3
"""Columns whose mean length is at least this share of the longest column's may hold the texts too."""


def guess_by_name(header: Sequence[str]) -> dict[str, str]:
    """Match columns to roles by their names; each column has at most one role."""
    plain = {_plain(name): name for name in reversed(header)}
    roles: dict[str, str] = {}
    for role, names in NAMES.items():
        column = next((plain[_plain(name)] for name in names if _plain(name) in plain), None)
        if column is not None and column not in roles.values():
            roles[role] = column
    return roles


def guess_by_content(name: str, table: pa.Table, roles: Mapping[str, str], missing: Collection[str]) -> dict[str, str]:
    """Find the columns of the missing roles, which may be the level and the text.

    The level is the column with few distinct values, most of them CEFR levels; the text is the column with the longest
    values, unless they repeat, as those of writing prompts do.

    Args:
        roles: role → column, as far as they are known.

    Raises:
        InputError: several columns may have a missing role, such as the levels of two raters, or corrected texts.
    """
    guessed: dict[str, str] = {}
    free = [column for column in table.column_names if column not in roles.values()]
    if "level" not in roles:
        holding = level_columns(table, free)
        free = [column for column in free if column not in holding]
        if "level" in missing and len(holding) > 1:
            raise _choice_error(name, "level", holding)
        if "level" in missing and holding:
            guessed["level"] = holding[0]
    if "text" in missing:
        lengths = {column: pc.mean(pc.binary_length(table[column])).as_py() or 0.0 for column in free}
        long = [column for column in free if lengths[column] > max(_SHORT, _AS_LONG * max(lengths.values()))]
        differing = [column for column in long if 2 * pc.count_distinct(table[column]).as_py() > table.num_rows] or long
        if len(differing) > 1:
            raise _choice_error(name, "text", differing)
        if differing:
            guessed["text"] = differing[0]
    return guessed


def level_columns(table: pa.Table, names: Iterable[str]) -> list[str]:
    """Find the columns with few distinct values, most of them CEFR levels."""
    return [name for name in names if _level_share(table[name]) > 0.5]


def take_column(role: str, column: str) -> str:
    """Return the option that takes one of several columns."""
    return f"--set {shlex.quote(f'data.columns.{role}={column}')}"


def cefr_levels(values: Iterable[str]) -> dict[str, str]:
    """Find the values of a column that are CEFR levels, also with spaces, in full-width, Cyrillic or Greek letters.

    The Cyrillic В is C if the column also has a Б, as in Bulgarian; otherwise it is taken for the Latin B.
    """
    folded = {v: re.sub(r"\s", "", unicodedata.normalize("NFKC", v).casefold()) for v in values}
    letters = _CYRILLIC if any(re.match(r"б\d", plain) for plain in folded.values()) else _LOOKALIKES
    bare = {v: _BEFORE.sub("", plain.translate(letters)) for v, plain in folded.items()}
    return {v: _CEFR[plain] for v, plain in bare.items() if plain in _CEFR}


def is_no_value(cell: str) -> bool:
    """Tell whether a cell holds no value: it is empty, a dash or a question mark, or a word such as 'n/a'."""
    return not cell.strip(_BLANKS) or cell.casefold() in _NO_VALUES


def refuse_no_header(name: str, header: tuple[str, ...], kind: str) -> None:
    """Raise if the first line of a table is a row, or a comment."""
    named = guess_by_name(header)
    if "text" in named or "level" in named or kind in ("json", "jsonl", "parquet", "xml"):
        return
    # A question may be the header of a form; a row also has a level or a number.
    has_sentence = any(cell.rstrip().endswith((".", "!", "?")) for cell in header)
    is_row = bool(cefr_levels(header)) or (has_sentence and any(re.fullmatch(r"[\d.,]+", cell) for cell in header))
    if is_row or header[0].startswith("#"):
        what = "a comment" if header[0].startswith("#") else "a row"
        raise InputError(f"{name}: has no header: its first line is {what}. {ADD_HEADER}")


def _choice_error(name: str, role: str, columns: Sequence[str]) -> InputError:
    """Make the error for several columns that may have a role; it quotes no text where a header is missing."""
    if looks_like_text(columns):
        what, advice = (
            f"{len(columns)} columns",
            f"--set data.columns.{role}=COLUMN. If the file has no header: {ADD_HEADER}",
        )
    else:
        what, advice = f"the columns {list_names(columns)}", take_column(role, columns[0])
    return InputError(f"{name}: {what} may hold the {role}s. To take one: {advice}")


def _level_share(column: pa.ChunkedArray) -> float:
    """Return the share of a column's cells that are CEFR levels; 0 if the column has too many distinct values."""
    counts = pc.value_counts(column)
    if not 2 <= len(counts) <= MOST_LEVELS:
        return 0.0
    values = [value.decode("utf-8", "replace") for value in counts.field("values").to_pylist()]
    numbers, levels = counts.field("counts").to_pylist(), cefr_levels(values)
    fitting = sum(number for value, number in zip(values, numbers, strict=True) if value in levels)
    return float(fitting / max(1, sum(numbers)))


def _plain(name: str) -> str:
    folded = unicodedata.normalize("NFKD", name.casefold())
    return re.sub(r"[^a-z0-9]", "", folded)
