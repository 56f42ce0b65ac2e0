"""Refuses settings with which nothing should be trained, such as a search that may draw what its trial could not have.

The config of a run that is there already is not checked: an earlier version may have accepted them.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from pydantic import ValidationError

from raysweep.config.error_messages import error_messages
from raysweep.config.schema import Config
from raysweep.config.training_settings import SearchConfig, TrainingConfig, TrialConfig
from raysweep.config.trial_names import ONE_FOR_ALL, entry_on, general_entry, planned_controls

Problems = list[tuple[str, str]]
"""Paths and messages."""
EXAMPLES_SEEN = ("steps", "batch_size", "accumulation")
"""Settings whose product is the number of examples that a training sees."""


def find_training_problems(config: Config) -> Problems:
    """Find settings with which nothing should be trained: of searches, warm-up and controls."""
    problems = []
    for name, trial in config.trials.items():
        path = f"trials.{name}"
        wrong = _find_search_problems(path, trial.search, trial) if trial.search else []
        problems += wrong or _find_warmup_problems(path, trial, config.training)
    shared = [
        (trial.steps, name) for name, trial in config.trials.items() if _has_shared_warmup(trial, config.training)
    ]
    if shared and min(shared)[0] <= config.training.warmup_steps:
        must = f"must be below the steps of trial '{min(shared)[1]}' ({min(shared)[0]})"
        problems.append(("training.warmup_steps", f"found {config.training.warmup_steps}; {must}"))
    return [*problems, *(_find_matched_examples(config) if any(planned_controls(config)) else ())]


def _find_search_problems(path: str, search: SearchConfig, trial: TrialConfig) -> Problems:
    """Validate the ends of every range and every choice as a value of its setting, with the settings not searched."""
    problems = []
    fixed = trial.model_dump(include=TrainingConfig.model_fields.keys() - search.space.keys())
    for name in search.space:
        for value in tried_values(trial, name):
            try:
                TrainingConfig.model_validate({**fixed, name: value})
            except ValidationError as error:
                message = error_messages(error.errors())[0][1]
                problems.append((f"{path}.search.space.{name}", message))
    problems = problems or list(_find_whole_ranges(path, search, fixed))
    return problems or [*_find_precision_problems(path, search), *_find_idle_asha(path, search, trial)]


def _has_shared_warmup(trial: TrialConfig, training: TrainingConfig) -> bool:
    """Tell whether a trial has fixed steps and the warm-up of `training:`, whose mistakes are reported only once."""
    space = trial.search.space if trial.search else {}
    return trial.warmup_steps == training.warmup_steps and not space.keys() & {"steps", "warmup_steps"}


def _find_warmup_problems(path: str, trial: TrialConfig, training: TrainingConfig) -> Problems:
    """Compare the longest warm-up with the fewest steps, fixed or searched; [] for a shared warm-up."""
    if _has_shared_warmup(trial, training):
        return []
    space = trial.search.space if trial.search else {}
    warmup, steps = max(tried_values(trial, "warmup_steps")), min(tried_values(trial, "steps"))
    if warmup < steps:
        return []
    if "steps" in space and "warmup_steps" not in space:
        must = f"must be above the trial's warmup_steps ({warmup})"
        return [(f"{path}.search.space.steps", f"found {steps}; {must}")]
    place = f"{path}.search.space" if "warmup_steps" in space else path
    limit = "fewest steps of its search" if "steps" in space else "trial's steps"
    return [(f"{place}.warmup_steps", f"found {warmup}; must be below the {limit} ({steps})")]


def tried_values(trial: TrialConfig, name: str) -> tuple[Any, ...]:
    """Return a setting's value in a trial or, if it is searched, all its choices or the ends of its range."""
    tried = trial.search.space.get(name) if trial.search else None
    if tried is None:
        return (getattr(trial, name),)
    return tried.choices or (tried.low, tried.high)


def _find_matched_examples(config: Config) -> Iterator[tuple[str, str]]:
    """Refuse a control that must see as many examples as trials whose number of examples is searched."""
    matched = [general_entry(config), *(entry_on(config, [level]) for level in config.data.levels)]
    for kind in (kind for kind in config.controls.asked if kind in ONE_FOR_ALL):
        for name, trial in config.trials.items():
            searched = [setting for setting in EXAMPLES_SEEN if trial.search and setting in trial.search.space]
            if searched and any(trial is entry for entry in matched):
                what = f"cannot see as many examples as trial '{name}' does, which searches {' and '.join(searched)}"
                yield f"controls.{kind}", f"{what}; leave it out of trials.{name}.search.space, or set this to false"


def _find_whole_ranges(path: str, search: SearchConfig, fixed: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Refuse whole numbers as the bounds of a setting that takes fractions: no fraction would be drawn."""
    for name, tried in search.space.items():
        low, high = tried.low, tried.high
        if not isinstance(low, int) or not isinstance(high, int):
            continue
        try:
            TrainingConfig.model_validate({**fixed, name: (low + high) / 2 + 0.25})
        except ValidationError:
            continue  # it takes whole numbers alone
        what = f"found the bounds {low} and {high}, between which only whole numbers are drawn"
        fix = f"write {low:.1f} and {high:.1f}, or list whole numbers in choices"
        yield f"{path}.search.space.{name}", f"{what}; {fix}"


def _find_precision_problems(path: str, search: SearchConfig) -> Iterator[tuple[str, str]]:
    """Validate every pair of choices of settings that may exclude each other."""
    chosen = [set(search.space[name].choices or ()) for name in ("precision", "compile") if name in search.space]
    for precision, is_compiled in product(*chosen) if len(chosen) == 2 else ():
        try:
            TrainingConfig.model_validate({"precision": precision, "compile": is_compiled})
        except ValidationError as error:
            yield f"{path}.search.space", error_messages(error.errors())[0][1]
            return


def _find_idle_asha(path: str, search: SearchConfig, trial: TrialConfig) -> Iterator[tuple[str, str]]:
    """Refuse an ASHA whose first comparison would come after the last step of every sample."""
    if search.asha is None:
        return
    every, steps = min(tried_values(trial, "evaluate_every")), max(tried_values(trial, "steps"))
    grace = search.asha.grace_evaluations
    if grace * every >= steps:
        what = f"found {grace} and evaluate_every {every}, so samples would first be compared at step {grace * every:,}"
        must = f"must be before their last step ({steps:,}). Lower evaluate_every, or leave asha out"
        yield f"{path}.search.asha.grace_evaluations", f"{what}; {must}"
