"""Baselines that the benchmark can time for comparison: their names and requirements.

The measurements are elsewhere: `benchmark` times the original code's method, `hf_trainer` Hugging Face's Trainer.
"""

from importlib.util import find_spec

import torch

from raysweep.errors import ConfigError

ORIGINAL = "original"
_LIGER = "hf-liger"
BASELINES = (ORIGINAL, "hf-trainer", "hf-default", _LIGER)
"""The original ILM code's method; the Trainer with fast settings, with its defaults, and with Liger's loss (GPUs)."""


def find_baselines(names: str, device: torch.device) -> list[str]:
    """Parse a comma-separated list of baselines; raises ConfigError if one is unknown, or lacks a requirement."""
    baselines = [name.strip() for name in names.split(",") if name.strip()]
    for baseline in baselines:
        if baseline not in BASELINES:
            raise ConfigError(f"--like: found '{baseline:.80}'; must be one of {', '.join(BASELINES)}")
        if fix := _missing_requirement(baseline, device):
            raise ConfigError(f"--like: '{baseline}' cannot be timed here: {fix}")
    return baselines


def _missing_requirement(baseline: str, device: torch.device) -> str:
    """Name what the baseline needs and this machine lacks; empty if it can be timed."""
    if baseline == ORIGINAL:
        return ""
    if find_spec("accelerate") is None:
        return "Hugging Face's Trainer needs accelerate (pip install accelerate)"
    if device.type == "cuda" and torch.cuda.device_count() > 1:
        return "the Trainer would use all GPUs; set CUDA_VISIBLE_DEVICES to one"
    if baseline == _LIGER and device.type != "cuda":
        return "Liger's kernels need a GPU"
    if baseline == _LIGER and find_spec("liger_kernel") is None:
        return "it needs liger-kernel (pip install liger-kernel)"
    return ""
