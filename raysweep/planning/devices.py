"""Finds this machine's GPUs (as listed by the driver), cores and memory, without loading torch."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from raysweep.config.schema import Config
from raysweep.scheduling.gpu_specs import GIB, find_gpu_spec

DRIVER = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """The device on which trainings run."""

    name: str
    """'cpu', or the GPU's full name."""
    gpus: int
    cores: int
    memory_bytes: int
    """Memory of one GPU, 0 if unknown; on a CPU the machine's memory."""

    @property
    def torch_name(self) -> str:
        return "cuda" if self.gpus else "cpu"

    @property
    def key(self) -> str:
        """Identifies the machine and device in the cache."""
        return f"{platform.node()}, {self.name}, {self.cores} cores"


def find_device(config: Config) -> Device:
    """Find the device on which trials of this config run on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    names = [] if config.resources.gpus_per_trial == 0 else _gpu_names(DRIVER)
    if not names:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return Device(name="cpu", gpus=0, cores=cores, memory_bytes=memory)
    spec = find_gpu_spec(names[0])
    return Device(name=names[0], gpus=len(names), cores=cores, memory_bytes=spec.memory_gib * GIB if spec else 0)


def _gpu_names(driver: Path) -> list[str]:
    """List the names of the GPUs that a process may use; CUDA_VISIBLE_DEVICES may hide some."""
    lines = [line for file in sorted(driver.glob("*/information")) for line in file.read_text("utf-8").splitlines()]
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return names
    return names[: len([device for device in visible.split(",") if device.strip() not in ("", "-1")])]
