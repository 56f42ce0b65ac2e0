"""Selects the trials that may be trained now: all, or with sequential seeds those that the last look released."""

from collections.abc import Mapping
from typing import Any

from raysweep.config.schema import Config
from raysweep.scheduling.sequential_seeds import release_seeds
from raysweep.scheduling.trials import Trial
from raysweep.storage.atomic_files import read_json
from raysweep.storage.run_folder import RunFolder


def released_trials(config: Config, folder: RunFolder, trials: Mapping[str, Trial]) -> dict[str, Trial]:
    """Return the trials that may be trained; a trial that was begun is always among them."""
    begun = [name for name in trials if folder.trial(name).record.exists()]
    named = {*release_seeds(config, trials, done=begun), *_read(folder).get("released", ())}
    return {name: trial for name, trial in trials.items() if name in named}


def spared_trials(folder: RunFolder, trials: Mapping[str, Trial]) -> dict[str, list[str]]:
    """Return the trials that no claim needs, each with its entry's other trials; {} before all claims are settled."""
    spared = {*_read(folder).get("not_needed", ())}.intersection(trials)
    return {
        name: [other for other, of in trials.items() if of.entry == trials[name].entry and other not in spared]
        for name in trials
        if name in spared
    }


def _read(folder: RunFolder) -> dict[str, Any]:
    values: dict[str, Any] = read_json(folder.looks) if folder.looks.exists() else {}
    return values
