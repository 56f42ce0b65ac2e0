"""Adding up over the workers of one training; with one worker nothing is done.

The caller has initialised `torch.distributed`.  Workers add sums and divide once, so their number
changes a result by float rounding only.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor, nn

_BUCKET_NUMBERS = 32 * 1024 * 1024
"""Gradients sent at once: 128 MB, so that GPT-2 takes four messages and not 148."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workers:
    """This worker among those of the training."""

    rank: int = 0
    world_size: int = 1
    device: torch.device

    @property
    def writes(self) -> bool:
        """Whether this worker writes the trial's files."""
        return self.rank == 0

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum of the workers' tensors, in place, on every worker."""
        if self.world_size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def add_up_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every worker the sum of all gradients; a parameter without one counts as zero."""
        if self.world_size == 1:
            return
        bucket: list[Tensor] = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            bucket.append(parameter.grad)
            if sum(gradient.numel() for gradient in bucket) >= _BUCKET_NUMBERS:
                _add_up_together(bucket)
                bucket = []
        if bucket:
            _add_up_together(bucket)

    def smallest(self, number: int) -> int:
        """The smallest of the numbers that the workers passed, on every worker."""
        if self.world_size == 1:
            return number
        told = torch.tensor([number], dtype=torch.int64, device=self.device)
        torch.distributed.all_reduce(told, op=torch.distributed.ReduceOp.MIN)
        return int(told.item())

    def any_says(self, claim: bool) -> bool:
        """Whether any worker passed True, on every worker."""
        if self.world_size == 1:
            return claim
        return int(self.add_up(torch.tensor([int(claim)], dtype=torch.int64, device=self.device)).item()) > 0

    def first_says(self, number: int) -> int:
        """The number that the first worker passed, on every worker."""
        if self.world_size == 1:
            return number
        told = torch.tensor([number], dtype=torch.int64, device=self.device)
        torch.distributed.broadcast(told, src=0)
        return int(told.item())


def _add_up_together(gradients: list[Tensor]) -> None:
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
