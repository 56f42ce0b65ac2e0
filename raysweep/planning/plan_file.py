"""Writes the forecast of a run to `plan.json` in its folder, to compare it with what the run took.

    made_at                Unix seconds
    is_upper_bound         whether seeds are sequential: all are counted, and fewer may be trained
    source                 'measured' (a calibration of this machine) or 'assumed' (from data sheets)
    device, gpus, slots    what trials run on; number of simultaneous trials (GPUs, or shares of the cores)
    together               trainings that share one GPU, or run at once on a CPU
    expected_wall_s        by stage: prepare, mask, train, evaluate, classify (if configured), report; and total
    makespans              a list; the first is this machine's: gpus, slots, makespan_s, lower_bound_s,
                           critical_path_s, gpu_hours, cost (or null)
    gpu_hours, disk_bytes  of all trials
    cost                   {amount, currency} of the trials' GPU-hours or core-hours; null without prices
    trials                 by name: documents, examples, steps, samples, expected_s, start_s, step_s,
                           evaluation_s, checkpoint_s, starts_at_s, ends_at_s (from the start of the train
                           stage), gpus, gpu_hours, disk_bytes, written_bytes (with deleted checkpoints)

A trial's times cover all its steps, as if none were done.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from raysweep.config.fingerprints import fingerprint
from raysweep.planning.budget import price_of
from raysweep.planning.forecast import Makespan, TrialForecast, forecast_stages
from raysweep.planning.run_forecast import RunForecast
from raysweep.planning.written_plan import read_plan
from raysweep.storage.digests import write_sealed
from raysweep.storage.run_folder import RunFolder

_WITHOUT_EFFECT = {"budget", "notify", "report", "track"}
"""Sections of the config that do not change the forecast."""


def write_plan(forecast: RunForecast, folder: RunFolder) -> dict[str, Any] | None:
    """Write plan.json, unless it exists for this config already; return what was written."""
    settings = forecast.config.model_dump_json(by_alias=True, exclude=_WITHOUT_EFFECT)
    config = fingerprint(json.loads(settings))
    if (written := read_plan(folder)) is not None and written["config"] == config:
        return None
    plan = plan_of(forecast)
    write_sealed(folder.plan, {**plan, "config": config})
    return plan


def plan_of(forecast: RunForecast, makespans: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the contents of plan.json, with `makespans` for other numbers of GPUs."""
    device, span = forecast.device, forecast.makespan
    stages = forecast_stages(forecast.config, forecast.rates, forecast.data, span, cores=device.cores)
    return {
        "made_at": time.time(),
        "is_upper_bound": forecast.config.sequential_seeds is not None,
        "source": forecast.rates.source,
        "device": device.name,
        "gpus": device.gpus,
        "slots": span.slots,
        "together": forecast.sharing.together,
        "expected_wall_s": {stage: round(seconds, 2) for stage, seconds in stages.items()}
        | {"total": round(sum(stages.values()), 2)},
        "makespans": [makespan_json(forecast), *makespans],
        "gpu_hours": round(forecast.gpu_hours, 4),
        "disk_bytes": sum(trial.disk_bytes for trial in forecast.trials.values()),
        "cost": forecast.cost,
        "trials": {name: _trial_plan(trial, span) for name, trial in forecast.trials.items()},
    }


def makespan_json(forecast: RunForecast) -> dict[str, Any]:
    """Return one of `makespans`; its cost is that of all GPUs (or cores) from the first start to the last end."""
    span, device = forecast.makespan, forecast.device
    hours = span.makespan_s / 3600
    gpu_hours, core_hours = hours * span.gpus, hours * device.cores
    return {
        "gpus": span.gpus,
        "slots": span.slots,
        "device": device.name,
        "source": forecast.rates.source,
        "makespan_s": round(span.makespan_s, 2),
        "lower_bound_s": round(span.lower_bound_s, 2),
        "critical_path_s": round(span.critical_path_s, 2),
        "gpu_hours": round(gpu_hours, 4),
        "cost": price_of(forecast.config.prices, device.name, gpu_hours=gpu_hours, core_hours=core_hours),
    }


def trial_json(trial: TrialForecast) -> dict[str, Any]:
    """Convert a forecast to plain values, with seconds rounded to milliseconds."""
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(trial).items()}
    return {**rounded, "gpu_hours": round(trial.gpu_hours, 4)}


def _trial_plan(trial: TrialForecast, span: Makespan) -> dict[str, Any]:
    start, end = span.start[trial.trial], span.end[trial.trial]
    if trial.samples == 1:
        # The first trials wait for their processes, which counts as part of their own time.
        late = max(0.0, end - start - trial.expected_s)
        trial = replace(trial, expected_s=trial.expected_s + late, start_s=trial.start_s + late)
    return {**trial_json(trial), "starts_at_s": round(start, 2), "ends_at_s": round(end, 2)}
