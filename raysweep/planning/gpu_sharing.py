"""How many trainings share one GPU, or run at once on the cores: pure, over what a calibration measured.

More of them are packed as long as they fit the memory, with a margin, and pay: together they must get
through clearly more work than fewer would.  What was not measured is not tried.
"""

from dataclasses import dataclass

from raysweep.config.resource_settings import ResourcesConfig
from raysweep.planning.rates import Rates
from raysweep.scheduling.gpu_specs import GIB

MARGIN = 0.10
"""Of the memory stays free: batches of long examples come late, and an evaluation needs room of its own."""
PAYS = 1.10
"""Throughput that each larger packing must have over the smaller one chosen before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuSharing:
    """How many, and why."""

    together: int
    """On one GPU; on a CPU, on the whole machine."""
    reason: str


def choose_gpu_sharing(resources: ResourcesConfig, rates: Rates | None, *, cores: int, on_gpu: bool) -> GpuSharing:
    """How many trainings share a GPU (or the cores), as asked for or as measured.

    Args:
        rates: of the device; None or assumed ones pack nothing on a GPU.
        cores: of the machine.
    """
    if not on_gpu:
        return _on_cores(resources, rates, cores)
    if resources.trials_per_gpu != "auto":
        return GpuSharing(
            together=resources.trials_per_gpu, reason=f"resources.trials_per_gpu: {resources.trials_per_gpu}"
        )
    if resources.gpus_per_trial != "auto":
        return GpuSharing(together=1, reason=f"resources.gpus_per_trial: {resources.gpus_per_trial:g}")
    if rates is None or rates.source != "measured":
        return GpuSharing(together=1, reason="not measured; `raysweep plan --calibrate` finds out what fits and pays")
    return _what_fits_and_pays(rates)


def _what_fits_and_pays(rates: Rates) -> GpuSharing:
    fitting = fitting_together(rates)
    best, speed, why = 1, 1.0, "nothing more was measured"
    for count, slow_down in sorted(rates.slow_down.items()):
        if count == 1:
            continue
        if count > fitting:
            why = f"{count} need {count * rates.memory_bytes / GIB:.1f} GiB of {rates.device_memory_bytes / GIB:.1f}"
            break
        gain = count / slow_down
        if gain < PAYS * speed:
            why = f"{count} together do {gain:.2f} times the work of one"
            continue
        best, speed, why = count, gain, f"{count} together do {gain:.2f} times the work of one"
    return GpuSharing(together=best, reason=why)


def fitting_together(rates: Rates) -> int:
    """How many fit the device's memory with a margin; at least one, since nobody knows until it was tried."""
    if not rates.memory_bytes or not rates.device_memory_bytes:
        return 1
    return max(1, int((1.0 - MARGIN) * rates.device_memory_bytes / rates.memory_bytes))


def _on_cores(resources: ResourcesConfig, rates: Rates | None, cores: int) -> GpuSharing:
    slots = max(1, cores // resources.cpus_per_trial)
    if resources.trials_per_gpu != "auto" and resources.trials_per_gpu < slots:
        return GpuSharing(
            together=resources.trials_per_gpu, reason=f"resources.trials_per_gpu: {resources.trials_per_gpu}"
        )
    if rates is not None and rates.source == "measured" and (fitting := fitting_together(rates)) < slots:
        return GpuSharing(together=fitting, reason=f"the memory is enough for {fitting}")
    return GpuSharing(together=slots, reason=f"{cores} cores, {resources.cpus_per_trial} for each trial")
