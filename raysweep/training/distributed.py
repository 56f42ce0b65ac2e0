"""Collective operations over the workers of one training, on top of `torch.distributed`; with one worker, no-ops.

The caller initialises `torch.distributed`.  Workers exchange sums and divide once, so the number of workers
changes results only by float rounding.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor, nn

_BUCKET_NUMBERS = 4 * 1024 * 1024
"""Gradients in a bucket: 16 MB, so that the next bucket is filled while one is being sent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DistributedGroup:
    """This worker's rank and device among the workers of its training."""

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
        """Sum the gradients over all workers; a parameter without a gradient counts as zero.

        Call it after all backward passes, because a worker that runs out of memory repeats its backward passes alone:
        reductions during the backward pass, as in `DistributedDataParallel`, would count some gradients twice.
        """
        if self.world_size == 1:
            return
        waiting = []
        for bucket in _buckets(parameters):
            flat = torch.cat([parameter.grad.flatten() for parameter in bucket if parameter.grad is not None])
            waiting.append(torch.distributed.all_reduce(flat, async_op=True))
            # Use views, so that nothing is copied back and the old gradients are freed.
            for parameter, part in zip(bucket, torch.split(flat, [each.numel() for each in bucket]), strict=True):
                parameter.grad = part.view_as(parameter)
        for work in waiting:
            work.wait()

    def all_reduce_min(self, number: int) -> int:
        """Return the smallest of all workers' numbers."""
        if self.world_size == 1:
            return number
        tensor = self._as_tensor(number)
        torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MIN)
        return int(tensor.item())

    def any_rank(self, claim: bool) -> bool:
        """Return True on every worker if any worker passed True."""
        return self.all_reduce_min(0 if claim else 1) == 0

    def broadcast(self, number: int) -> int:
        """Return rank 0's number on every worker."""
        if self.world_size == 1:
            return number
        tensor = self._as_tensor(number)
        torch.distributed.broadcast(tensor, src=0)
        return int(tensor.item())

    def gather(self, text: str) -> list[str]:
        """Return the texts of all workers, by rank."""
        texts = [text] * self.world_size
        if self.world_size > 1:
            torch.distributed.all_gather_object(texts, text)
        return texts

    def _as_tensor(self, number: int) -> Tensor:
        return torch.tensor([number], dtype=torch.int64, device=self.device)


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Yield the parameters in buckets of at least `_BUCKET_NUMBERS` numbers; missing gradients become zeros."""
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        bucket.append(parameter)
        if sum(each.numel() for each in bucket) >= _BUCKET_NUMBERS:
            yield bucket
            bucket = []
    if bucket:
        yield bucket
