"""Examines an unknown corpus: its format, columns, levels, splits and language.

The result is the settings with which the corpus can be prepared, and the figures that a person needs to check them.
"""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from raysweep.config.data_settings import DataConfig, LayoutName, SplitConfig
from raysweep.config.error_messages import error_messages
from raysweep.corpus.cleaning import clean_text
from raysweep.corpus.column_choice import NEEDED, ColumnChooser, read_options
from raysweep.corpus.column_guess import guess_by_name, is_no_value, level_columns, refuse_no_header, take_column
from raysweep.corpus.corpus_notes import MARKUP_SIGNS, are_not_values, find_signs
from raysweep.corpus.corpus_rows import Corpus, read_corpus
from raysweep.corpus.first_look import count_values, guess_columns, named_layout, read_columns, read_header
from raysweep.corpus.language_guess import guess_language
from raysweep.corpus.layouts import LAYOUTS, CorpusLayout, recognise_layout
from raysweep.corpus.level_guess import GuessedLevels, guess_levels
from raysweep.corpus.normalising import bare, normalised_codes
from raysweep.corpus.quarantine import LEFT_OUT, UNKNOWN_SPLIT, BadRow, check_share, explain_usual
from raysweep.corpus.splits import SPLITS
from raysweep.errors import ConfigError, InputError
from raysweep.readers.raw_columns import FILE
from raysweep.readers.reading import open_files, read_file

FEWEST_TEXTS = 30
"""Levels with fewer texts are left out."""
FEWEST_AT_ALL = 8
"""The same limit for a corpus in which fewer than two levels have `FEWEST_TEXTS`; its run only shows how a run works.
"""
TEST_TEXTS = 12
"""The share of test is raised until every level has so many test texts, or learners where they are known, as far as
`MOST_TESTED` allows; fewer than ten decide nothing."""
MOST_TESTED = 0.25
FEWEST_WRITERS = 10
"""Independent writers of a level's test documents below which no hypothesis is tested (`statistics.bootstrap`)."""
LANGUAGE_SAMPLE = 300


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The findings about a corpus and the settings that were chosen."""

    data: dict[str, Any]  # settings of the corpus that differ from the defaults, without its path
    format: str
    header: tuple[str, ...]
    reasons_unused: Mapping[str, str]  # column that looks useful → why it is not used
    layout: LayoutName | None
    levels: tuple[str, ...]  # levels to study, lowest first
    counts: Mapping[str, int]  # level → texts
    train_counts: Mapping[str, int]  # level → approximate number of training texts
    thin: Mapping[str, int]  # level left out because it has too few texts → texts
    others: Mapping[str, int]  # value left out because it is not a level → rows
    is_order_known: bool
    corpus: Corpus
    learners: int | None
    without_learner: int  # texts with a word such as 'NA' as learner
    fewest_tested: tuple[str, int] | None  # the level with the fewest learners to test on, about how many
    first_languages: int | None
    prompts: int | None
    splits: Mapping[str, int] | None  # published split → documents
    language: str | None  # None: not recognised
    with_markup: int
    lengths: tuple[float, int]  # mean and greatest length in characters
    bad_share: float  # share of bad rows
    bad_example: str  # explains the first of the most frequent kind of bad rows; '' if there is none


def survey_corpus(files: Sequence[Path], settings: Mapping[str, Any], *, order: Sequence[str] = ()) -> Survey:
    """Examine a corpus.

    Args:
        settings: settings of `data` given by the user, which are kept.
        order: the levels, lowest first, if the user gave them.

    Raises:
        InputError: the files cannot be read, or have no levels or texts that could be compared.
    """
    given = _config(settings)
    layout_name = given.layout or named_layout(files)
    header, kind = read_header(files, given, LAYOUTS.get(layout_name) if layout_name else None)
    layout_name = layout_name or recognise_layout(header)
    layout = LAYOUTS[layout_name] if layout_name is not None else None
    columns = {role: name for role, name in given.columns.model_dump().items() if name is not None}
    if layout is None and not set(columns.values()) & set(header):
        refuse_no_header(files[0].name, header, kind)
    if layout is None:
        guessed_columns = guess_columns(files, given, header, columns)
        off = {role for role, name in settings.get("columns", {}).items() if name is None} - {*NEEDED}
        columns = {**{role: name for role, name in guessed_columns.items() if role not in off}, **columns}
    reasons_unused: dict[str, str] = {}
    named_id = guess_by_name(header).get("writing_id")
    if layout is None and named_id is not None and named_id not in columns.values() and "id" not in {*columns, *off}:
        distinct, rows = count_values(files, given, named_id)
        may_be_writer = "learner" not in {*columns, *off} and FEWEST_WRITERS <= distinct <= rows / 2
        option = f"; if it names the writer: --set {shlex.quote(f'data.columns.learner={named_id}')}"
        reasons_unused[named_id] = f"its values repeat{option if may_be_writer else ''}"
    if layout is None and "level" not in given.columns.model_dump(exclude_none=True):
        others = [name for name in header if name not in columns.values() and header.count(name) == 1]
        table = read_columns(files, given, others) if others else pa.table({})
        reasons_unused |= {
            name: f"holds levels too; to take them: {take_column('level', name)}"
            for name in level_columns(table, table.column_names)
        }
    data: dict[str, Any] = {**settings, "columns": columns}
    if layout_name is not None:
        data["layout"] = layout_name
    guessed = _guess_levels(files, _config(data), layout, order or settings.get("levels", ()))
    split = columns.get("split") or (layout.splits if layout is not None else None)
    columns.pop("split", None)
    data |= {"levels": guessed.names, "level_aliases": {**guessed.aliases, **given.level_aliases}}
    hidden = set(layout.leave_out) if layout is not None else set()
    leave_out = tuple(value for value in guessed.others if value not in hidden)
    data["leave_out"] = tuple(dict.fromkeys((*given.leave_out, *leave_out)))
    if split is not None and (layout is None or split == FILE or split in header):
        with_splits = {**data, "columns": {**columns, "split": split}}
        corpus = read_corpus(files, _config(with_splits))
        if why := _why_unusable(corpus):
            if given.columns.split:
                raise InputError(f"{corpus.files[0]}, column {split!r}: {why}, or leave out data.columns.split")
            reasons_unused[split] = f"{why}, or leave the column out"
            corpus = read_corpus(files, _config(data))
        else:
            columns["split"] = split
    else:
        corpus = read_corpus(files, _config(data))
    return _describe(
        corpus, data, columns, guessed, header=header, kind=kind, layout=layout_name, given=given,
        reasons_unused=reasons_unused,
    )  # fmt: skip


def _config(settings: Mapping[str, Any]) -> DataConfig:
    """Validate settings as a config file's, so that lists pass for tuples; raises ConfigError with all errors."""
    try:
        return DataConfig.model_validate_json(json.dumps(settings))
    except ValidationError as error:
        problems = error_messages(error.errors(), DataConfig)
        lines = [f"--set data.{path}".rstrip(".") + f": {message}" for path, message in problems]
        raise ConfigError(*lines) from error


def _guess_levels(
    files: Sequence[Path], data: DataConfig, layout: CorpusLayout | None, order: Sequence[str]
) -> GuessedLevels:
    chooser = ColumnChooser(data.columns, layout)
    options = read_options(data, layout, chooser)
    aliases = {bare(spelling).casefold(): level for spelling, level in data.level_aliases.items()}
    left_out = {bare(spelling) for spelling in data.leave_out}
    counts: dict[str, int] = {}
    bad: list[BadRow] = []
    rows = 0
    sample: list[str] = []
    for file in open_files(files, layout.files if layout else None):
        raw = read_file(file, options)
        rows += raw.rows
        bad += (
            BadRow(row=row.row, file=file.short, writing_id="", column=row.column, reason=row.reason, value=row.value)
            for row in raw.malformed
        )
        for entry in pc.value_counts(raw.table[raw.roles["level"]]).to_pylist():
            value = bare(entry["values"].decode("utf-8", "replace"))
            value = aliases.get(value.casefold(), value)
            if value not in left_out:
                counts[value] = counts.get(value, 0) + entry["counts"]
        texts = raw.table[raw.roles["text"]].slice(0, LANGUAGE_SAMPLE - len(sample)).to_pylist()
        sample += [text.decode("utf-8", "replace") for text in texts]
    check_share(bad, rows, data)
    is_japanese = "ja" in (data.language, guess_language(sample))
    return guess_levels(counts, layout, column=chooser.roles["level"], is_japanese=is_japanese, order=order)


def _why_unusable(corpus: Corpus) -> str:
    """Say why published splits cannot be used; '' if every row has one, and train and test have documents."""
    assert corpus.splits is not None
    other = [bad.value for bad in corpus.bad_rows if bad.reason == UNKNOWN_SPLIT]
    if other:
        values = list(dict.fromkeys(other))[:5]
        named = ", ".join(value for value in values if value != "''")
        fix = f"say what {named} is in data.split_names" if named else "fill it in"
        rows = "1 row has" if len(other) == 1 else f"{len(other):,} rows have"
        return f"{rows} no known split ({', '.join(values)}); {fix}"
    missing = [split for split in ("train", "test") if SPLITS.index(split) not in corpus.splits]
    return f"no text is in {' or '.join(missing)}; say which value stands for it in data.split_names" if missing else ""


def _describe(
    corpus: Corpus,
    data: dict[str, Any],
    columns: Mapping[str, str],
    guessed: GuessedLevels,
    *,
    header: tuple[str, ...],
    kind: str,
    layout: LayoutName | None,
    given: DataConfig,
    reasons_unused: Mapping[str, str],
) -> Survey:
    bad = [row for row in corpus.bad_rows if row.reason != LEFT_OUT]
    bad_share = check_share(bad, corpus.rows, _config(data))
    documents = corpus.documents
    by_level = {level["values"]: level["counts"] for level in pc.value_counts(documents["level"]).to_pylist()}
    counts = {level: int(by_level.get(level, 0)) for level in guessed.names}
    trained, tested = _split_counts(corpus, counts, given.split)
    thin: dict[str, int] = {}
    for fewest in (FEWEST_TEXTS, FEWEST_AT_ALL):
        thin = {
            level: count
            for level, count in counts.items()
            if count < fewest or not trained[level] or (corpus.splits is not None and not tested[level])
        }
        if len(kept := tuple(level for level in guessed.names if level not in thin)) > 1:
            break
    if len(kept) < 2:
        shown = ", ".join(f"{level} {count:,}" for level, count in counts.items())
        if without := sum(rows for value, rows in guessed.others.items() if is_no_value(value)):
            shown += f"; {without:,} rows without a level"
        raise InputError(
            f"{corpus.files[0]}: fewer than two levels have {FEWEST_AT_ALL} texts, some to train and some to test on "
            f"({shown}); levels are compared. "
            "Add texts, or name the column of the levels: --set data.columns.level=COLUMN"
        )
    sample = documents["text"].slice(0, LANGUAGE_SAMPLE).to_pylist()
    language = given.language if given.language != "en" else guess_language(sample)
    settled = {
        **data,
        "columns": dict(columns),
        "levels": kept,
        "leave_out": (*data["leave_out"], *thin),
        "language": language or given.language,
    }
    writers = _count_writers(documents)
    smallest = min(min(counts[level], writers.get(level, counts[level])) for level in kept)
    if corpus.splits is None and "split" not in data and smallest * given.split.test < TEST_TEXTS:
        test = min(MOST_TESTED, math.ceil(100 * TEST_TEXTS / smallest) / 100)
        valid = min(0.2, max(0.1, math.ceil(150 / smallest) / 100))
        settled["split"] = {"train": round(1.0 - valid - test, 2), "valid": valid, "test": test}
        trained = _split_counts(corpus, counts, _config(settled).split)[0]
    markup = int(np.count_nonzero(find_signs(documents["text"]) & MARKUP_SIGNS)) if not corpus.cleaned.texts else 0
    if markup and _has_markup(documents["text"]):
        settled["clean"] = True
    lengths = pc.utf8_length(documents["text"])
    return Survey(
        data=_without_defaults(settled),
        format=kind,
        header=header,
        reasons_unused=reasons_unused,
        layout=layout,
        levels=kept,
        counts=counts,
        train_counts={level: trained[level] for level in kept},
        thin=thin,
        others=guessed.others,
        is_order_known=guessed.is_order_known,
        corpus=corpus,
        learners=_count_distinct(documents["learner"]),
        without_learner=int(are_not_values(documents["learner"]).sum()),
        fewest_tested=_fewest_tested(writers, kept, _config(settled).split) if corpus.splits is None else None,
        first_languages=_count_distinct(documents["l1"]),
        prompts=_count_distinct(documents["prompt"]),
        splits=_count_splits(corpus),
        language=language,
        with_markup=corpus.cleaned.texts or (markup if settled.get("clean") else 0),
        lengths=(float(pc.mean(lengths).as_py() or 0.0), int(pc.max(lengths).as_py() or 0)),
        bad_share=bad_share,
        bad_example=explain_usual(bad, _config(data)) if bad else "",
    )


def _count_writers(documents: pa.Table) -> dict[str, int]:
    """Count the learners of each level; empty if learners are not known."""
    if _count_distinct(documents["learner"]) is None:
        return {}
    table = documents.select(["level", "learner"]).group_by("level").aggregate([("learner", "count_distinct")])
    return dict(zip(table["level"].to_pylist(), table["learner_count_distinct"].to_pylist(), strict=True))


def _fewest_tested(writers: Mapping[str, int], levels: Sequence[str], shares: SplitConfig) -> tuple[str, int] | None:
    tested = {level: round(shares.test * writers[level]) for level in levels if level in writers}
    return min(tested.items(), key=lambda item: item[1]) if tested else None


def _split_counts(
    corpus: Corpus, counts: Mapping[str, int], shares: SplitConfig
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the number of training texts and of test texts of each level."""
    if corpus.splits is None:
        trained = {level: round(shares.train * count) for level, count in counts.items()}
        return trained, {level: round(shares.test * count) for level, count in counts.items()}
    levels = np.array(corpus.documents["level"].to_pylist(), dtype=np.str_)
    train, test = (corpus.splits == SPLITS.index(split) for split in ("train", "test"))
    return (
        {level: int((train & (levels == level)).sum()) for level in counts},
        {level: int((test & (levels == level)).sum()) for level in counts},
    )


def _count_splits(corpus: Corpus) -> dict[str, int] | None:
    if corpus.splits is None:
        return None
    return dict(zip(SPLITS, np.bincount(corpus.splits, minlength=len(SPLITS)).tolist(), strict=True))


def _has_markup(texts: pa.ChunkedArray) -> bool:
    marked = texts.filter(pa.array((find_signs(texts) & MARKUP_SIGNS) > 0)).slice(0, 1000).to_pylist()
    return any(clean_text(text) != text for text in marked)


def _count_distinct(column: pa.ChunkedArray) -> int | None:
    if column.null_count == len(column):
        return None
    names = set(normalised_codes(column)[1])
    return len(names) if names != {"unknown"} else None


def _without_defaults(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from the defaults, and always the levels, which a person wants to see."""
    config = _config(data)
    values = config.model_dump(mode="json", exclude_defaults=True, exclude={"path"})
    if "split" in values:  # shares are read together
        values["split"] |= {name: getattr(config.split, name) for name in SPLITS}
    return {**values, "levels": list(config.levels)}
