"""Describes how the trainings went and what they cost, from the trials' records, metrics and models.

Hours are those of the ledger: the GPUs, or cores, that the trial held according to the scheduler.
So a trial that shares a GPU with three others counts a quarter of it, and a search counts its samples, but not the time
for which they waited for each other.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from raysweep.config.training_settings import SearchConfig, SearchRange
from raysweep.evidence.inputs import model_bytes, read_if_there
from raysweep.evidence.published import published_reason
from raysweep.evidence.run_schema import Curve, SearchSample, SearchTried, Training
from raysweep.scheduling.records import TrialRecord
from raysweep.scheduling.trials import Trial
from raysweep.storage.run_folder import RunFolder
from raysweep.training.metrics import read_metrics

CURVE_POINTS = 120
_ALL_POINTS = 5000
"""Maximum number of points of all training losses together, and of all validation losses, unless that leaves fewer than
`_LEAST_POINTS` per curve: with hundreds of trainings they would make up most of evidence.json."""
_LEAST_POINTS = 12
_CURVES = ("step", "evaluation")
"""The kinds of metric lines that make the curves of the training and of the validation loss."""


def describe_trials(
    folder: RunFolder, trials: Mapping[str, Trial], records: Mapping[str, TrialRecord | None]
) -> tuple[Training, ...]:
    """Return a row per trial, in the config's order, including trials that were not trained."""
    entries = (read_if_there(folder.ledger) or {}).get("trials", {})
    return tuple(_describe(folder, trial, records[name], entries.get(name)) for name, trial in trials.items())


def read_curves(folder: RunFolder, trials: Mapping[str, Trial], metric: str) -> tuple[Curve, ...]:
    """Read, per trial, training and validation loss by step, thinned to what a plot can show."""
    most = min(CURVE_POINTS, max(_LEAST_POINTS, _ALL_POINTS // max(len(trials), 1)))
    return tuple(curve for name in trials if (curve := _curve(folder, name, metric, most)) is not None)


def _describe(folder: RunFolder, trial: Trial, record: TrialRecord | None, entry: Mapping[str, Any] | None) -> Training:
    result = dict(record.result) if record else {}
    step_seconds = result.get("seconds", {}).get("step")
    search = trial.settings.search
    return Training(
        trial=trial.name,
        entry=trial.entry,
        seed=trial.seed,
        parent=trial.parent,
        levels=trial.settings.levels,
        state=str(record.state) if record else "pending",
        reason=published_reason(record) if record else "",
        attempts=record.attempts if record else 0,
        steps=result.get("steps"),
        steps_asked=trial.settings.steps,
        stopped=result.get("stopped", ""),
        best_step=result.get("best_step"),
        best_losses=result.get("best_losses", {}),
        examples=result.get("examples"),
        tokens=result.get("tokens"),
        padding_share=result.get("padding_share"),
        device=result.get("device"),
        hours=sum(entry["seconds"].values()) / 3600 if entry else None,
        hours_of="GPU" if entry and entry["unit"] == "gpu" else "CPU",
        step_seconds=step_seconds * entry["slots"] if entry and step_seconds is not None else None,
        tokens_tried=_tokens_tried(result),
        search=_describe_search(search, result["search"]) if search and "search" in result else None,
        parameters=result.get("parameters"),
        peak_memory_bytes=result.get("peak_memory_bytes"),
        bytes=model_bytes(folder.trial(trial.name)),
        ended_at=record.ended_at if record else None,
    )


def _tokens_tried(result: Mapping[str, Any]) -> int | None:
    """Count the tokens of every sample of the search; a stopped one had as many per step as the chosen one."""
    tokens: int | None = result.get("tokens")
    steps = result.get("steps")
    if "search" not in result or not tokens or not steps:
        return tokens
    tried = result["search"]["tried"]
    return sum(int(sample.get("tokens") or tokens / steps * (sample["stopped_at"] or 0)) for sample in tried)


def _describe_search(search: SearchConfig, chosen: Mapping[str, Any]) -> SearchTried:
    return SearchTried(
        metric=search.metric,
        space={name: _range_said(values) for name, values in search.space.items()},
        winner=chosen["sample"],
        samples=tuple(
            SearchSample(**{name: sample[name] for name in SearchSample.model_fields}) for sample in chosen["tried"]
        ),
    )


def _range_said(values: SearchRange) -> str:
    if values.choices is not None:
        return ", ".join(map(str, values.choices))
    return f"{values.low:g} to {values.high:g}{', logarithmic' if values.log else ''}"


def _curve(folder: RunFolder, name: str, metric: str, most: int) -> Curve | None:
    lines = [line for line in read_metrics(folder.trial(name).metrics) if metric in line]
    if not any(line["kind"] in _CURVES for line in lines):
        return None
    train, valid = (_thin([line for line in lines if line["kind"] == kind], metric, most) for kind in _CURVES)
    return Curve(trial=name, train=train, valid=valid)


def _thin(lines: Sequence[Mapping[str, Any]], metric: str, most: int) -> tuple[tuple[int, float], ...]:
    """Return at most `most` means over neighbouring lines, each at its last step; the last line is kept."""
    width = -(-len(lines) // most)
    groups = [lines[first : first + width] for first in range(0, len(lines), width)] if width else []
    return tuple((group[-1]["step"], sum([line[metric] for line in group]) / len(group)) for group in groups)
