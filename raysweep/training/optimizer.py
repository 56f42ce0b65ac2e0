"""AdamW as the trainings use it, and its state as named tensors for checkpoints."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from raysweep.config.training_settings import TrainingConfig

_STATE = ("exp_avg", "exp_avg_sq", "step")


def make_optimizer(model: nn.Module, settings: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over the model's parameters; biases and layer norms (vectors) are never decayed.

    Its state is made here, not in the first step: memory that is too small shows before any work is done.
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


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Of all groups, for the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The state as `<what>.<parameter>`."""
    return {
        f"{what}.{name}": optimizer.state[parameter][what]
        for name, parameter in model.named_parameters()
        for what in _STATE
    }


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters by name, shared ones once."""
    return dict(model.named_parameters())


@torch.no_grad()
def restore_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put a checkpoint's optimiser state back, in place."""
    for name, parameter in model.named_parameters():
        for what in _STATE:
            optimizer.state[parameter][what].copy_(tensors[f"{what}.{name}"])


@torch.no_grad()
def restore_model(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put a checkpoint's parameters back, in place."""
    for name, parameter in model.named_parameters():
        parameter.copy_(tensors[name])
