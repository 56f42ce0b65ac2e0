"""Writes a training's metrics: `metrics.jsonl`, `evaluations.jsonl`, and TensorBoard's event files.

`metrics.jsonl` has one line per step and one per evaluation, in order, each step exactly once: lines are on disk before
the checkpoint that follows them, and a resumed training first truncates the file after its checkpoint, including a line
truncated by a kill.  It has no times, so the same job writes the same bytes.

`evaluations.jsonl` has one line per evaluation with all its values, including speed and memory.
"""

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic_core import from_json

from raysweep.config.scored_metrics import perplexity
from raysweep.storage.atomic_files import atomic_file
from raysweep.storage.run_folder import TrialFolder
from raysweep.training.hyperparameters import Hyperparameters
from raysweep.training.job import Evaluation

_SPEED = ("tokens_per_second", "padding_share", "mfu", "peak_memory_bytes")
_COUNTS = ("examples", "tokens")


class MetricsLog:
    """Appends records; use it as a context manager, so that the records before an error are on disk."""

    def __init__(
        self,
        folder: TrialFolder,
        *,
        resume_step: int,
        is_main: bool = True,
        hyperparameters: Hyperparameters | None = None,
    ) -> None:
        """Keep the lines up to `resume_step` and remove the rest.

        Args:
            resume_step: the step of the checkpoint, 0 if the training starts from the beginning.
            is_main: False on all workers of a training except rank 0; their records are dropped.
            hyperparameters: for TensorBoard's HParams tab.
        """
        self._is_main = is_main
        # Evaluations are written first, so that a reader who sees the step after one also sees the evaluation.
        self._buffers: dict[Path, list[str]] = {folder.evaluations: [], folder.metrics: []}
        self._evaluations, self._metrics = self._buffers.values()
        if not is_main:
            return
        # Imported here, because the benchmark does not need it.
        from tensorboardX import SummaryWriter

        folder.root.mkdir(parents=True, exist_ok=True)
        for path in self._buffers:
            cut_after(path, resume_step)
        # TensorBoard names a file by the current second; the suffix keeps files of the same second apart.
        files = sum(1 for _ in folder.root.glob("events.out.tfevents.*"))
        purge_step = resume_step + 1 if resume_step or files else None
        self._board = SummaryWriter(str(folder.root), purge_step=purge_step, filename_suffix=f".{files:04d}")
        if hyperparameters:
            draw_hyperparameters(self._board, hyperparameters)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Add a line of a `kind` ('step' or 'evaluation'), which is on disk after `flush`."""
        if self._is_main:
            self._metrics.append(json.dumps({"kind": kind, "step": step, **values}, allow_nan=False) + "\n")

    def write_evaluation(
        self, evaluation: Evaluation, training: Mapping[str, Any], throughput: Mapping[str, Any]
    ) -> None:
        """Add a line to `metrics.jsonl` and `evaluations.jsonl`, on disk after `flush`, and points to TensorBoard.

        Args:
            training: the return value of `StepReporter.summarise`.
            throughput: the return value of `describe_throughput`.
        """
        step, losses = evaluation.step, evaluation.losses
        perplexities = {part: perplexity(loss) for part, loss in losses.items()}
        self.write("evaluation", step, {**losses, "is_best": evaluation.is_best})
        line = {"step": step, "valid": losses, "perplexity": perplexities, "is_best": evaluation.is_best}
        line |= {**training, **throughput}
        if self._is_main:
            self._evaluations.append(json.dumps(line, allow_nan=False) + "\n")
        self.draw(step, evaluation_curves(line))

    def draw(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add points to TensorBoard's curves."""
        if self._is_main:
            for name, value in scalars.items():
                self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Write all pending lines to disk."""
        if not self._is_main:
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
        if self._is_main:
            self._board.close()


def evaluation_curves(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the points of a line of `evaluations.jsonl`, by the names of their curves.

    `valid/loss` is the loss that selects the best model: that of the answers or, for language models, of the text.
    """
    losses = line["valid"]
    curves = {
        "valid": {"loss": losses.get("infill", losses.get("context")), **losses},
        "perplexity": line["perplexity"],
        "train_mean": line["train"],
        "time": line["share_of_time"],
        "speed": {name: line[name] for name in _SPEED if name in line},
    }
    return {f"{curve}/{name}": value for curve, values in curves.items() for name, value in values.items()}


def step_curves(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the points of a step's line of `metrics.jsonl`, by the names of their curves."""
    return {f"train/{name}": value for name, value in line.items() if name not in ("kind", "step", *_COUNTS)}


def draw_hyperparameters(board: Any, values: Hyperparameters, metrics: Collection[str] | None = None) -> None:
    """Write a training's values for TensorBoard's HParams tab.

    Args:
        board: a `tensorboardX.SummaryWriter`.
        metrics: the curves that become columns of the tab; TensorBoard shows all curves if no training names any.
    """
    from tensorboardX.summary import hparams

    experiment, start, _ = hparams(values, dict.fromkeys(metrics or (), 0.0))
    for summary in (experiment, start) if metrics else (start,):
        board.file_writer.add_summary(summary)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read all complete lines of a `metrics.jsonl` or `evaluations.jsonl`, in order; none if there is no file."""
    if not path.exists():
        return []
    content = path.read_bytes()
    complete = content[: content.rfind(b"\n") + 1]
    try:
        # One call takes half the time of one call per line, and pydantic's parser less than half of json's.
        parsed = from_json(b"[%b]" % complete.replace(b"\n", b",")[:-1])
    except ValueError:  # a line was truncated by a kill
        parsed = map(_parse, content.decode("utf-8").splitlines(keepends=True))
    return [values for values in parsed if isinstance(values, dict)]


def cut_after(path: Path, step: int) -> None:
    """Remove the lines after `step`, and any truncated line, by rename."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if (values := _parse(line)) is not None and values["step"] <= step]
    if kept != lines:
        with atomic_file(path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8", newline="\n")


def _parse(line: str) -> dict[str, Any] | None:
    """Parse a line; None if it was truncated by a kill."""
    if not line.endswith("\n"):
        return None
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None
