"""What a run will take on this machine and on others: read from a calibration, or assumed and said to be.

`forecast_run` answers in milliseconds and loads neither torch nor Ray.  A run writes what it expects to
`plan.json` in its folder when it begins (`RunFolder.plan`), so that planned and actual times can be
laid side by side at its end:

    made_at                Unix seconds
    source                 'measured' (a calibration of this machine) or 'assumed' (from data sheets)
    device, gpus, slots    what trials run on; how many at a time (GPUs, or shares of the cores)
    together               trainings that share one GPU, or run at once on a CPU
    expected_wall_s        by stage: prepare, mask, train, evaluate, report; and total
    makespans              a list; the first is this machine's: gpus, slots, makespan_s, lower_bound_s,
                           critical_path_s, gpu_hours, cost (or null)
    gpu_hours, disk_bytes  of all trials
    cost                   {amount, currency} of the trials' GPU-hours or core-hours; null without prices
    trials                 by name: documents, examples, steps, samples, expected_s, start_s, step_s,
                           evaluation_s, checkpoint_s, starts_at_s, ends_at_s (after the train stage's
                           begin), gpus, gpu_hours, disk_bytes

Times of a trial are of all its steps, as if nothing of it were done.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raysweep.config.fingerprints import fingerprint
from raysweep.config.resource_settings import ResourcesConfig
from raysweep.config.schema import Config
from raysweep.planning import forecast
from raysweep.planning.budget import Spent
from raysweep.planning.calibration_cache import read_data, read_overheads, read_rates
from raysweep.planning.devices import Device, find_device
from raysweep.planning.forecast import DataSize, Makespan, TrialForecast
from raysweep.planning.gpu_sharing import GpuSharing, choose_gpu_sharing
from raysweep.planning.measured_overheads import keep_overheads_of
from raysweep.planning.model_size import model_shape
from raysweep.planning.prices import price_of
from raysweep.planning.rates import Overheads, Rates, assumed_rates
from raysweep.scheduling.gpu_specs import is_known
from raysweep.scheduling.order import share_of_gpus
from raysweep.scheduling.trials import Trial
from raysweep.storage.atomic_files import read_json, write_json
from raysweep.storage.run_folder import RunFolder

EFCAMDAT_TOKENS = 75.0
"""Of an example in the mean; what is assumed of a corpus that nobody has looked at."""
BYTES_PER_ROW = 360
"""Of a CSV like EFCAMDAT's."""
ASSUMED_GPU = "A100"
"""What is assumed for GPUs that are not at hand, unless `resources.accelerator_type` says, and for unknown ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunForecast:
    """What the trials will take on one device, and how long they last on so many of it."""

    device: Device
    rates: Rates
    data: DataSize
    packing: GpuSharing
    trials: Mapping[str, TrialForecast]
    makespan: Makespan


def forecast_run(
    config: Config, trials: Mapping[str, Trial], folder: RunFolder, *, gpus: float | None = None
) -> RunForecast:
    """What these trials will take: on this machine, or on so many GPUs, of its kind if it has any.

    Args:
        trials: those to be trained; parents that are not among them are done.
        gpus: instead of what this machine has.
    """
    device = find_device(config)
    if gpus is None and _is_elsewhere(config, device):
        gpus = 1.0
    if gpus is not None and not device.gpus:
        kind = config.resources.accelerator_type or ASSUMED_GPU
        device = replace(device, name=kind, gpus=1, memory_bytes=0)
    rates = read_rates(config, device) or _assumed(config, device)
    rates = replace(rates, overheads=read_overheads(device) or _usual_overheads(config, device))
    packing = choose_gpu_sharing(config.resources, rates, cores=device.cores, on_gpu=device.gpus > 0)
    data = data_size(config, folder)
    needs = {name: _need(config, trial, device, packing) for name, trial in trials.items()}
    found = {
        name: forecast.forecast_trial(
            trial,
            rates,
            data,
            gpus=share_of_gpus(needs[name]),
            slots=share_of_gpus(needs[name]) if device.gpus else 1.0,
            workers=max(1, int(needs[name])),
            together=_together(needs[name], packing, len(trials), on_gpu=device.gpus > 0),
            split_train=config.data.split.train,
        )
        for name, trial in trials.items()
    }
    # A trial that asks for more than there is is refused when it is to start; until then it has its GPUs.
    count = max([float(device.gpus if gpus is None else gpus), *(share_of_gpus(need) for need in needs.values())])
    slots = count if device.gpus else float(packing.together)
    makespan = forecast.forecast_makespan(trials, found, rates, slots=slots, gpus=count)
    return RunForecast(device=device, rates=rates, data=data, packing=packing, trials=found, makespan=makespan)


def settle_trials_per_gpu(config: Config) -> ResourcesConfig:
    """The resources with `trials_per_gpu: auto` replaced by what the last calibration of this machine found."""
    device = find_device(config)
    if config.resources.trials_per_gpu != "auto" or (config.resources.address is not None and not device.gpus):
        return config.resources
    rates = read_rates(config, device)
    packing = choose_gpu_sharing(config.resources, rates, cores=device.cores, on_gpu=device.gpus > 0)
    return config.resources.model_copy(update={"trials_per_gpu": packing.together})


def measure_overheads_of_run(config: Config, folder: RunFolder, trials: Mapping[str, Trial], *, since: float) -> None:
    """Let the next plan on this machine know what starting a trial took in this run, which began at `since`."""
    if config.resources.address is not None:
        return
    seen = forecast_run(config, trials, folder)
    slots, finish_s = max(1, int(seen.makespan.slots)), seen.rates.finish_s
    keep_overheads_of(folder, trials, seen.device, since=since, slots=slots, finish_s=finish_s)


def fits(config: Config, trials: Mapping[str, Trial], gpus: float) -> bool:
    """Whether so many GPUs are enough for the trial that asks for most."""
    asked = [_asked(config, trial) for trial in trials.values()]
    return all(need is None or need <= gpus for need in asked)


def data_size(config: Config, folder: RunFolder) -> DataSize:
    """The corpus as it was prepared, else as a calibration counted it, else as EFCAMDAT is."""
    counted = read_data(config)
    levels = config.data.levels
    tokens = counted.tokens if counted else dict.fromkeys(levels, min(EFCAMDAT_TOKENS, config.masking.max_tokens))
    if folder.splits.exists():
        counts = read_json(folder.splits)["counts"]
        documents = {level: sum(counts.get(level, {}).values()) for level in levels}
        return DataSize(
            tokens=tokens, documents=documents, rows=sum(documents.values()), is_measured=counted is not None
        )
    if counted is not None:
        return counted
    return DataSize(tokens=tokens, documents=_sampled(config), rows=_rows(config), is_measured=False)


def write_plan(config: Config, trials: Mapping[str, Trial], folder: RunFolder) -> dict[str, Any] | None:
    """Write plan.json, unless it stands there for this config already; returns what was written."""
    beside = {"budget", "notify", "report"}
    of_config = fingerprint(json.loads(config.model_dump_json(by_alias=True, exclude=beside)))
    if folder.plan.exists() and read_json(folder.plan)["config"] == of_config:
        return None
    plan = plan_of(config, forecast_run(config, trials, folder))
    write_json(folder.plan, {**plan, "config": of_config})
    return plan


def plan_of(config: Config, here: RunForecast, makespans: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """What plan.json holds; see the module's docstring."""
    stages = forecast.forecast_stages(config, here.rates, here.data, here.makespan, cores=here.device.cores)
    trials = {name: _trial_plan(each, here.makespan) for name, each in here.trials.items()}
    hours = sum(each.expected_s for each in here.trials.values()) / 3600
    gpu_hours = sum(each.gpu_hours for each in here.trials.values())
    return {
        "made_at": time.time(),
        "source": here.rates.source,
        "device": here.device.name,
        "gpus": here.device.gpus,
        "slots": here.makespan.slots,
        "together": here.packing.together,
        "expected_wall_s": {stage: round(each, 2) for stage, each in stages.items()}
        | {"total": round(sum(stages.values()), 2)},
        "makespans": list(makespans if makespans is not None else [makespan_json(config, here)]),
        "gpu_hours": round(gpu_hours, 4),
        "disk_bytes": sum(each.disk_bytes for each in here.trials.values()),
        "cost": price_of(
            config.prices, here.device.name, gpu_hours=gpu_hours, core_hours=hours * config.resources.cpus_per_trial
        ),
        "trials": trials,
    }


def _trial_plan(each: TrialForecast, span: Makespan) -> dict[str, Any]:
    start, end = span.start[each.trial], span.end[each.trial]
    if each.samples == 1:
        # The first trials wait for their processes; that is a part of their own time.
        late = max(0.0, end - start - each.expected_s)
        each = replace(each, expected_s=each.expected_s + late, start_s=each.start_s + late)
    return {**forecast.as_json(each), "starts_at_s": round(start, 2), "ends_at_s": round(end, 2)}


def expected_spending(config: Config, trials: Mapping[str, Trial], folder: RunFolder) -> Spent:
    """What these trainings are expected to take, as the budget counts it.

    Of a cluster whose size is not known here, the longest chain of trials is the wall time: it takes no less.
    """
    here = forecast_run(config, trials, folder)
    hours = sum(each.expected_s for each in here.trials.values()) / 3600
    gpu_hours = sum(each.gpu_hours for each in here.trials.values())
    cores = hours * config.resources.cpus_per_trial
    cost = price_of(config.prices, here.device.name, gpu_hours=gpu_hours, core_hours=cores)
    span = here.makespan
    wall_s = span.critical_path_s if _is_elsewhere(config, find_device(config)) else span.makespan_s
    return Spent(gpu_hours=gpu_hours, wall_hours=wall_s / 3600, cost=cost["amount"] if cost else 0.0)


def makespan_json(config: Config, seen: RunForecast) -> dict[str, Any]:
    """One of `makespans`; its cost is that of all its GPUs (or cores) from the first start to the last end."""
    span = seen.makespan
    hours = span.makespan_s / 3600
    return {
        "gpus": span.gpus,
        "slots": span.slots,
        "device": seen.device.name,
        "source": seen.rates.source,
        "makespan_s": round(span.makespan_s, 2),
        "lower_bound_s": round(span.lower_bound_s, 2),
        "critical_path_s": round(span.critical_path_s, 2),
        "gpu_hours": round(hours * span.gpus, 4),
        "cost": price_of(
            config.prices, seen.device.name, gpu_hours=hours * span.gpus, core_hours=hours * seen.device.cores
        ),
    }


def _assumed(config: Config, device: Device) -> Rates:
    shape = model_shape(config)
    name = device.name if device.name == "cpu" or is_known(device.name) else ASSUMED_GPU
    rates = assumed_rates(name, parameters=shape.parameters, layers=shape.layers, cores=config.resources.cpus_per_trial)
    return replace(rates, device=device.name)


def _usual_overheads(config: Config, device: Device) -> Overheads:
    """Before any was measured here: trainings that share a process start it once (see `resources.train_workers`)."""
    resources = config.resources
    is_shared = resources.train_workers == "shared" or (
        resources.train_workers == "auto" and resources.address is None and not device.gpus
    )
    return Overheads(trial_start_s=1.0, first_trial_start_s=15.0) if is_shared else Overheads()


def _need(config: Config, trial: Trial, device: Device, packing: GpuSharing) -> float:
    """GPUs of one trial."""
    if not device.gpus:
        return 0.0
    asked = _asked(config, trial)
    return 1.0 / packing.together if asked is None else asked


def _is_elsewhere(config: Config, device: Device) -> bool:
    """Whether trials run on GPUs of a cluster that this machine, without any, only drives."""
    resources = config.resources
    return resources.address is not None and not device.gpus and resources.gpus_per_trial != 0


def _asked(config: Config, trial: Trial) -> float | None:
    """GPUs that the config says; None for 'auto'."""
    if trial.settings.gpus is not None:
        return trial.settings.gpus
    asked = config.resources.gpus_per_trial
    return None if asked == "auto" else float(asked)


def _together(need: float, packing: GpuSharing, trials: int, *, on_gpu: bool) -> int:
    if not on_gpu:
        return min(packing.together, trials)
    return min(trials, int(1.0 / need + 1e-9)) if 0.0 < need < 1.0 else 1


def _sampled(config: Config) -> dict[str, int]:
    """Documents of the generated sample, by level; nothing of a CSV that nobody has looked at."""
    shares = config.data.sample.level_shares
    if config.data.csv is not None or shares is None:
        return {}
    total = sum(shares.get(level, 0.0) for level in config.data.levels)
    return {level: round(config.data.sample.rows * shares.get(level, 0.0) / total) for level in config.data.levels}


def _rows(config: Config) -> int:
    if config.data.csv is None:
        return config.data.sample.rows
    csv = Path(config.data.csv).expanduser()
    return csv.stat().st_size // BYTES_PER_ROW if csv.is_file() else 0
