"""Runs the forward and backward passes of small micro-batches as CUDA graphs, one graph for each shape of rows.

A step of a few hundred tokens consists of some thousand kernels of a few microseconds each, and launching a kernel
takes the host longer than that.  A CUDA graph launches all of them at once.  It computes the same as the separate
kernels, from the same random numbers: dropout is determined by the seed that is set before the step.

The first micro-batch of a shape is run without a graph.  The second one is run without a graph and also captured; the
graph is replayed from the third one on, if its first replay gave the losses and gradients of the ordinary run.
Labels are padded to one per position, with labels of weight 0, so that a shape does not depend on their number.

Source: PyTorch's notes on CUDA semantics, section CUDA graphs.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from raysweep.model.sequence_packing import Rows
from raysweep.model.token_losses import IGNORED, Labels, MicroBatch

logger = logging.getLogger(__name__)

MAX_POSITIONS = 16_384
"""Positions of a micro-batch beyond which the GPU's work takes as long as the host needs to launch it."""
MAX_GRAPHS = 128
"""Most graphs of one training; each takes some megabytes of GPU memory."""
_LOSS_TOLERANCE, _GRADIENT_TOLERANCE = 1e-3, 1e-2
"""Largest difference between a replay and the ordinary run, relative to the norm of the losses and of the gradients;
products of other shapes round differently, in bfloat16 by up to some thousandths."""

Shape = tuple[int, int, bool, bool]
"""Number of rows, their length, whether they are packed, and whether the micro-batch is the first of a step."""


class Pass(Protocol):
    """A forward and backward pass, see `gradient_pass.GradientPass`."""

    def __call__(self, batch: MicroBatch, weights: Tensor, *, replace: bool = False) -> Tensor:
        """Return the nats by part; the gradients are added to those of the model's parameters, or replace them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Recorded:
    replay: Callable[[], None]
    batch: MicroBatch
    weights: Tensor
    nats: Tensor


class GraphedPass:
    """Runs a forward and backward pass, as a CUDA graph if the shape of the micro-batch occurred before."""

    def __init__(self, run: Pass, model: nn.Module, device: torch.device, largest: int | None) -> None:
        """Args: `largest` micro-batch to capture, in positions; None: no limit."""
        self._run, self._device, self._largest = run, device, largest
        self._parameters = list(model.parameters())
        self._gradients: list[Tensor] = []
        """The memory to which replays write the parameters' gradients."""
        self._seen: set[Shape] = set()
        self._recorded: dict[Shape, _Recorded] = {}
        self._pool: Any = None

    def __call__(self, rows: Rows, weights: Tensor, *, is_first: bool) -> Tensor:
        """Run the pass; returns the nats by part, on the device, which the next call overwrites.

        Args:
            is_first: the micro-batch is the first of its step, so no parameter has a gradient yet.
        """
        shape = (*rows.ids_RW.shape, rows.owners_RW is not None, is_first)
        recorded = self._recorded.get(shape)
        if recorded is None:
            if self._is_worth_recording(shape, rows.positions):
                return self._run_and_record(shape, rows, weights)
            return self._run(rows.to(self._device), weights)
        _copy_tensors(_fill_labels(rows).to(self._device), recorded.batch)
        recorded.weights.copy_(weights)
        if not is_first:
            self._take_gradients([parameter.grad for parameter in self._parameters])
        recorded.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return recorded.nats

    def _is_worth_recording(self, shape: Shape, positions: int) -> bool:
        """Tell whether the shape was seen before and may still be recorded; from now on it has been seen."""
        if (self._largest is not None and positions > self._largest) or len(self._recorded) == MAX_GRAPHS:
            return False
        known = shape in self._seen
        self._seen.add(shape)
        return known

    def _run_and_record(self, shape: Shape, rows: Rows, weights: Tensor) -> Tensor:
        """Run the pass without a graph and capture a graph, which is kept if its replay gives the same result."""
        is_first = shape[-1]
        before = [parameter.grad for parameter in self._parameters]
        for parameter, gradient in zip(self._parameters, before, strict=True):
            # The ordinary run adds to a copy, because the replay may write to `before`.
            parameter.grad = None if gradient is None else gradient.clone()
        # The generator that dropout uses on the device.
        cuda = torch.cuda.default_generators
        generator = cuda[self._device.index or 0] if self._device.type == "cuda" else torch.default_generator
        random_before = generator.get_state()
        nats = self._run(rows.to(self._device), weights)
        random_after = generator.get_state()
        gradients = [parameter.grad for parameter in self._parameters]
        reason = ""
        try:
            recorded = self._record(_fill_labels(rows).to(self._device), weights.clone(), is_first=is_first)
            if not is_first:
                self._take_gradients(before)
            generator.set_state(random_before)
            recorded.replay()
            reason = self._difference(recorded.nats, nats, gradients)
            self._recorded[shape] = recorded
        except torch.OutOfMemoryError:
            reason = "their memory does not fit beside the training's"
        finally:
            generator.set_state(random_after)
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                parameter.grad = gradient
        if reason:
            self.give_up(reason)
        return nats

    def give_up(self, reason: str) -> None:
        """Free the memory of the graphs, and capture no more graphs."""
        if self._recorded or self._largest != 0:
            logger.warning("the training goes on without CUDA graphs: %s (%s)", reason, self._device)
        self._largest = 0
        self._recorded.clear()
        self._gradients, self._pool = [], None

    def _record(self, batch: MicroBatch, weights: Tensor, *, is_first: bool) -> _Recorded:
        if not self._gradients:
            self._gradients = [torch.zeros_like(parameter) for parameter in self._parameters]

        def work() -> Tensor:
            for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
                parameter.grad = gradient
            return self._run(batch, weights, replace=is_first)

        replay, nats = self._capture(work)
        return _Recorded(replay=replay, batch=batch, weights=weights, nats=nats)

    def _capture(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Capture the work; returns a function that replays it, and the tensor to which replays write the result."""
        graph = torch.cuda.CUDAGraph()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        # Capturing runs nothing; other threads may continue to use the GPU.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            result = work()
        return graph.replay, result

    def _take_gradients(self, gradients: list[Tensor | None]) -> None:
        """Copy the gradients of the step's earlier micro-batches to the memory to which replays add."""
        for target, gradient in zip(self._gradients, gradients, strict=True):
            if gradient is None:
                target.zero_()
            elif gradient is not target:
                target.copy_(gradient)

    def _difference(self, replayed: Tensor, nats: Tensor, gradients: list[Tensor | None]) -> str:
        """Describe the difference between the first replay and the ordinary run; '' if it is within rounding."""
        pairs = [(t, g) for t, g in zip(self._gradients, gradients, strict=True) if g is not None]
        far = torch.stack([(target - gradient).norm() for target, gradient in pairs]).norm()
        share = far / torch.stack([gradient.norm() for _, gradient in pairs]).norm()
        loss_share = (replayed - nats).norm() / nats.norm()
        if loss_share <= _LOSS_TOLERANCE and share <= _GRADIENT_TOLERANCE:
            return ""
        if not (nats.isfinite().all() and share.isfinite()):
            return "a loss or gradient is not a finite number"
        return f"a replay's losses differ by {loss_share:.1e} of them, its gradients by {share:.1e}"


def _fill_labels(rows: Rows) -> Rows:
    """Return the rows with as many labels as positions."""
    labels, missing = rows.labels, rows.positions - len(rows.labels.ids_N)
    filled = Labels(
        # At different positions, because atomic additions to a single position would wait for each other.
        positions_N=np.concatenate((labels.positions_N, np.arange(missing))),
        ids_N=np.pad(labels.ids_N, (0, missing)),
        classes_N=np.pad(labels.classes_N, (0, missing), constant_values=IGNORED),
    )
    return replace(rows, labels=filled)


def _copy_tensors(source: MicroBatch, target: MicroBatch) -> None:
    for name in MicroBatch.__slots__:
        if (tensor := getattr(source, name)) is not None:
            getattr(target, name).copy_(tensor)
