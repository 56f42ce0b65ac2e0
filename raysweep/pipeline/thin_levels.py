"""Finds levels with too few texts for a comparison before Ray is started, rather than by failing trials.

A level that a trial trains on needs texts to train and to validate on; their numbers are known once the corpus is
prepared.
"""

from collections.abc import Mapping

from raysweep.config.left_out_levels import without_levels
from raysweep.config.schema import Config
from raysweep.errors import ThinLevelsError
from raysweep.pipeline.run_record import read_run
from raysweep.storage.atomic_files import read_json
from raysweep.storage.run_folder import RunFolder

NEEDED = ("train", "valid")
"""Without texts in these a training fails; without test texts a level has no scores and no claim is made about it."""
SPLITS = (*NEEDED, "test")
Counts = Mapping[str, Mapping[str, int]]
"""Number of documents by level and split."""


def levels_of_trials(config: Config) -> set[str]:
    """Return the levels that a trial trains on."""
    return {level for trial in config.trials.values() for level in trial.levels}


def find_thin_levels(config: Config, counts: Counts) -> list[str]:
    """List the levels of trials that lack documents to train or to validate on."""
    needed = levels_of_trials(config)
    return [
        level
        for level in config.data.levels
        if level in needed and min(counts.get(level, {}).get(split, 0) for split in NEEDED) == 0
    ]


def refuse_thin_levels(config: Config, counts: Counts) -> None:
    """Raise ThinLevelsError if a level of a trial has too few documents."""
    if thin := find_thin_levels(config, counts):
        raise ThinLevelsError(*thin_level_problems(config, thin, counts))


def thin_level_problems(config: Config, thin: list[str], counts: Counts) -> list[str]:
    """Describe each thin level in a line, and the alternatives in a last line."""
    lines = []
    for level in thin:
        documents = counts.get(level, {})
        splits = ", ".join(f"{split} {documents.get(split, 0):,}" for split in SPLITS)
        total = sum(documents.values())
        lines.append(
            f"level {level}: {total:,} texts" + (f" ({splits})" if total else "") + "; train and valid need one each"
        )
    kept = [level for level in config.data.levels if level not in thin]
    left = ", ".join([*config.data.leave_out, *thin])
    if len(kept) < 2:
        return [*lines, "levels are compared, so at least two need texts: add texts, or name the corpus's data.levels"]
    ways = f"leave out with --skip-empty, or set data: {{levels: [{', '.join(kept)}], leave_out: [{left}]}}"
    return [*lines, ways]


def read_counts(folder: RunFolder) -> Counts:
    """Read the documents by level and split from the prepare stage; {} if it is not done."""
    counts: Counts = read_json(folder.splits)["counts"] if folder.splits.exists() else {}
    return counts


def leave_out_again(config: Config, folder: RunFolder) -> Config:
    """Return the config without the levels that `--skip-empty` left out when the corpus was prepared."""
    record = read_run(folder)
    if record is None or "prepare" not in record.stages:
        return config
    data = record.stages["prepare"].identity["data"]
    left_out = [level for level in config.data.levels if level in data.get("leave_out", ())]
    kept = [level for level in config.data.levels if level not in left_out]
    return without_levels(config, left_out) if left_out and kept == list(data["levels"]) else config
