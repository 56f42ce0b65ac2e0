"""Chooses torch devices and names them for records and messages."""

import torch


def select_device(name: str | None) -> torch.device:
    """Return the device with this name; if None, a GPU if there is one, otherwise the CPU."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or the type of another device, such as 'cpu'."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
