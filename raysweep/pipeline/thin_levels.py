"""Levels that have too few texts for a comparison, found before Ray is started and not by six failing trials.

A level on which a trial trains needs texts to train and to validate on, which are known once the corpus is prepared.
"""

from collections.abc import Mapping

from raysweep.config.left_out_levels import without_levels
from raysweep.config.schema import Config
from raysweep.errors import ThinLevelsError
from raysweep.pipeline.run_record import read_run
from raysweep.storage.atomic_files import read_json
from raysweep.storage.run_folder import RunFolder

NEEDED = ("train", "valid")
"""Without texts in these a training fails; without test texts a level has no scores, and no claim is made on it."""
SPLITS = (*NEEDED, "test")
Counts = Mapping[str, Mapping[str, int]]
"""Documents by level and split."""


def find_thin_levels(config: Config, counts: Counts) -> list[str]:
    """The levels of trials that lack documents to train or to validate on."""
    asked = {level for trial in config.trials.values() for level in trial.levels}
    return [
        level
        for level in config.data.levels
        if level in asked and min(counts.get(level, {}).get(split, 0) for split in NEEDED) == 0
    ]


def refuse_thin_levels(config: Config, counts: Counts) -> None:
    """Raise if a level of a trial has too few documents.

    Raises:
        ThinLevelsError: with the numbers and the ways on.
    """
    if thin := find_thin_levels(config, counts):
        raise ThinLevelsError(*thin_level_problems(config, thin, counts))


def thin_level_problems(config: Config, thin: list[str], counts: Counts) -> list[str]:
    """A line for each thin level, and one with the ways on."""
    lines = []
    for level in thin:
        found = counts.get(level, {})
        splits = ", ".join(f"{split} {found.get(split, 0):,}" for split in SPLITS)
        total = sum(found.values())
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
    """Documents by level and split, as the prepare stage counted them; none if it is not done."""
    counts: Counts = read_json(folder.splits)["counts"] if folder.splits.exists() else {}
    return counts


def leave_out_again(config: Config, folder: RunFolder) -> Config:
    """The config without the levels that `--skip-empty` left out when the corpus was prepared."""
    record = read_run(folder)
    if record is None or "prepare" not in record.stages:
        return config
    data = record.stages["prepare"].identity["data"]
    left_out = [level for level in config.data.levels if level in data.get("leave_out", ())]
    kept = [level for level in config.data.levels if level not in left_out]
    return without_levels(config, left_out) if left_out and kept == list(data["levels"]) else config
