"""Expands `trials.plan`, which describes a model per level, a general model and fine-tunes for any list of levels.

The plan is expanded over `data.levels` before the profile is validated, so that all other code sees a list of trials:

    specialised   LEVEL        on that level's documents
    general       all          on all documents
    transfer      all-LEVEL    starts from `all`, on that level's documents

An entry in addition to the plan changes the trial of the same name, `null` drops it, and a new name adds a trial.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, ValidationError

from raysweep.config.data_settings import DataConfig
from raysweep.config.error_messages import did_you_mean, error_messages, show
from raysweep.config.section import PositiveInt, Section
from raysweep.config.training_settings import EntryConfig

PLAN = "plan"
GENERAL = "all"
_STEPS = "optimiser steps; a number for all levels, or one for each, such as {A1: 5000, A2: 4000}"


class LevelEntriesConfig(EntryConfig):
    """Settings of one trial per level."""

    steps: PositiveInt | Annotated[dict[str, PositiveInt], Field(min_length=1)] = Field(1000, description=_STEPS)  # type: ignore[assignment]


class PlanConfig(Section):
    """The plan of a comparison; a part that is absent gives no trials."""

    specialised: LevelEntriesConfig | None = Field(None, description="a trial per level, named as the level")
    general: EntryConfig | None = Field(None, description="the trial 'all', on the documents of all levels")
    transfer: LevelEntriesConfig | None = Field(
        None, description="per level a trial 'all-LEVEL', which starts from the trial 'all'"
    )


class _PlannedTrials(Section):
    plan: PlanConfig


class _PlannedProfile(Section):
    trials: _PlannedTrials


Problems = list[tuple[str, str]]
"""Paths and messages."""


def expand_plan(values: dict[str, Any], set_paths: Collection[str]) -> tuple[dict[str, Any], Problems]:
    """Replace a profile's plan by its trials, and remove the trials that are dropped.

    Args:
        values: the profile as plain values, not validated.
        set_paths: the paths given by `--set`, which may also drop trials that are not from a plan.
    """
    trials = values.get("trials")
    if not isinstance(trials, dict):
        return values, []
    plan = trials.get(PLAN)
    entries = {name: entry for name, entry in trials.items() if name != PLAN}
    planned, problems = ({}, []) if plan is None else _plan_trials(plan, entries, _levels_of(values))
    problems += _check_dropped(entries, planned)
    if plan is not None and not problems:
        problems += _check_added(entries, planned)
    merged = dict(planned)
    for name, entry in entries.items():
        if entry is None and (name in planned or f"trials.{name}" in set_paths):
            merged.pop(name, None)
        elif isinstance(entry, dict):
            merged[name] = {**planned.get(name, {}), **entry}
        else:
            merged[name] = entry
    return {**values, "trials": merged}, problems


def with_plan(schema: dict[str, Any]) -> dict[str, Any]:
    """Add the plan to the JSON Schema of the file; with a plan, a trial may be null or give only its changes."""
    plan = PlanConfig.model_json_schema(by_alias=True)
    definitions = {**schema["$defs"], **plan.pop("$defs"), "PlanConfig": plan}
    trial = {**definitions["TrialConfig"]}
    trial.pop("required")
    config = {**definitions["Config"]}
    trials = {
        **config["properties"]["trials"],
        "properties": {PLAN: {"anyOf": [{"$ref": "#/$defs/PlanConfig"}, {"type": "null"}]}},
        "additionalProperties": {"anyOf": [{"$ref": "#/$defs/TrialConfig"}, {"type": "null"}]},
    }
    config["properties"] = {**config["properties"], "trials": trials}
    return {**schema, "$defs": {**definitions, "TrialConfig": trial, "Config": config}}


def _levels_of(values: Mapping[str, Any]) -> list[str]:
    """Return the profile's levels; the default levels if they are absent, or invalid, which is reported later."""
    data = values.get("data")
    levels = data.get("levels") if isinstance(data, dict) else None
    if isinstance(levels, list) and levels and all(isinstance(level, str) for level in levels):
        return list(dict.fromkeys(levels))
    return list(DataConfig().levels)


def _plan_trials(plan: Any, entries: Mapping[str, Any], levels: Sequence[str]) -> tuple[dict[str, Any], Problems]:
    """Expand a plan to trials as plain values, without its invalid settings; also returns the problems."""
    place = f"trials.{PLAN}"
    problems: Problems = []
    try:
        _PlannedProfile.model_validate_json(json.dumps({"trials": {PLAN: plan}}))
    except ValidationError as error:
        problems = error_messages(error.errors(), _PlannedProfile)
    if not isinstance(plan, dict):
        return {}, problems
    parts = {name: part for name, part in plan.items() if isinstance(part, dict) and name in PlanConfig.model_fields}
    if not problems and not parts:
        problems.append((place, f"found {show(plan)}; must have specialised, general or transfer"))
    if len(levels) < 2:
        problems.append((place, f"compares levels, and data.levels has only {', '.join(levels)}; list at least two"))
    for level in levels:
        if level in {PLAN, GENERAL} or level.removeprefix(f"{GENERAL}-") in {*levels} - {level}:
            must = "gives the name of another trial of the plan; give it another name in data.level_aliases"
            problems.append(("data.levels", f"the level {level!r} {must}"))
    if "transfer" in parts and ("general" not in parts or entries.get(GENERAL, {}) is None):
        what = f"needs the trial '{GENERAL}' to start from; give {place}.general, or set {place}.transfer to null"
        problems.append((f"{place}.transfer", what))
        parts.pop("transfer")
    wrong = {path for path, _ in problems}
    planned: dict[str, Any] = {}
    for part, settings in parts.items():
        kept = {name: value for name, value in settings.items() if not _is_wrong(f"{place}.{part}.{name}", wrong)}
        kept = {name: value for name, value in kept.items() if name in LevelEntriesConfig.model_fields}
        if part == "general":
            planned[GENERAL] = {"levels": list(levels), **kept}
            continue
        for level in levels:
            name = level if part == "specialised" else f"{GENERAL}-{level}"
            own = dict(kept)
            if isinstance(steps := own.get("steps"), dict) and level in steps:
                own["steps"] = steps[level]
            elif isinstance(steps, dict):
                del own["steps"]
                entry = entries.get(name, {})
                if entry is not None and not (isinstance(entry, dict) and "steps" in entry):  # null drops the trial
                    missing = f"no steps for level {level}; add them, or give one number for all levels"
                    problems.append((f"{place}.{part}.steps", missing))
            origin = {"from": GENERAL} if part == "transfer" else {}
            planned[name] = {**origin, "levels": [level], **own}
    return _in_order(planned, levels), problems


def _in_order(planned: Mapping[str, Any], levels: Sequence[str]) -> dict[str, Any]:
    names = [*levels, GENERAL, *(f"{GENERAL}-{level}" for level in levels)]
    return {name: planned[name] for name in names if name in planned}


def _is_wrong(path: str, wrong: Collection[str]) -> bool:
    return any(f"{each}.".startswith(f"{path}.") for each in wrong)


def _check_dropped(entries: Mapping[str, Any], planned: Mapping[str, Any]) -> Problems:
    return [
        (f"trials.{name}", f"null drops a trial of the plan, which has no {show(name)}{did_you_mean(name, planned)}")
        for name, entry in entries.items()
        if entry is None and planned and name not in planned
    ]


def _check_added(entries: Mapping[str, Any], planned: Mapping[str, Any]) -> Problems:
    """Find misspelt names, which would add a trial, by their missing levels."""
    return [
        (f"trials.{name}", f"must give its levels, since the plan has no {show(name)}{did_you_mean(name, planned)}")
        for name, entry in entries.items()
        if isinstance(entry, dict) and name not in planned and "levels" not in entry
    ]
