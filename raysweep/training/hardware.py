"""What the device can do: its type of numbers, its peak, its memory, and code compiled for it."""

import resource
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from raysweep.model.gpt2 import hidden_states, parameter_count
from raysweep.scheduling.gpu_specs import find_gpu_spec

_COMPILED_WIDTHS = 8
"""Row lengths that compiled code gets to see at most; padding grows by half of one such length."""


def choose_device(name: str | None) -> torch.device:
    """The device of that name, or a GPU if there is one; float32 products on it may use TF32."""
    device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
    return device


def device_name(device: torch.device) -> str:
    """Of the GPU, or 'cpu'."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """bfloat16 where it is asked for, or where the GPU multiplies it in hardware; None for float32."""
    has_bf16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and has_bf16) else None


def forward_pass(compiled: bool, backend: str | Callable[..., Any] = "inductor") -> Callable[..., Tensor]:
    """`hidden_states`, or a compiled version of it whose code serves rows of all lengths."""
    return torch.compile(hidden_states, dynamic=True, backend=backend) if compiled else hidden_states


def pad_multiple(device: torch.device, compiled: bool, max_tokens: int) -> int:
    """What the length of a row is rounded up to: tensor cores want eights, compiled code wants few lengths."""
    if compiled:
        return 8 * -(-max_tokens // (8 * _COMPILED_WIDTHS))
    return 8 if device.type == "cuda" else 1


def peak_flops(name: str) -> float | None:
    """Operations per second of the GPU of that name; None where they are not known."""
    spec = find_gpu_spec(name)
    return spec.peak_tflops * 1e12 if spec else None


def flops_share(model: GPT2LMHeadModel, tokens_per_second: float, device: torch.device, gpus: int = 1) -> float | None:
    """Operations that real tokens need (forward and twice that backward), as a share of the GPUs' peak: MFU.

    Padding and the attention's square count as nothing, so this is a lower bound.  None where the peak is
    not known: on CPUs, and on GPUs that are not in the table.
    """
    peak = peak_flops(device_name(device))
    # Position embeddings are looked up, not multiplied; the tied token embeddings are multiplied once, at the output.
    multiplied = parameter_count(model) - model.transformer.wpe.weight.numel()
    return 6.0 * multiplied * tokens_per_second / (peak * gpus) if peak else None


def peak_memory(device: torch.device) -> int:
    """Bytes: the GPU's, as torch allocated them, or this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory_share(device: torch.device) -> float:
    """Share of the GPU's memory within this process's reach that it took at its peak, since `forget_peak`."""
    free, _ = torch.cuda.mem_get_info(device)
    return torch.cuda.max_memory_reserved(device) / (free + torch.cuda.memory_reserved(device))


def forget_peak(device: torch.device) -> None:
    """Give unused memory back and measure peaks from here on; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def wait_for(device: torch.device) -> None:
    """Until the GPU has done what it was given; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
