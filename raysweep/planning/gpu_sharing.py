"""Chooses how many trainings share one GPU, or run at once on the cores, from a calibration's measurements.

The number grows as long as the trainings fit the GPU's memory, with a margin, and together do clearly more
work than fewer would.  Numbers that were not measured are not considered.
"""

from dataclasses import dataclass

from raysweep.config.resource_settings import ResourcesConfig
from raysweep.planning.rates import Rates
from raysweep.scheduling.gpu_specs import GIB

MARGIN = 0.10
"""Fraction of device memory kept free: batches of long examples come late, and an evaluation needs extra memory."""
PAYS = 1.10
"""Minimum throughput of a larger number, relative to the smaller number chosen before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuSharing:
    """The number of simultaneous trainings, and the reason for it."""

    together: int
    """Per GPU; on a CPU, for the whole machine."""
    reason: str


def choose_gpu_sharing(resources: ResourcesConfig, rates: Rates, *, cores: int, on_gpu: bool) -> GpuSharing:
    """Choose how many trainings share a GPU (or the cores), as configured or as measured.

    Args:
        rates: of the device; if they are assumed, no GPU is shared.
    """
    configured = resources.trials_per_gpu
    if not on_gpu:
        return _on_cores(resources, rates, cores)
    if configured != "auto":
        return GpuSharing(together=configured, reason=f"resources.trials_per_gpu: {configured}")
    if resources.gpus_per_trial != "auto":
        return GpuSharing(together=1, reason=f"resources.gpus_per_trial: {resources.gpus_per_trial:g}")
    if rates.source != "measured":
        return GpuSharing(together=1, reason="not measured; `raysweep plan --calibrate` finds out what fits and pays")
    return _choose_by_throughput(rates)


def _choose_by_throughput(rates: Rates) -> GpuSharing:
    fitting = _count_fitting(rates)
    best, speed, reason = 1, 1.0, "nothing more was measured"
    for count, slow_down in sorted(rates.slow_down.items()):
        if count == 1:
            continue
        if count > fitting:
            needed, memory = count * rates.memory_bytes / GIB, rates.device_memory_bytes / GIB
            reason = f"{count} need {needed:.1f} GiB of {memory:.1f}"
            break
        gain = count / slow_down
        reason = f"{count} together do {gain:.2f} times the work of one"
        if gain >= PAYS * speed:
            best, speed = count, gain
    return GpuSharing(together=best, reason=reason)


def _on_cores(resources: ResourcesConfig, rates: Rates, cores: int) -> GpuSharing:
    slots, configured = max(1, cores // resources.cpus_per_trial), resources.trials_per_gpu
    if configured != "auto" and configured < slots:
        return GpuSharing(together=configured, reason=f"resources.trials_per_gpu: {configured}")
    if rates.source == "measured" and (fitting := _count_fitting(rates)) < slots:
        return GpuSharing(together=fitting, reason=f"the memory is enough for {fitting}")
    return GpuSharing(together=slots, reason=f"{cores} cores, {resources.cpus_per_trial} for each trial")


def _count_fitting(rates: Rates) -> int:
    """Return how many fit the device's memory with a margin; 1 if memory is unknown or too small even for one."""
    if not rates.memory_bytes or not rates.device_memory_bytes:
        return 1
    return max(1, int((1.0 - MARGIN) * rates.device_memory_bytes / rates.memory_bytes))
