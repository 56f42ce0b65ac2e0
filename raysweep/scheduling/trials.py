"""The trials of a run: one training each, with their parents and their roles in the comparison.

A config entry with several seeds becomes several trials; a child starts from its parent's model with
the same seed if there is one.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysweep.config.schema import Config
from raysweep.config.training_settings import TrialConfig
from raysweep.config.trial_names import Control, trial_name
from raysweep.scheduling.control_trials import plan_controls

START_MODEL = "start"
"""Name under which the models' common start is scored, as the baseline row of the matrix."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One training, which gives one model of the same name."""

    name: str
    entry: str
    """The entry of `trials:` it comes from; differs from the name if there are several seeds."""
    seed: int
    settings: TrialConfig
    parent: str | None
    """The trial whose model it starts from."""
    control: Control | None = None
    """What it is a control for; None for a trial of the config's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Roles:
    """The trials in each role; with several seeds, several names in the seeds' order."""

    levels: tuple[str, ...]
    general: tuple[str, ...]
    """Trials on all levels, without a parent."""
    specialised: dict[str, tuple[str, ...]]
    """By level: trials on that level alone, without a parent."""
    transfer: dict[str, tuple[str, ...]]
    """By level: trials on that level alone that start from a general one."""


def expand_trials(config: Config) -> dict[str, Trial]:
    """Return all trials by name: every parent before its children, otherwise in the file's order; controls last."""
    ordered: dict[str, Trial] = {}
    controls = plan_controls(config)
    entries = {**config.trials, **{name: settings for name, (settings, _) in controls.items()}}
    pending = dict(entries)
    while pending:
        ready = [entry for entry, settings in pending.items() if settings.parent not in pending]
        # Controls have no parent, but are placed after all others.
        ready = [entry for entry in ready if entry not in controls] or ready
        assert ready, "loading refuses cycles"
        for entry in ready:
            settings = pending.pop(entry)
            for seed in config.seeds_of(settings):
                name = trial_name(entry, settings, seed)
                assert name not in ordered, "loading refuses names that are given twice"
                ordered[name] = Trial(
                    name=name,
                    entry=entry,
                    seed=seed,
                    settings=settings,
                    parent=None if settings.parent is None else _parent_of(config, settings.parent, seed),
                    control=controls[entry][1] if entry in controls else None,
                )
    return ordered


def find_roles(trials: Mapping[str, Trial], levels: Sequence[str]) -> Roles:
    """Determine which trials are general, specialised and transferred, from their levels and parents."""
    general = tuple(name for name, trial in trials.items() if trial.parent is None and _trains_on(trial, levels))
    specialised = {
        level: tuple(name for name, trial in trials.items() if trial.parent is None and _trains_on(trial, [level]))
        for level in levels
        if len(levels) > 1
    }
    transfer = {
        level: tuple(name for name, trial in trials.items() if trial.parent in general and _trains_on(trial, [level]))
        for level in levels
    }
    return Roles(
        levels=tuple(levels),
        general=general,
        specialised={level: names for level, names in specialised.items() if names},
        transfer={level: names for level, names in transfer.items() if names},
    )


def remaining_trials(
    trials: Mapping[str, Trial], done: Collection[str], forced: Collection[str] = ()
) -> dict[str, Trial]:
    """Return the trials to train: not done, forced, or starting from one of these; parents before children."""
    remaining: dict[str, Trial] = {}
    for name, trial in trials.items():
        if name not in done or name in forced or trial.parent in remaining:
            remaining[name] = trial
    return remaining


def training_settings(trial: Trial) -> dict[str, Any]:
    """Return the settings that decide the result of a trial's training, as its record keeps them, without unset ones.

    Checkpoint and GPU settings change when work is saved and where it runs, not the result.  How a step's examples
    are split and laid out changes speed, float rounding and which units dropout leaves out, just as GPUs do.
    """
    not_results = {
        "checkpoint_every",
        "keep",
        "gpus",
        "accelerator_type",
        "seeds",
        "parent",
        "micro_batch",
        "packing",
        "cuda_graphs",
    }
    settings = trial.settings.model_dump(mode="json", exclude=not_results)
    if settings["search"] is not None and settings["search"]["asha"] is None:
        # Without asha, the settings must equal those recorded before this setting existed.
        del settings["search"]["asha"]
    return {**{key: value for key, value in settings.items() if value is not None}, "seed": trial.seed}


def _trains_on(trial: Trial, levels: Sequence[str]) -> bool:
    """Return whether the trial is trained on all documents of exactly these levels, and is not a control."""
    settings = trial.settings
    has_all = trial.control is None and settings.documents is None and settings.examples_per_level is None
    return has_all and set(settings.levels) == set(levels)


def _parent_of(config: Config, parent: str, seed: int) -> str:
    settings = config.trials[parent]
    seeds = config.seeds_of(settings)
    return trial_name(parent, settings, seed if seed in seeds else seeds[0])
