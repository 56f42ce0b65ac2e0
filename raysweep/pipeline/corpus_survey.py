"""Reads the corpus before a run does, and reports what prepare would refuse: columns, levels, bad rows."""

from collections.abc import Mapping
from dataclasses import dataclass

from raysweep.config.schema import Config
from raysweep.errors import ConfigError
from raysweep.pipeline.thin_levels import levels_of_trials, thin_level_problems
from raysweep.readers.locations import as_list, find_files, is_remote, name_files


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusSurvey:
    """What the corpus contains, as far as it can be read."""

    rows: int
    documents: Mapping[str, int]
    """Number of documents by level, lowest level first."""
    set_aside: Mapping[str, int]
    """Number of rows by the reason for which prepare would set them aside."""

    def __str__(self) -> str:
        levels = ", ".join(f"{level} {count:,}" for level, count in self.documents.items())
        aside = "".join(f"; {count:,} rows set aside: {reason}" for reason, count in self.set_aside.items())
        return f"{self.rows:,} rows ({levels}){aside}"


def survey_corpus(config: Config) -> CorpusSurvey | None:
    """Read the corpus; return None for the synthetic sample.

    Raises:
        InputError, ConfigError: prepare or the trainings would refuse it: a file or column is missing, too many rows
            are bad, or a level has no texts.
    """
    if config.data.path is None:
        return None
    from raysweep.corpus.corpus_rows import read_corpus
    from raysweep.corpus.quarantine import LEFT_OUT, count_by_reason

    corpus = read_corpus(find_files(config.data.path), config.data)
    counts = {row["values"]: row["counts"] for row in corpus.documents["level"].value_counts().to_pylist()}
    survey = CorpusSurvey(
        rows=corpus.rows,
        documents={level: counts.get(level, 0) for level in config.data.levels},
        set_aside=count_by_reason(corpus.bad_rows),
    )
    bad = sum(count for reason, count in survey.set_aside.items() if reason != LEFT_OUT)
    if bad > config.data.max_bad_fraction * corpus.rows:
        share = f"data.max_bad_fraction allows {100 * config.data.max_bad_fraction:g} %"
        name = name_files(config.data.path)
        raise ConfigError(f"{name}: {bad:,} of {corpus.rows:,} rows are bad ({share}): {survey}")
    needed = levels_of_trials(config)
    if missing := [level for level, count in survey.documents.items() if level in needed and not count]:
        raise ConfigError(*thin_level_problems(config, missing, {}))
    return survey


def is_at_hand(config: Config) -> bool:
    """Return whether the corpus can be read without downloading anything."""
    return not any(is_remote(given) for given in as_list(config.data.path or ()))
