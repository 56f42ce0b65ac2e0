"""AdamW for the trainings: its learning rate at each step, and its state as named tensors for checkpoints."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from raysweep.config.training_settings import TrainingConfig

_STATE = ("exp_avg", "exp_avg_sq", "step")


def make_optimizer(model: nn.Module, settings: TrainingConfig) -> torch.optim.AdamW:
    """Create AdamW for the model's parameters, without weight decay on vectors (biases and layer norms).

    The state is allocated here and not in the first step, so that a lack of memory is noticed before any work is done.
    """
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )
    for parameter in model.parameters():
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }
    return optimizer


def learning_rate(step: int, settings: TrainingConfig) -> float:
    """Compute the learning rate of a step; the first step is 1, the last `settings.steps`.

    The warm-up rises linearly to the peak at step `warmup_steps`.  The decay starts at the peak and would reach zero
    one step after the last, so that no step has a rate of zero.
    """
    peak = settings.learning_rate
    if step <= settings.warmup_steps:
        return peak * (step / settings.warmup_steps)
    done = (step - settings.warmup_steps - 1) / (settings.steps - settings.warmup_steps)
    match settings.schedule:
        case "constant":
            return peak
        case "linear":
            return peak * (1.0 - done)
        case "cosine":
            return peak * (0.5 * (1.0 + math.cos(math.pi * done)))


def clipped_step(optimizer: torch.optim.AdamW, parameters: Sequence[nn.Parameter], clip_norm: float) -> Tensor:
    """Update the parameters with gradients clipped to a norm of at most `clip_norm`; returns the norm before clipping.

    On a GPU the fused update scales them, as for `torch.amp.GradScaler`, which saves a pass over all gradients.
    """
    if parameters[0].device.type != "cuda":
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
    else:
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        optimizer.grad_scale = divisor_of(norm, clip_norm)  # type: ignore[attr-defined]
    optimizer.step()
    return norm


def divisor_of(norm: Tensor, clip_norm: float) -> Tensor:
    """Return the number by which gradients of this norm are divided; `clip_grad_norm_` multiplies by its inverse."""
    return ((norm + 1e-6) / clip_norm).clamp(min=1.0)


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return the optimiser's state, by `<entry>.<parameter>`."""
    return {
        f"{entry}.{name}": optimizer.state[parameter][entry]
        for name, parameter in model.named_parameters()
        for entry in _STATE
    }


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters by name; shared parameters occur once."""
    return dict(model.named_parameters())


@torch.no_grad()
def copy_tensors(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    """Copy a checkpoint's tensors into those of the model or the optimiser, by name."""
    for name, tensor in target.items():
        tensor.copy_(source[name])
