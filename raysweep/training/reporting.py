"""Reports each step: a line of metrics.jsonl, points for TensorBoard, and every few seconds a line of the log.

The numbers of a step stay on the device until the numbers of several steps are fetched together, because each
fetch makes the host wait for the GPU.  A loss that is not finite is detected when it is fetched, and the message names
the first such step.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from raysweep.errors import NonFiniteLossError
from raysweep.model.token_losses import PARTS
from raysweep.training.batches import StepExamples
from raysweep.training.distributed import DistributedGroup
from raysweep.training.hardware import flops_share, peak_memory
from raysweep.training.loss import Objective
from raysweep.training.metrics import MetricsLog
from raysweep.training.progress import Progress
from raysweep.training.step import StepSums

logger = logging.getLogger(__name__)

LOG_EVERY_S = 10.0
SHOW_EVERY_S = 2.0
"""Seconds between two writes of the metrics to disk, for `raysweep status`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedStep:
    """A step whose numbers may still be on the device."""

    step: int
    sums: StepSums
    gradient_norm: Tensor
    learning_rate: float
    examples: StepExamples


class StepReporter:
    """Collects steps and reports them; every step added is reported once, in order."""

    def __init__(
        self,
        log: MetricsLog,
        *,
        trial: str,
        steps: int,
        objective: Objective,
        documents_of_step: Callable[[int], list[int]],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Args: `documents_of_step` returns the documents of a step, for the message if its loss is not finite."""
        self._log, self._trial, self._steps, self._objective = log, trial, steps, objective
        self._documents_of_step, self._clock = documents_of_step, clock
        self._pending: list[FinishedStep] = []
        self._sums = [0.0] * 6
        self._last: dict[str, float] = {}
        self._reported_at = self._logged_at = self._shown_at = clock()

    def __len__(self) -> int:
        """Number of steps not yet reported."""
        return len(self._pending)

    def add(self, step: FinishedStep) -> None:
        """Add a step without fetching its numbers."""
        self._pending.append(step)

    def report(self) -> None:
        """Fetch the numbers of all pending steps, and write them; raises NonFiniteLossError if one is not finite."""
        if not self._pending:
            return
        numbers = torch.stack(
            [torch.cat((step.sums.nats, step.sums.labels, step.gradient_norm.double()[None])) for step in self._pending]
        ).tolist()
        for step, row in zip(self._pending, numbers, strict=True):
            losses = _losses(row[:3], row[3:6], self._objective)
            self.check(step.step, **{**losses, "gradient norm": row[6]})
            self._last = {"learning_rate": step.learning_rate, "gradient_norm": row[6]}
            examples = {"examples": len(step.examples.numbers), "tokens": step.examples.tokens}
            self._log.write("step", step.step, {**losses, **self._last, **examples})
            self._sums = [total + value for total, value in zip(self._sums, row[:6], strict=True)]
        self._show(losses)
        self._pending.clear()

    def summarise(self) -> dict[str, Any]:
        """Return the nats per token since the last call, and the learning rate and gradient norm of the last step."""
        losses = _losses(self._sums[:3], self._sums[3:], self._objective)
        self._sums = [0.0] * 6
        return {"train": losses, **self._last}

    def _show(self, losses: Mapping[str, float]) -> None:
        now, last = self._clock(), self._pending[-1]
        if now - self._shown_at >= SHOW_EVERY_S:
            self._shown_at = now
            self._log.flush()
        rate = sum(step.examples.tokens for step in self._pending) / max(now - self._reported_at, 1e-9)
        self._reported_at = now
        points = {**losses, **self._last, "tokens_per_second": rate}
        self._log.draw(last.step, {f"train/{name}": value for name, value in points.items()})
        if now - self._logged_at >= LOG_EVERY_S or last.step == self._steps:
            self._logged_at = now
            logger.info(
                "%s: step %d/%d  loss %.3f nats/token  %s tokens/s",
                self._trial, last.step, self._steps, losses.get("loss", 0.0), f"{rate:,.0f}",
            )  # fmt: skip

    def check(self, step: int, **numbers: float) -> None:
        """Raise NonFiniteLossError if one of a step's numbers, given by their names in the message, is not finite."""
        bad = {name: number for name, number in numbers.items() if not math.isfinite(number)}
        if not bad:
            return
        listed = ", ".join(f"{name} {number:g}" for name, number in bad.items())
        documents = self._documents_of_step(step)
        named, more = ", ".join(map(str, documents[:16])), len(documents) - 16
        raise NonFiniteLossError(
            f"{self._trial}: step {step}: {listed}: not finite. Its documents are {named}"
            f"{f' and {more} more' if more > 0 else ''}. Lower learning_rate or clip_norm, or raise warmup_steps",
            step,
            tuple(documents),
        )


def describe_throughput(stretch: Progress, model: GPT2LMHeadModel, group: DistributedGroup) -> dict[str, Any]:
    """Compute the speed of some steps; these values depend on times, so they are not in `metrics.jsonl`.

    Args:
        stretch: the counts and seconds of these steps, from `Progress.since`.

    Returns:
        `tokens_per_second` (without padding, of all workers), `padding_share`, `mfu` if the GPU's peak is known,
        `peak_memory_bytes` (so far), and `share_of_time` of `data`, `step`, `evaluation` and `checkpoint`.
    """
    rate = stretch.tokens_per_second or 0.0
    mfu = flops_share(model, rate, group.device, group.world_size)
    total = max(sum(stretch.seconds.values()), 1e-9)
    return {
        "tokens_per_second": rate,
        "padding_share": stretch.padding_share,
        **({} if mfu is None else {"mfu": mfu}),
        "peak_memory_bytes": peak_memory(group.device),
        "share_of_time": {part: seconds / total for part, seconds in stretch.seconds.items()},
    }


def _losses(nats: list[float], labels: list[float], objective: Objective) -> dict[str, float]:
    """Compute the nats per token of each part that has labels, and two more values.

    `loss` is that of the answers or, for language models, of the text; `objective` is what the step minimises, the sum
    of the parts that are trained on.
    """
    losses = {part: total / count for part, total, count in zip(PARTS, nats, labels, strict=True) if count}
    trained = (("context", objective.context), ("infill", objective.infill))
    minimised = sum(losses.get(part, 0.0) for part, is_trained in trained if is_trained)
    loss = {"loss": losses[objective.metric]} if objective.metric in losses else {}
    return {"objective": minimised, **loss, **losses}
