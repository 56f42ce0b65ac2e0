"""Chooses torch devices and names them for records and messages."""

import logging
import socket
from pathlib import Path

import torch

from raysweep.errors import ResourceError

logger = logging.getLogger(__name__)

_NVIDIA = "0x10de"
"""NVIDIA's number as a maker of PCI devices."""


def device_with_gpu() -> str:
    """Return the device for work to which Ray gave a GPU.

    On a machine with an NVIDIA GPU it is 'cuda', even if PyTorch cannot use the GPU: that must be an error, not a slow
    training.  A cluster without GPUs may declare some, to be tried out; that work is done on the CPU, with a warning in
    the log.
    """
    if torch.cuda.is_available() or has_nvidia_gpu():
        return "cuda"
    logger.warning(
        "%s: has no NVIDIA GPU, though the cluster declares one; the work is done on the CPU", socket.gethostname()
    )
    return "cpu"


def has_nvidia_gpu() -> bool:
    """Tell whether the machine has a GPU of NVIDIA, whether or not its driver and PyTorch can use it."""
    # Under WSL a GPU is /dev/dxg, and in some containers only the driver's files are visible.
    if any(Path(path).exists() for path in ("/dev/nvidiactl", "/dev/dxg")):
        return True
    return any(path.read_text() == f"{_NVIDIA}\n" for path in Path("/sys/bus/pci/devices").glob("*/vendor"))


def select_device(name: str | None) -> torch.device:
    """Return the device with this name; if None, a GPU if there is one, otherwise the CPU.

    Raises:
        ResourceError: a GPU is named, and PyTorch finds none.
    """
    has_gpu = torch.cuda.is_available()
    device = torch.device(name or ("cuda" if has_gpu else "cpu"))
    if device.type == "cuda" and not has_gpu:
        raise ResourceError(
            f"{socket.gethostname()}: this work is for a GPU, and PyTorch {torch.__version__} finds none; install a "
            "PyTorch for GPUs there, mend the GPU's driver, or use CPUs (resources.gpus_per_trial: 0)"
        )
    return device


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or the type of another device, such as 'cpu'."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
