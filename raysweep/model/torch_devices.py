"""Chooses torch devices and names them for records and messages."""

import socket

import torch

from raysweep.errors import ResourceError


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
