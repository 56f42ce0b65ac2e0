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
    gone = tuple(level for level in config.data.levels if level in levels)
    if not gone:
        return config
    trials = {}
    for name, trial in config.trials.items():
        own = tuple(level for level in trial.levels if level not in levels)
        if own and (trial.documents is None or trial.documents.size_of in own):
            trials[name] = trial.model_copy(update={"levels": own})
    while orphans := [
        name for name, trial in trials.items() if trial.parent is not None and trial.parent not in trials
    ]:
        for name in orphans:
            del trials[name]
    if len(kept) < 2 or not trials:
        what = f"{', '.join(kept) or 'no level'} would remain without {', '.join(gone)}"
        raise ConfigError(f"--skip-empty: {what}; levels are compared, so at least two must have texts")
    aliases = config.data.level_aliases
    spellings = (*gone, *(alias for alias, level in aliases.items() if level in gone))
    changes = {
        "levels": kept,
        "leave_out": (*config.data.leave_out, *spellings),
        "level_aliases": {alias: level for alias, level in aliases.items() if level not in gone},
    }
    data = config.data.model_copy(update=changes)
    return config.model_copy(update={"data": data, "trials": trials})
