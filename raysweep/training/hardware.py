"""Properties of the device: number type, peak speed, memory, compiled code."""

import math
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import GPT2LMHeadModel

from raysweep.config.training_settings import ONEDNN, describe_no_onednn
from raysweep.model.cpu_products import has_onednn
from raysweep.model.gpt2 import hidden_states, parameter_count
from raysweep.model.token_losses import (
    PLAIN,
    Kernels,
    cross_entropy_gradient_on_gpu,
    cross_entropy_gradient_to_compile,
)
from raysweep.model.torch_devices import device_name, select_device
from raysweep.scheduling.gpu_specs import find_gpu_spec


def choose_device(name: str | None) -> torch.device:
    """Return the named device, by default a GPU if there is one; its float32 products may use TF32."""
    device = select_device(name)
    if device.type == "cuda":
        # `set_device` refuses a device without an index.
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
    return device


def has_tf32(device: torch.device) -> bool:
    """Tell whether float32 products on the device use TF32: on Ampere and later GPUs, unless disabled in torch."""
    is_capable = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return is_capable and torch.get_float32_matmul_precision() != "highest"


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """Return bfloat16 if requested, or for 'auto' if the GPU supports it in hardware; None for float32."""
    has_bf16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and has_bf16) else None


def refuse_onednn(precision: str, device: torch.device) -> str:
    """Say why the device does not support the precision 'fp32_onednn', with the fix; '' if it does, or for others."""
    if precision != ONEDNN or (device.type == "cpu" and has_onednn()):
        return ""
    if device.type != "cpu":
        return describe_no_onednn(device_name(device), is_gpu=True)
    capability = torch.backends.cpu.get_cpu_capability()
    return describe_no_onednn(f"a CPU for which torch {torch.__version__} has no such products ({capability})")


def make_kernels(compiled: bool, device: torch.device, *, backend: str | Callable[..., Any] = "inductor") -> Kernels:
    """Return the kernels of a step for a device; compiled once for rows of all lengths if `compiled`."""
    if not compiled:
        return Kernels(cross_entropy=cross_entropy_gradient_on_gpu) if device.type == "cuda" else PLAIN
    compile_part = partial(torch.compile, dynamic=True, backend=backend)
    return Kernels(forward=compile_part(hidden_states), cross_entropy=compile_part(cross_entropy_gradient_to_compile))


def pad_multiple(device: torch.device) -> int:
    """Return the number of which row lengths are a multiple: 8 on GPUs, which suits tensor cores."""
    return 8 if device.type == "cuda" else 1


def peak_flops(name: str) -> float | None:
    """Return the peak operations per second of a GPU; None if unknown."""
    spec = find_gpu_spec(name)
    return spec.peak_tflops * 1e12 if spec else None


def flops_share(model: GPT2LMHeadModel, tokens_per_second: float, device: torch.device, gpus: int = 1) -> float | None:
    """Compute the model FLOPs utilisation (MFU): operations for tokens without padding as a share of the GPUs' peak.

    It is a lower bound, because padding and the quadratic part of attention are not counted.  None if the peak is
    unknown: for CPUs, and for GPUs that are not in the table.
    """
    peak = peak_flops(device_name(device))
    # Position embeddings are looked up, not multiplied; the tied token embeddings are multiplied once, at the output.
    multiplied = parameter_count(model) - model.transformer.wpe.weight.numel()
    return 6.0 * multiplied * tokens_per_second / (peak * gpus) if peak else None


def peak_memory(device: torch.device) -> int:
    """Return the peak memory in bytes: allocated by torch on a GPU, otherwise resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory_share(device: torch.device) -> float:
    """Return the peak share of the GPU memory available to this process, since `forget_peak`."""
    free, _ = torch.cuda.mem_get_info(device)
    return torch.cuda.max_memory_reserved(device) / (free + torch.cuda.memory_reserved(device))


def forget_peak(device: torch.device) -> None:
    """Release unused memory and reset the peaks; no effect on a CPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def wait_for(device: torch.device) -> None:
    """Wait until the GPU has finished all queued work; no effect on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class DeviceStopwatch:
    """Times work on a device, without work that was queued before."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = self.cpu_seconds = math.nan

    def start(self) -> None:
        """Start the clock; also resets the memory peaks."""
        wait_for(self.device)
        forget_peak(self.device)
        self._start = (time.perf_counter(), time.process_time())

    def stop(self) -> None:
        """Set `seconds`, and `cpu_seconds` over all threads of this process."""
        wait_for(self.device)
        self.seconds, self.cpu_seconds = time.perf_counter() - self._start[0], time.process_time() - self._start[1]
