"""Reads experiments.yaml into a `Config`, or reports all errors at once.

A message is `place: path: found value; must be …`, with the nearest valid name for an unknown one.
The file is validated as JSON, for which pydantic's strict mode accepts lists for tuples and converts nothing
else.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from raysweep.config.corpora_checks import find_corpus_problems
from raysweep.config.error_messages import UNKNOWN, did_you_mean, error_messages, show
from raysweep.config.safe_yaml import parse_yaml
from raysweep.config.schema import Config, ConfigFile
from raysweep.config.search_checks import find_training_problems
from raysweep.config.secrets import find_unread_variables, recorded_notify
from raysweep.config.training_settings import TrainingConfig, TrialConfig
from raysweep.config.trial_names import find_wrong_names, is_taken, planned_controls
from raysweep.config.trial_plan import expand_plan, with_plan
from raysweep.config.yaml_files import SET_PLACE, apply_overrides, read_file
from raysweep.errors import ConfigError, InputError
from raysweep.storage.printable import without_secrets
from raysweep.storage.run_folder import RunFolder


def load_config(path: Path, profile: str | None = None, overrides: Sequence[str] = ()) -> tuple[str, Config]:
    """Read a profile of the file, with `--set` values applied.

    Args:
        profile: the name of the profile; the file's `default` if None.
        overrides: strings `path.to.key=value`, with the value in YAML.

    Returns:
        The profile's name and its settings.

    Raises:
        ConfigError: with a line for each error.
    """
    data = read_file(path)
    name = profile or data["default"]
    profiles = data["profiles"]
    if name not in profiles:
        raise ConfigError(f"{path.name}: profiles: no profile {show(name)}{did_you_mean(name, profiles)}")
    values, set_paths = apply_overrides(profiles[name], overrides)
    return name, parse_config(_with_one_path(values, set_paths), place=path.name, set_paths=set_paths)


def _with_one_path(values: Any, set_paths: Sequence[str]) -> Any:
    """Let `--set data.csv` replace the file's `data.path`, and vice versa."""
    data = values.get("data") if isinstance(values, dict) else None
    for given, other in (("csv", "path"), ("path", "csv")):
        if isinstance(data, dict) and f"data.{given}" in set_paths and f"data.{other}" not in set_paths:
            values = {**values, "data": {name: value for name, value in data.items() if name != other}}
    return values


def check_file(path: Path) -> dict[str, Config]:
    """Read every profile of the file; raises ConfigError with a line for each error in any of them."""
    data = read_file(path)
    configs: dict[str, Config] = {}
    problems: list[str] = []
    for name, values in data["profiles"].items():
        try:
            configs[name] = parse_config(values, place=f"{path.name}: profiles.{name}", joint=".")
        except ConfigError as error:
            problems.extend(error.problems)
    if data["default"] not in data["profiles"]:
        problems.append(
            f"{path.name}: default: no profile {show(data['default'])}{did_you_mean(data['default'], data['profiles'])}"
        )
    if problems:
        raise ConfigError(*problems)
    return configs


def read_resolved_config(folder: RunFolder) -> Config:
    """Read a run's settings from its config.yaml; raises InputError if it is missing, or not one of raysweep's."""
    if not folder.config.exists():
        raise InputError(f"{folder.config}: not there; is '{folder.name}' the name of a run? See --storage")
    try:
        values = parse_yaml(folder.config.read_text(encoding="utf-8"))
        return parse_config(values, place=folder.config.name, is_recorded=True)
    except ValueError as error:
        raise InputError(f"{folder.config}: {error}") from error


def parse_config(
    values: Any,
    *,
    place: str = "config",
    set_paths: Sequence[str] = (),
    joint: str = ": ",
    is_recorded: bool = False,
) -> Config:
    """Validate a profile given as plain values.

    Args:
        place: the file, for messages.
        set_paths: paths that `--set` gave.
        joint: what separates the place from a path.
        is_recorded: the config of a run, which may have trained settings that later versions refuse.

    Raises:
        ConfigError: with a line for each error: `place`, `joint`, the path, the value found and the requirement.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{place}: found {show(values)}; must be a mapping of settings")
    listed, problems = expand_plan(values, set_paths)
    try:
        config = Config.model_validate_json(json.dumps(_inherit_training(listed)))
    except ValidationError as error:
        messages = error_messages([detail for detail in error.errors() if not _is_inherited(detail, listed)])
        reported = {path for path, _ in problems} | ({"trials"} if problems else set())
        # Fields that are missing because of an error in the plan are not reported again.
        problems += [(path, message) for path, message in messages if path.removesuffix(".levels") not in reported]
    else:
        problems = problems or [*([] if is_recorded else find_training_problems(config)), *_check_relations(config)]
        if not problems:
            return config
    raise ConfigError(*[_line(path, message, place, set_paths, joint) for path, message in problems])


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema of experiments.yaml, for editors."""
    return with_plan(ConfigFile.model_json_schema(by_alias=True))


def dump_config(config: Config) -> str:
    """Write a resolved profile as YAML without secrets, for the run folder."""
    data = json.loads(config.model_dump_json(by_alias=True))
    if config.notify is not None:
        data["notify"] = recorded_notify(data["notify"])
    return without_secrets(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


def _check_relations(config: Config) -> list[tuple[str, str]]:
    """Check names, levels and parents of trials and other relations between fields; returns paths and messages."""
    problems = [problem for name, trial in config.trials.items() for problem in _check_trial(config, name, trial)]
    for level in (config.data.sample.level_shares or {}) if config.data.path is None else ():
        if level not in config.data.levels:
            problems.append((f"data.sample.level_shares.{level}", "no such level in data.levels"))
    scored, made = config.evaluation.examples_per_document, config.masking.examples_per_document
    if scored > made:
        must = f"must be at most masking.examples_per_document ({made})"
        problems.append(("evaluation.examples_per_document", f"found {scored}; {must}"))
    if config.budget.cost is not None and not (
        config.prices.gpu_hour or config.prices.gpu_types or config.prices.core_hour
    ):
        must = "needs prices: gpu_hour, gpu_types or core_hour"
        problems.append(("budget.cost", f"found {config.budget.cost:g}; {must}"))
    if config.evaluation.interpolation and not any(_is_fine_tune(config, trial) for trial in config.trials.values()):
        must = "needs a trial on one level that starts from a trial on all levels"
        problems.append(("evaluation.interpolation", must))
    problems += _check_controls(config) + find_wrong_names(config) + find_unread_variables(config.model_dump())
    problems += find_corpus_problems(config.corpora, config.data, partial(is_taken, config))
    if cycle := _find_cycle({name: trial.parent for name, trial in config.trials.items()}):
        problems.append(("trials", f"a cycle: {' → '.join(cycle)}"))
    return problems


def _is_fine_tune(config: Config, trial: TrialConfig) -> bool:
    parent = config.trials.get(trial.parent or "")
    return parent is not None and parent.parent is None and set(parent.levels) == {*config.data.levels}


def _check_controls(config: Config) -> list[tuple[str, str]]:
    if any(planned_controls(config)):
        return []
    must = "needs a trial on all levels and one on a single level, both without 'from' and 'documents'"
    return [(f"controls.{name}", must) for name in config.controls.asked]


def _check_trial(config: Config, name: str, trial: TrialConfig) -> list[tuple[str, str]]:
    path = f"trials.{name}"
    problems = []
    for level in trial.levels:
        if level not in config.data.levels:
            known = ", ".join(config.data.levels)
            problems.append((f"{path}.levels", f"found {show(level)}; known levels are {known}. Add it to data.levels"))
    if trial.parent is not None and trial.parent not in config.trials:
        problems.append((f"{path}.from", f"no trial {show(trial.parent)}{did_you_mean(trial.parent, config.trials)}"))
    named = [("examples_per_level", level) for level in trial.examples_per_level or {}]
    if trial.documents is not None:
        named.insert(0, ("documents.size_of", trial.documents.size_of))
    must = f"must be one of the trial's levels ({', '.join(trial.levels)})"
    return problems + [
        (f"{path}.{setting}", f"found {show(level)}; {must}") for setting, level in named if level not in trial.levels
    ]


def _find_cycle(parents: Mapping[str, str | None]) -> list[str] | None:
    for start in parents:
        path: list[str] = [start]
        while (parent := parents.get(path[-1])) is not None:
            if parent in path:
                return [*path[path.index(parent) :], parent]
            path.append(parent)
    return None


def _inherit_training(values: dict[str, Any]) -> dict[str, Any]:
    """Copy the settings under `training:` into every trial that does not override them."""
    training, trials = values.get("training"), values.get("trials")
    if not isinstance(training, dict) or not isinstance(trials, dict):
        return values
    known = {name: value for name, value in training.items() if name in TrainingConfig.model_fields}
    merged = {name: {**known, **trial} if isinstance(trial, dict) else trial for name, trial in trials.items()}
    return {**values, "trials": merged}


def _is_inherited(detail: ErrorDetails, values: dict[str, Any]) -> bool:
    location = detail["loc"]
    if len(location) < 3 or location[0] != "trials":
        return False
    trial = values["trials"][location[1]]
    training = values.get("training")
    return isinstance(training, dict) and location[2] in training and location[2] not in trial


def _line(path: str, message: str, place: str, set_paths: Sequence[str], joint: str) -> str:
    """Format one line: the place, then the error."""
    label = SET_PLACE + " " if _is_set(path, set_paths) else place + joint
    if message.startswith(UNKNOWN):
        path = path.rpartition(".")[0]  # the message names the field itself
    return f"{label}{path}: {message}" if path else f"{label.removesuffix(joint).strip()}: {message}"


def _is_set(path: str, set_paths: Sequence[str]) -> bool:
    """Tell whether `--set` gave the value, a part of it, or a section that contains it."""
    return any(f"{path}.".startswith(f"{given}.") or given.startswith(f"{path}.") for given in set_paths)
