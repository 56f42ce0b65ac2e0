"""Removes levels from a config: their trials are dropped, and their texts are left out of the corpus."""

from collections.abc import Collection

from raysweep.config.schema import Config
from raysweep.errors import ConfigError


def without_levels(config: Config, levels: Collection[str]) -> Config:
    """Remove levels from `data.levels` and from trials on several levels, and drop the trials on these levels only.

    A trial that starts from a dropped trial is dropped too.

    Raises:
        ConfigError: fewer than two levels, or no trials, would remain.
    """
    kept = tuple(level for level in config.data.levels if level not in levels)
    removed = tuple(level for level in config.data.levels if level in levels)
    if not removed:
        return config
    trials = {}
    for name, trial in config.trials.items():
        own = tuple(level for level in trial.levels if level not in levels)
        if own and (trial.documents is None or trial.documents.size_of in own):
            trials[name] = trial.model_copy(update={"levels": own})
    while orphans := {name for name, trial in trials.items() if trial.parent not in {None, *trials}}:
        trials = {name: trial for name, trial in trials.items() if name not in orphans}
    if len(kept) < 2 or not trials:
        what = f"{', '.join(kept) or 'no level'} would remain without {', '.join(removed)}"
        raise ConfigError(f"--skip-empty: {what}; levels are compared, so at least two must have texts")
    aliases = config.data.level_aliases
    spellings = (*removed, *(alias for alias, level in aliases.items() if level in removed))
    changes = {
        "levels": kept,
        "leave_out": (*config.data.leave_out, *spellings),
        "level_aliases": {alias: level for alias, level in aliases.items() if level not in removed},
    }
    data = config.data.model_copy(update=changes)
    return config.model_copy(update={"data": data, "trials": trials})
