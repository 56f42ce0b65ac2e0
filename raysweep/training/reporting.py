"""What each step tells: a line of metrics.jsonl, points for TensorBoard, and now and then a line of the log.

The numbers of a step stay on the device until several are fetched together; each look makes the host
wait for the GPU.  A loss that is not finite is found at that look, and the step it began at is named.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raysweep.errors import NonFiniteLossError
from raysweep.model.token_losses import PARTS
from raysweep.training.batches import StepExamples
from raysweep.training.loss import Objective
from raysweep.training.metrics import MetricsLog
from raysweep.training.step import StepSums

logger = logging.getLogger(__name__)

LOG_EVERY_S = 10.0
SHOW_EVERY_S = 2.0
"""Between two looks that `raysweep status` gets at the steps."""


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
        """Args: `documents_of_step` names the documents of a step, for the message when its loss is not finite."""
        self._log, self._trial, self._steps, self._objective = log, trial, steps, objective
        self._documents_of_step, self._clock = documents_of_step, clock
        self._pending: list[FinishedStep] = []
        self._sums = [0.0] * 6
        self._last: dict[str, float] = {}
        self._reported_at = self._logged_at = self._shown_at = clock()

    def __len__(self) -> int:
        """Steps that wait to be reported."""
        return len(self._pending)

    def add(self, step: FinishedStep) -> None:
        """Take in a step without looking at its numbers."""
        self._pending.append(step)

    def report(self) -> None:
        """Fetch the numbers of all steps that wait, and write them.

        Raises:
            NonFiniteLossError: a loss or a gradient is not finite.
        """
        if not self._pending:
            return
        numbers = torch.stack(
            [torch.cat((one.sums.nats, one.sums.labels, one.gradient_norm.double()[None])) for one in self._pending]
        ).tolist()
        for one, row in zip(self._pending, numbers, strict=True):
            losses = _losses(row[:3], row[3:6], self._objective)
            self.check(one.step, **{**losses, "gradient norm": row[6]})
            self._log.write("step", one.step, _line(one, losses, row[6]))
            self._sums = [total + value for total, value in zip(self._sums, row[:6], strict=True)]
            self._last = {"learning_rate": one.learning_rate, "gradient_norm": row[6]}
        self._show(losses, row[6])
        self._pending.clear()

    def summarise(self) -> dict[str, Any]:
        """Of the steps since this was last asked: nats per token, and the last one's rate and gradient norm."""
        losses = _losses(self._sums[:3], self._sums[3:], self._objective)
        self._sums = [0.0] * 6
        return {"train": losses, **self._last}

    def _show(self, losses: Mapping[str, float], gradient_norm: float) -> None:
        now, last = self._clock(), self._pending[-1]
        if now - self._shown_at >= SHOW_EVERY_S:
            self._shown_at = now
            self._log.flush()
        rate = sum(one.examples.tokens for one in self._pending) / max(now - self._reported_at, 1e-9)
        self._reported_at = now
        points = {f"train/{name}": loss for name, loss in losses.items()}
        self._log.draw(
            last.step,
            points
            | {
                "train/learning_rate": last.learning_rate,
                "train/gradient_norm": gradient_norm,
                "train/tokens_per_second": rate,
            },
        )
        if now - self._logged_at >= LOG_EVERY_S or last.step == self._steps:
            self._logged_at = now
            logger.info(
                "%s: step %d/%d  loss %.3f nats/token  %s tokens/s",
                self._trial, last.step, self._steps, losses.get(self._objective.decides, 0.0), f"{rate:,.0f}",
            )  # fmt: skip

    def check(self, step: int, **numbers: float) -> None:
        """See that what a step gave are numbers.

        Args:
            numbers: by what they are called in the message.

        Raises:
            NonFiniteLossError: one of them is infinite or not a number.
        """
        bad = {name: number for name, number in numbers.items() if not math.isfinite(number)}
        if not bad:
            return
        found = ", ".join(f"{name} {number:g}" for name, number in bad.items())
        documents = self._documents_of_step(step)
        named = ", ".join(map(str, documents[:16])) + (
            f" and {len(documents) - 16} more" if len(documents) > 16 else ""
        )
        raise NonFiniteLossError(
            f"{self._trial}: step {step}: {found}: not finite. "
            f"Its documents are {named}. Lower learning_rate or clip_norm, or raise warmup_steps",
            step,
            tuple(documents),
        )


def _losses(nats: list[float], labels: list[float], objective: Objective) -> dict[str, float]:
    """nats per token of each part the step had labels of, and `loss`, what the step made smaller."""
    losses = {part: total / count for part, total, count in zip(PARTS, nats, labels, strict=True) if count}
    trained = (("context", objective.context), ("infill", objective.infill))
    return {"loss": sum(losses.get(part, 0.0) for part, is_trained in trained if is_trained), **losses}


def _line(one: FinishedStep, losses: Mapping[str, float], gradient_norm: float) -> dict[str, Any]:
    return {
        **losses,
        "learning_rate": one.learning_rate,
        "gradient_norm": gradient_norm,
        "examples": len(one.examples.numbers),
        "tokens": one.examples.tokens,
    }
