"""What a training tells while it runs: `metrics.jsonl`, and TensorBoard's event files beside it.

`metrics.jsonl` has one line a step and one an evaluation, in order, each step exactly once: lines are
on disk before the checkpoint that follows them, and a resumed training first cuts off whatever comes
after its checkpoint, a line torn by a kill included.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from raysweep.store import TrialFolder, written_beside


class MetricsLog:
    """Appends records; use it as a context manager, so that an error leaves the curve up to it on disk."""

    def __init__(self, folder: TrialFolder, *, resume_step: int, writes: bool = True) -> None:
        """Keep what `resume_step` and the steps before it wrote; cut off the rest.

        Args:
            resume_step: the checkpoint's step, 0 if the training starts anew.
            writes: False for all workers of a training but the first: what they say is dropped.
        """
        self._writes = writes
        self._buffer: list[str] = []
        if not writes:
            return
        # Imported here: a machine that only runs the benchmark need not have it.
        from tensorboardX import SummaryWriter

        folder.root.mkdir(parents=True, exist_ok=True)
        self._path = folder.metrics
        cut_after(self._path, resume_step)
        self._board = SummaryWriter(str(folder.root), purge_step=resume_step + 1 if resume_step else None)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Add a line of a `kind` ('step' or 'evaluation'); it is on disk after `flush`."""
        if self._writes:
            self._buffer.append(json.dumps({"kind": kind, "step": step, **values}, allow_nan=False) + "\n")

    def draw(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add points to TensorBoard's curves."""
        for name, value in scalars.items() if self._writes else ():
            self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Put all lines on disk, before the checkpoint that counts on them, and where a watcher looks."""
        if not self._writes:
            return
        if self._buffer:
            with self._path.open("a", encoding="utf-8", newline="\n") as file:
                file.write("".join(self._buffer))
                file.flush()
                os.fsync(file.fileno())
            self._buffer.clear()
        self._board.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.flush()
        if self._writes:
            self._board.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a `metrics.jsonl`, in order; none if there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if _is_whole(line)]


def cut_after(path: Path, step: int) -> None:
    """Cut a `metrics.jsonl` off after the last line of `step`, and any torn line, by rename."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if _is_whole(line) and json.loads(line)["step"] <= step]
    if kept != lines:
        with written_beside(path) as beside:
            beside.write_text("".join(kept), encoding="utf-8", newline="\n")


def _is_whole(line: str) -> bool:
    if not line.endswith("\n"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
