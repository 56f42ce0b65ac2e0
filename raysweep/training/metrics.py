"""What a training tells while it runs: `metrics.jsonl`, `evaluations.jsonl`, and TensorBoard's event files.

`metrics.jsonl` has one line a step and one an evaluation, in order, each step exactly once: lines are
on disk before the checkpoint that follows them, and a resumed training first cuts off whatever comes
after its checkpoint, a line torn by a kill included.  It holds no clock: the same job writes the same bytes.

`evaluations.jsonl` has a line an evaluation with all that is known there, speed and memory included.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from raysweep.storage.atomic_files import atomic_file
from raysweep.storage.run_folder import TrialFolder
from raysweep.training.job import Evaluation


class MetricsLog:
    """Appends records; use it as a context manager, so that an error leaves the curve up to it on disk."""

    def __init__(self, folder: TrialFolder, *, resume_step: int, writes: bool = True) -> None:
        """Keep what `resume_step` and the steps before it wrote; cut off the rest.

        Args:
            resume_step: the checkpoint's step, 0 if the training starts anew.
            writes: False for all workers of a training but the first: what they say is dropped.
        """
        self._writes = writes
        self._buffers: dict[Path, list[str]] = {folder.metrics: [], folder.evaluations: []}
        self._metrics, self._evaluations = self._buffers.values()
        if not writes:
            return
        # Imported here: a machine that only runs the benchmark need not have it.
        from tensorboardX import SummaryWriter

        folder.root.mkdir(parents=True, exist_ok=True)
        for path in self._buffers:
            cut_after(path, resume_step)
        # A file is named by the second it is made in: one that is made in the same second must not replace it.
        files = sum(1 for _ in folder.root.glob("events.out.tfevents.*"))
        purge_step = resume_step + 1 if resume_step or files else None
        self._board = SummaryWriter(str(folder.root), purge_step=purge_step, filename_suffix=f".{files:04d}")

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Add a line of a `kind` ('step' or 'evaluation'); it is on disk after `flush`."""
        if self._writes:
            self._metrics.append(json.dumps({"kind": kind, "step": step, **values}, allow_nan=False) + "\n")

    def describe_evaluation(
        self, evaluation: Evaluation, training: Mapping[str, Any], speed: Mapping[str, Any]
    ) -> None:
        """Add a line to `evaluations.jsonl`, on disk after `flush`, and its points to TensorBoard's curves.

        Args:
            training: `StepReporter.summarise`.
            speed: `Meter.read`.
        """
        step, valid = evaluation.step, evaluation.losses
        perplexity = perplexities(valid)
        line = {"step": step, "valid": valid, "perplexity": perplexity, "is_best": evaluation.is_best}
        if self._writes:
            self._evaluations.append(json.dumps({**line, **training, **speed}, allow_nan=False) + "\n")
        points = {f"valid/{part}": loss for part, loss in valid.items()}
        points |= {f"perplexity/{part}": value for part, value in perplexity.items()}
        points |= {f"train_mean/{part}": loss for part, loss in training["train"].items()}
        points |= {f"time/{part}": share for part, share in speed["share_of_time"].items()}
        points |= {f"speed/{name}": value for name, value in speed.items() if name != "share_of_time"}
        self.draw(step, points)

    def draw(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add points to TensorBoard's curves."""
        for name, value in scalars.items() if self._writes else ():
            self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Put all lines on disk, before the checkpoint that counts on them, and where a watcher looks."""
        if not self._writes:
            return
        for path, lines in self._buffers.items():
            if lines:
                with path.open("a", encoding="utf-8", newline="\n") as file:
                    file.write("".join(lines))
                    file.flush()
                    os.fsync(file.fileno())
                lines.clear()
        self._board.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.flush()
        if self._writes:
            self._board.close()


def perplexities(losses: Mapping[str, float]) -> dict[str, float]:
    """exp of nats per token; left out where that is no float any more (above 709 nats)."""
    return {part: math.exp(loss) for part, loss in losses.items() if loss < 709.0}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a `metrics.jsonl` or `evaluations.jsonl`, in order; none if there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if _is_whole(line)]


def cut_after(path: Path, step: int) -> None:
    """Cut such a file off after the last line of `step`, and any torn line, by rename."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if _is_whole(line) and json.loads(line)["step"] <= step]
    if kept != lines:
        with atomic_file(path) as beside:
            beside.write_text("".join(kept), encoding="utf-8", newline="\n")


def _is_whole(line: str) -> bool:
    if not line.endswith("\n"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
