"""What the trainings cost and how they went, read from the trials' records, metrics and models.

Hours are wall time of all attempts, times the GPUs that a trial asked for where it ran on GPUs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from raysweep.config.schema import Config
from raysweep.evidence.inputs import model_bytes
from raysweep.evidence.lineup import Entrant
from raysweep.scheduling.records import TrialRecord
from raysweep.scheduling.trials import Trial
from raysweep.storage.atomic_files import read_json
from raysweep.storage.run_folder import RunFolder
from raysweep.training.metrics import read_metrics

CURVE_POINTS = 120
Values = dict[str, Any]


def describe_trials(
    folder: RunFolder, config: Config, trials: Mapping[str, Trial], records: Mapping[str, TrialRecord | None]
) -> list[Values]:
    """A row per trial, in the config's order, what was not trained included."""
    return [_describe(folder, config, trial, records[name]) for name, trial in trials.items()]


def read_curves(folder: RunFolder, trials: Mapping[str, Trial], metric: str) -> list[Values]:
    """Per trial: training loss and validation loss by step, thinned to what a plot can show."""
    return [curve for name in trials if (curve := _curve(folder, name, metric)) is not None]


def cost_of(strategy: Values, entrants: Sequence[Entrant], rows: Sequence[Values]) -> Values:
    """Models to keep, their bytes, and hours of training, parents included; None where unknown.

    Entries with several seeds cost one seed: the others are there for the statistics.
    """
    by_trial = {row["trial"]: row for row in rows}
    kept = [_first_trial(entrants, entry) for entry in strategy["entries"]]
    chosen = [by_trial[trial] for trial in kept if trial in by_trial]
    needed: dict[str, Values] = {}
    for row in chosen:
        ancestor: Values | None = row
        while ancestor is not None and ancestor["trial"] not in needed:
            needed[ancestor["trial"]] = ancestor
            ancestor = by_trial.get(ancestor["parent"] or "")
    return {
        "models": len(chosen),
        "trainings": len(needed),
        "bytes": _total(row["bytes"] for row in chosen),
        "parameters": _total(row["parameters"] for row in chosen),
        "hours": _total(row["hours"] for row in needed.values()),
    }


def _first_trial(entrants: Sequence[Entrant], entry: str) -> str:
    entrant = next(one for one in entrants if one.name == entry)
    return next(iter(entrant.models.values()))


def _total(values: Any) -> Any:
    found = list(values)
    return None if any(value is None for value in found) else sum(found)


def _describe(folder: RunFolder, config: Config, trial: Trial, record: TrialRecord | None) -> Values:
    result = dict(record.result) if record else {}
    device = result.get("device")
    gpus = _gpus(config, trial) if device and not device.startswith("cpu") else 0.0
    return {
        "trial": trial.name,
        "entry": trial.entry,
        "seed": trial.seed,
        "parent": trial.parent,
        "levels": list(trial.settings.levels),
        "state": str(record.state) if record else "pending",
        "reason": record.reason if record else "",
        "attempts": record.attempts if record else 0,
        "steps": result.get("steps"),
        "steps_asked": trial.settings.steps,
        "stopped": result.get("stopped", ""),
        "best_step": result.get("best_step"),
        "best_losses": result.get("best_losses", {}),
        "examples": result.get("examples"),
        "tokens": result.get("tokens"),
        "padding_share": result.get("padding_share"),
        "device": device,
        "hours": record.busy_seconds / 3600 * (gpus or 1.0) if record and result else None,
        "hours_of": "GPU" if gpus else "CPU",
        "parameters": result.get("parameters"),
        "peak_memory_bytes": result.get("peak_memory_bytes"),
        "bytes": model_bytes(folder.trial(trial.name)),
        "ended_at": record.ended_at if record else None,
    }


def _gpus(config: Config, trial: Trial) -> float:
    asked = trial.settings.gpus if trial.settings.gpus is not None else config.resources.gpus_per_trial
    return 1.0 if asked == "auto" else float(asked)


def _curve(folder: RunFolder, name: str, metric: str) -> Values | None:
    lines = read_metrics(folder.trial(name).metrics)
    steps = [(line["step"], line[metric]) for line in lines if line["kind"] == "step" and metric in line]
    valid = [(line["step"], line[metric]) for line in lines if line["kind"] == "evaluation" and metric in line]
    if not steps and not valid:
        return None
    return {"trial": name, "train": _thin(steps), "valid": _thin(valid)}


def _thin(points: Sequence[tuple[int, float]]) -> list[list[float]]:
    """At most `CURVE_POINTS` means of neighbouring points, each at its last step; the last point is kept."""
    width = -(-len(points) // CURVE_POINTS)
    groups = [points[first : first + width] for first in range(0, len(points), width)] if width else []
    return [[group[-1][0], sum(value for _, value in group) / len(group)] for group in groups]


def read_if_there(path: Any) -> Any:
    """A JSON record, or None where the stage did not write one."""
    return read_json(path) if path.exists() else None
