"""Collective operations over the workers of one training, on top of `torch.distributed`; with one worker, no-ops.

The caller has initialised `torch.distributed`.  Workers exchange sums and divide once, so the number of
workers changes a result by float rounding only.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor, nn

_BUCKET_NUMBERS = 32 * 1024 * 1024
"""Gradients sent at once: 128 MB, so that GPT-2 takes four messages and not 148."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DistributedGroup:
    """This worker's place among the workers of its training."""

    rank: int = 0
    world_size: int = 1
    device: torch.device

    @property
    def is_main(self) -> bool:
        """True on rank 0, which alone writes the trial's files."""
        return self.rank == 0

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """Replace the tensor by the sum of all workers' tensors, in place; returns it."""
        if self.world_size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients over all workers; a parameter without a gradient counts as zero."""
        if self.world_size == 1:
            return
        bucket: list[Tensor] = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            bucket.append(parameter.grad)
            if sum(gradient.numel() for gradient in bucket) >= _BUCKET_NUMBERS:
                _all_reduce_bucket(bucket)
                bucket = []
        if bucket:
            _all_reduce_bucket(bucket)

    def all_reduce_min(self, number: int) -> int:
        """The smallest of all workers' numbers."""
        if self.world_size > 1:
            tensor = self._as_tensor(number)
            torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MIN)
            number = int(tensor.item())
        return number

    def any_rank(self, claim: bool) -> bool:
        """True on every worker if any worker passed True."""
        return self.all_reduce_min(0 if claim else 1) == 0

    def broadcast(self, number: int) -> int:
        """Rank 0's number, on every worker."""
        if self.world_size > 1:
            tensor = self._as_tensor(number)
            torch.distributed.broadcast(tensor, src=0)
            number = int(tensor.item())
        return number

    def _as_tensor(self, number: int) -> Tensor:
        return torch.tensor([number], dtype=torch.int64, device=self.device)


def _all_reduce_bucket(gradients: list[Tensor]) -> None:
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
