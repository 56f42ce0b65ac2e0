"""Forecasts what a run will take, on this machine and on others, from a calibration or from assumed rates.

`forecast_run` reads the machine, the cache and the run folder once; everything else is a pure function of those.
It answers in milliseconds and loads neither torch nor Ray.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raysweep.config.resource_settings import ResourcesConfig
from raysweep.config.schema import Config
from raysweep.errors import InputError
from raysweep.planning.budget import Spent, price_of
from raysweep.planning.calibration_cache import read_data, read_overheads, read_rates
from raysweep.planning.devices import Device, find_device
from raysweep.planning.forecast import Makespan, TrialForecast, forecast_makespan, forecast_trial
from raysweep.planning.gpu_sharing import GpuSharing, choose_gpu_sharing
from raysweep.planning.model_size import model_shape
from raysweep.planning.rates import ASSUMED_GPU, DataSize, Overheads, Rates, assumed_rates
from raysweep.readers.locations import local_files
from raysweep.scheduling.capacity import ResourceRequest, gpus_of_trial, shares_process
from raysweep.scheduling.order import share_of_gpus
from raysweep.scheduling.trials import Trial
from raysweep.storage.atomic_files import read_json
from raysweep.storage.run_folder import RunFolder

EFCAMDAT_TOKENS = 75.0
"""Mean number of tokens in an example; assumed for a corpus that no calibration has read."""
BYTES_PER_ROW = 360
"""Bytes per row of a CSV like EFCAMDAT's."""
_SHARED = Overheads(trial_start_s=1.0, first_trial_start_s=15.0)
_SHARED_ON_GPU = Overheads(trial_start_s=1.0, first_trial_start_s=20.0)
_OWN_ON_GPU = Overheads(trial_start_s=30.0, first_trial_start_s=35.0)
"""Starts on an H100: 23 s for a first training with its steps, 29 to 35 s with its own workers (BENCHMARKS.md)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunForecast:
    """What trials will take on one device, and how long they last on a number of devices."""

    config: Config
    device: Device
    is_elsewhere: bool
    """Whether the trials run on a cluster whose number of GPUs is not known here."""
    gpus: float
    """GPUs that exist, or that are assumed."""
    rates: Rates
    data: DataSize
    sharing: GpuSharing
    trials: Mapping[str, TrialForecast]
    makespan: Makespan

    def of(self, trials: Mapping[str, Trial]) -> "RunForecast":
        """Forecast these trials on the same device; parents that are not among them are done."""
        resources, gpus, together = self.config.resources, self.device.gpus, self.sharing.together
        on_gpu = gpus > 0
        needs = {
            name: gpus_of_trial(resources, trial.settings.gpus, gpus=gpus, together=together) if on_gpu else 0.0
            for name, trial in trials.items()
        }
        forecasts = {
            name: forecast_trial(
                trial,
                self.rates,
                self.data,
                gpus=needs[name],
                together=min(len(trials), _together(needs[name]) if on_gpu else together),
                split_train=self.config.data.split.train,
            )
            for name, trial in trials.items()
        }
        # A trial that requests more GPUs than exist is refused when the run starts, but a plan is still made for it.
        count = max([self.gpus, *(share_of_gpus(need) for need in needs.values())])
        slots = count if on_gpu else float(together)
        makespan = forecast_makespan(trials, forecasts, self.rates, slots=slots, gpus=count)
        return replace(self, trials=forecasts, makespan=makespan)

    @property
    def gpu_hours(self) -> float:
        """GPU-hours of the trials' own time, without idle GPUs."""
        return sum(trial.gpu_hours for trial in self.trials.values())

    @property
    def cost(self) -> dict[str, Any] | None:
        """Amount and currency for the trials' own time; None without prices."""
        hours = sum(trial.expected_s for trial in self.trials.values()) / 3600
        core_hours = hours * self.config.resources.cpus_per_trial
        return price_of(self.config.prices, self.device.name, gpu_hours=self.gpu_hours, core_hours=core_hours)

    @property
    def spending(self) -> Spent:
        """What the trials are expected to use, as the budget counts it.

        On a cluster of unknown size, the wall-clock time is that of the longest chain of trials, the minimum.
        """
        wall_s = self.makespan.critical_path_s if self.is_elsewhere else self.makespan.makespan_s
        amount = self.cost["amount"] if self.cost else 0.0
        return Spent(gpu_hours=self.gpu_hours, wall_hours=wall_s / 3600, cost=amount)


def forecast_run(
    config: Config, trials: Mapping[str, Trial], folder: RunFolder, *, gpus: float | None = None
) -> RunForecast:
    """Forecast these trials on this machine, or on a number of GPUs, of this machine's kind if it has any.

    Args:
        trials: the trials to be trained; parents that are not among them are done.
        gpus: number of GPUs to assume instead of this machine's.
    """
    resources, device = config.resources, find_device(config)
    is_elsewhere = resources.cluster_address is not None and not device.gpus and resources.gpus_per_trial != 0
    if gpus is None:
        gpus = 1.0 if is_elsewhere else float(device.gpus)
    if gpus and not device.gpus:
        device = replace(device, name=resources.accelerator_type or ASSUMED_GPU, gpus=1, memory_bytes=0)
    rates = _rates(config, device, folder)
    rates = replace(rates, overheads=read_overheads(device) or _usual_overheads(resources, trials, device))
    sharing = choose_gpu_sharing(resources, rates, cores=device.cores, on_gpu=device.gpus > 0)
    return RunForecast(
        config=config,
        device=device,
        is_elsewhere=is_elsewhere,
        gpus=gpus,
        rates=rates,
        data=data_size(config, folder),
        sharing=sharing,
        trials={},
        makespan=forecast_makespan({}, {}, rates, slots=1.0, gpus=gpus),
    ).of(trials)


def settle_trials_per_gpu(config: Config) -> ResourcesConfig:
    """Replace `trials_per_gpu: auto` by the result of this machine's last calibration."""
    resources, device = config.resources, find_device(config)
    if resources.trials_per_gpu != "auto" or (resources.cluster_address is not None and not device.gpus):
        return resources
    sharing = choose_gpu_sharing(resources, _rates(config, device), cores=device.cores, on_gpu=device.gpus > 0)
    return resources.model_copy(update={"trials_per_gpu": sharing.together})


def data_size(config: Config, folder: RunFolder) -> DataSize:
    """Return the size of the corpus as prepared, or as calibrated, or like EFCAMDAT's; with further corpora."""
    return replace(_own_size(config, folder), further=sum(_further(config, folder, name) for name in config.corpora))


def _further(config: Config, folder: RunFolder, name: str) -> int:
    """Return the number of documents of a further corpus as prepared, or as estimated from the size of its files."""
    if counts := _prepared(folder.further(name)):
        return sum(count["test"] for count in counts.values())
    return _bytes_of(config.corpora[name].path) // BYTES_PER_ROW


def _own_size(config: Config, folder: RunFolder) -> DataSize:
    counted, levels = read_data(config), config.data.levels
    tokens = counted.tokens if counted else dict.fromkeys(levels, min(EFCAMDAT_TOKENS, config.masking.max_tokens))
    if counts := _prepared(folder):
        documents = {level: sum(counts.get(level, {}).values()) for level in levels}
        return DataSize(tokens=tokens, documents=documents, rows=sum(documents.values()))
    if counted:
        return counted
    path = config.data.path
    rows = config.data.sample.rows if path is None else _bytes_of(path) // BYTES_PER_ROW
    return DataSize(tokens=tokens, documents=_sampled(config), rows=rows)


def _prepared(folder: RunFolder) -> dict[str, dict[str, int]]:
    """Read the documents by level and split of a prepared corpus; {} if it is not prepared or the file is damaged."""
    if not folder.splits.exists():
        return {}
    try:
        counts: dict[str, dict[str, int]] = read_json(folder.splits)["counts"]
    except InputError:
        return {}  # a run refuses the damaged file and names it; a forecast works without it
    return counts


def _rates(config: Config, device: Device, folder: RunFolder | None = None) -> Rates:
    if rates := read_rates(config, device):
        return rates
    shape, cores = model_shape(config, folder), config.resources.cpus_per_trial
    return assumed_rates(device.name, parameters=shape.parameters, layers=shape.layers, cores=cores)


def _usual_overheads(resources: ResourcesConfig, trials: Mapping[str, Trial], device: Device) -> Overheads:
    """Return typical overheads before a measurement; trainings that share a process start it once (`shares_process`).

    If one trial needs its own process, all are counted as if they did.
    """
    owns = {trial.settings.gpus for trial in trials.values()} or {None}
    needs = [gpus_of_trial(resources, own, gpus=device.gpus) for own in owns]
    if all(shares_process(resources, ResourceRequest(cpus=1, gpus=need)) for need in needs):
        return _SHARED_ON_GPU if any(needs) else _SHARED
    return _OWN_ON_GPU if any(needs) else Overheads()


def _together(gpus: float) -> int:
    """Return how many trainings that request this part of a GPU fit on one."""
    return round(1.0 / share_of_gpus(gpus)) if 0.0 < gpus < 1.0 else 1


def _sampled(config: Config) -> dict[str, int]:
    """Return the generated sample's documents by level; {} for a corpus that was not read."""
    shares = config.data.sample.level_shares
    if config.data.path is not None or shares is None:
        return {}
    total = sum(shares.get(level, 0.0) for level in config.data.levels)
    return {level: round(config.data.sample.rows * shares.get(level, 0.0) / total) for level in config.data.levels}


def _bytes_of(path: str | Sequence[str]) -> int:
    return sum(file.stat().st_size for file in local_files(path))
