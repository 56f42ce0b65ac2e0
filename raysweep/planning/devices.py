"""What this machine has, found without loading torch: GPUs as the driver lists them, cores, memory."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from raysweep.config.schema import Config
from raysweep.errors import InputError
from raysweep.scheduling.gpu_specs import GIB, MEMORY_GIB, gpu_kind

DRIVER = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """What trainings run on."""

    name: str
    """'cpu', or the GPU's full name."""
    gpus: int
    cores: int
    memory_bytes: int
    """Of one GPU; on a CPU the machine's."""

    @property
    def kind(self) -> str:
        """'cpu' or 'gpu'."""
        return "gpu" if self.gpus else "cpu"

    @property
    def torch_name(self) -> str:
        """What torch calls it."""
        return "cuda" if self.gpus else "cpu"

    @property
    def key(self) -> str:
        """Tells machines apart in the cache."""
        return f"{platform.node()}, {self.name}, {self.cores} cores"


def find_device(config: Config) -> Device:
    """What trials of this config run on, on this machine."""
    cores, names = _cores(), _gpu_names(DRIVER)
    if config.resources.gpus_per_trial == 0 or not names:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return Device(name="cpu", gpus=0, cores=cores, memory_bytes=memory)
    return Device(name=names[0], gpus=len(names), cores=cores, memory_bytes=_gpu_memory(names[0]))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpu_names(driver: Path) -> list[str]:
    """The GPUs that a process may use, by name; CUDA_VISIBLE_DEVICES may hide some."""
    notes = sorted(driver.glob("*/information")) if driver.is_dir() else []
    names = []
    for note in notes:
        for line in note.read_text(encoding="utf-8").splitlines():
            if line.startswith("Model:"):
                names.append(line.partition(":")[2].strip())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return names
    shown = [each for each in visible.split(",") if each.strip() not in ("", "-1")]
    return names[: len(shown)]


def _gpu_memory(name: str) -> int:
    try:
        kind = gpu_kind(name)
    except InputError:
        return 0
    return MEMORY_GIB[kind] * GIB if kind else 0
