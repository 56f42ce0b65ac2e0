"""Computes the gradients of an optimiser step, and validation losses, over micro-batches.

If a micro-batch does not fit into the GPU's memory, its size is halved and the step is repeated; labels are weighted
by the whole step, so results change only by float rounding.

Axes: B examples, T tokens, N labels.
"""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from raysweep.errors import MemoryShortageError
from raysweep.masking.example_store import Examples, ExampleStore
from raysweep.model.cpu_products import onednn_training
from raysweep.model.label_losses import score_labels
from raysweep.model.sequence_packing import Packing, Rows, alone, pack, plan_rows, send
from raysweep.model.token_losses import (
    PARTS,
    PLAIN,
    Kernels,
    MicroBatch,
    part_sums,
    to_parts,
    token_losses,
)
from raysweep.seeding import seed_for
from raysweep.training.batches import micro_batches
from raysweep.training.cuda_graphs import GraphedPass
from raysweep.training.distributed import DistributedGroup
from raysweep.training.gradient_pass import GradientPass
from raysweep.training.loss import Objective, label_weights, labels_of

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class Engine:
    """A model with everything that is needed to run examples through it."""

    trial: str
    model: GPT2LMHeadModel
    source: ExampleStore
    task: str
    group: DistributedGroup
    autocast: torch.dtype | None
    """Type of the matrix products; None: float32."""
    by_onednn: bool = False
    """Whether float32 products are computed by oneDNN."""
    micro_batch: int
    """Number of examples that are run at once; it is halved when memory runs out."""
    kernels: Kernels = PLAIN
    """The kernels for training."""
    packing: Packing | None = None
    """None: every example has its own row."""
    pad_multiple: int = 1
    """Row lengths are rounded up to a multiple of this."""
    gradient_pass: GradientPass | None = None
    """None: `token_losses` and autograd compute the gradients."""
    graphs: GraphedPass | None = None
    """None: no CUDA graphs are used."""

    @property
    def device(self) -> torch.device:
        return self.group.device

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which matrix products have the configured type."""
        if self.by_onednn:
            return onednn_training()
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast)

    def assemble(self, examples: Examples, objective: Objective) -> list[Rows]:
        """Assemble this worker's share of the examples as micro-batches with their labels."""
        group = self.group
        parts = micro_batches(examples, size=self.micro_batch, rank=group.rank, world_size=group.world_size)
        return [self.rows_of(part, objective) for part in parts]

    def rows_of(self, examples: Examples, objective: Objective) -> Rows:
        """Assemble examples as one micro-batch."""
        batch = self.source.assemble(examples, task=self.task, pad_multiple=self.pad_multiple)
        # Padding must not exceed the model's positions.
        limit = self.model.config.n_positions
        batch = replace(batch, ids_BT=batch.ids_BT[:, :limit], types_BT=batch.types_BT[:, :limit])
        labels, width = labels_of(batch, objective), batch.ids_BT.shape[1]
        if self.packing is not None:
            layout = plan_rows(batch.lengths_B, self.packing, width=width, multiple=self.pad_multiple)
            if layout is not None:
                return pack(batch.ids_BT, batch.lengths_B, labels, layout)
        return alone(batch.ids_BT, batch.lengths_B, labels)

    def run(self, batch: MicroBatch, weights: Tensor) -> Tensor:
        """Add the micro-batch's gradients to the model's; returns its nats by part.

        Args:
            weights: the weight of a label of each class, see `loss.label_weights`.
        """
        if self.gradient_pass is not None:
            return self.gradient_pass(batch, weights)
        with self.precision():
            total, losses_N = token_losses(self.model, batch, weights[batch.classes_N], self.kernels)
        total.backward()  # type: ignore[no-untyped-call]
        return part_sums(losses_N, batch.classes_N)

    def halve(self, where: str) -> None:
        """Halve the micro-batch size after memory ran out; raises MemoryShortageError if it is already 1."""
        if self.graphs is not None:
            self.graphs.give_up("memory ran out")
        if self.micro_batch == 1:
            raise self.shortage(where)
        self.micro_batch = -(-self.micro_batch // 2)
        logger.warning(
            "%s: %s: out of memory; micro-batches of %d from now on, the step stays as it is",
            self.trial, where, self.micro_batch,
        )  # fmt: skip
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def shortage(self, where: str) -> MemoryShortageError:
        """Create the error for a single example that does not fit into memory."""
        return MemoryShortageError(
            f"{self.trial}: {where}: a single example does not fit the memory of {self.device}; "
            "use a smaller model, a smaller masking.max_tokens or a GPU with more memory"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSums:
    """Sums of a step over all workers; tensors stay on the device, so that the host does not wait."""

    nats: Tensor
    """float64, by part, in the order of `PARTS`."""
    labels: Tensor
    """Numbers of labels, float64, by part, in the order of `PARTS`."""
    tokens: int
    """Number of tokens of this worker's share, without padding."""
    positions: int
    """Number of positions of this worker's share, including padding."""


def step_gradients(
    engine: Engine, examples: Examples, batches: Sequence[Rows], objective: Objective, *, seed: int, step: int
) -> StepSums:
    """Compute the gradients of the step's loss for the model's parameters, summed over all workers.

    Dropout depends only on (seed, step, rank), so there is no random state to save.

    Args:
        examples: all examples of the step, sorted by length.
        batches: this worker's share of the examples, assembled.
    """
    counts = engine.group.all_reduce_sum(_label_counts(batches, engine.device))
    weights = label_weights(counts)
    while True:
        torch.manual_seed(seed_for(seed, "dropout", step, engine.group.rank))
        try:
            nats = _accumulate(engine, batches, weights)
            break
        except torch.OutOfMemoryError:
            engine.model.zero_grad(set_to_none=True)
        # Outside the handler, whose traceback would keep the failed tensors alive.
        engine.halve(f"step {step}")
        batches = engine.assemble(examples, objective)
    engine.group.all_reduce_gradients(engine.model.parameters())
    return StepSums(
        nats=engine.group.all_reduce_sum(nats),
        labels=to_parts(counts),
        tokens=sum(rows.tokens for rows in batches),
        positions=sum(rows.positions for rows in batches),
    )


def try_examples(engine: Engine, examples: Examples, objective: Objective) -> None:
    """Run a forward and backward pass over the examples at once, to measure its memory; the gradients are kept."""
    batch = engine.rows_of(examples, objective)
    engine.run(batch.to(engine.device), label_weights(_label_counts([batch], engine.device)))


@torch.no_grad()
def validation_losses(engine: Engine, examples: Examples) -> dict[str, float]:
    """Compute the nats per token of each part that has labels, without dropout."""
    everything = Objective(context=True, infill=True)
    engine.model.train(False)
    try:
        while True:
            try:
                batches = engine.assemble(examples, everything)
                counts = _label_counts(batches, engine.device)
                nats = _sum_losses(engine, batches)
                break
            except torch.OutOfMemoryError:
                pass
            engine.halve("evaluation")
    finally:
        engine.model.train()
    labels = to_parts(engine.group.all_reduce_sum(counts)).tolist()
    return {
        part: total / count
        for part, total, count in zip(PARTS, engine.group.all_reduce_sum(nats).tolist(), labels, strict=True)
        if count
    }


def _label_counts(batches: Sequence[Rows], device: torch.device) -> Tensor:
    counts = sum((rows.labels.counts() for rows in batches), np.zeros(len(PARTS), dtype=np.int64))
    return send(counts.astype(np.float64), device)


def _accumulate(engine: Engine, batches: Sequence[Rows], weights: Tensor) -> Tensor:
    nats = torch.zeros(len(PARTS), dtype=torch.float64, device=engine.device)
    for number, rows in enumerate(batches):
        if engine.graphs is not None:
            nats += engine.graphs(rows, weights, is_first=number == 0)
        else:
            nats += engine.run(rows.to(engine.device), weights)
    return nats


def _sum_losses(engine: Engine, batches: Sequence[Rows]) -> Tensor:
    nats = torch.zeros(len(PARTS), dtype=torch.float64, device=engine.device)
    for rows in batches:
        batch = rows.to(engine.device)
        with engine.precision():
            nats += part_sums(score_labels(engine.model, batch), batch.classes_N)
    return nats
