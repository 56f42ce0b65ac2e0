"""Runs one attempt at a training, in the process that trains, with or without Ray.

It calls the training loop, writes the worker's log and the attempt's events, and returns how the attempt
ended as a value, because an error of the loop must not look like a lost worker.  Between two steps the loop
checks whether to stop, and saves a checkpoint before it does.
"""

import dataclasses
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from raysweep.errors import RaysweepError
from raysweep.scheduling.attempts import kept_seconds, note
from raysweep.scheduling.failures import Failure, failure_of
from raysweep.scheduling.outcomes import Failed, Finished, Outcome, Paused, Stopped
from raysweep.scheduling.stop_requests import StopWatch
from raysweep.storage.run_folder import TrialFolder
from raysweep.training.job import Evaluation, TrainingJob, TrainingResult

_PAUSED = "waits for the other samples of its round"

logger = logging.getLogger(__name__)


def run_attempt(
    train: Callable[..., TrainingResult],
    job: TrainingJob,
    *,
    on_evaluation: Callable[[Evaluation], None],
    pause_at: int | None = None,
    should_stop: Callable[[], str | None] | None = None,
    preempted: Callable[[], str | None] | None = None,
    rank: int = 0,
    **where: Any,
) -> Outcome:
    """Train until the end, a rung, a reason to stop, or an error.

    Args:
        train: called like `training.loop.train`, with `where` as further arguments.
        pause_at: the step of the evaluation after which to pause; see `scheduling.successive_halving`.
        should_stop: called between two steps, in addition to checking the request file in the trial's folder.
        preempted: likewise; a reason means that the node is about to be preempted.
        rank: rank of this worker; only rank 0 writes the log and the events.
    """
    folder, is_main = TrialFolder(job.folder), rank == 0
    stop_reasons = _StopReasons(StopWatch(folder), pause_at, should_stop, preempted)

    def evaluated(evaluation: Evaluation) -> None:
        stop_reasons.see(evaluation)
        on_evaluation(evaluation)

    try:
        with _logging_to(folder.log) if is_main else nullcontext(), _noted(folder, job.trial, is_main) as note_end:
            result = train(job, rank=rank, on_evaluation=evaluated, should_stop=stop_reasons, **where)
            # If patience stopped it, the training is finished.
            is_stopped = result.stopped != "" and result.stopped == stop_reasons.reason
            note_end("stopped" if is_stopped else "done", result.seconds)
    except Exception as error:
        failure = failure_of(error)
        lost = "another worker of this training was lost: " if failure is Failure.WORKER else ""
        return Failed(message=f"{lost}{describe_error(error)}", failure=failure)
    if not is_stopped:
        return Finished(result=dataclasses.asdict(result))
    # There is a checkpoint but no model; the next attempt resumes from it.
    if stop_reasons.is_preempted:
        return Failed(message=f"{result.stopped}; saved after step {result.steps:,}", failure=Failure.PREEMPTED)
    if result.stopped == _PAUSED:
        return Paused(steps=result.steps)
    return Stopped(reason=result.stopped, steps=result.steps)


def describe_error(error: Exception) -> str:
    """Return the message of raysweep's own errors; for others, prefix the class."""
    return str(error) if isinstance(error, RaysweepError) else f"{type(error).__name__}: {error}"


@dataclasses.dataclass(slots=True)
class _StopReasons:
    """Called between two steps; returns the first reason to stop that occurred, or None."""

    requests: StopWatch
    pause_at: int | None
    should_stop: Callable[[], str | None] | None
    preempted: Callable[[], str | None] | None
    is_at_rung: bool = False
    is_preempted: bool = False
    reason: str | None = None

    def see(self, evaluation: Evaluation) -> None:
        """Take note of an evaluation."""
        self.is_at_rung = self.pause_at is not None and evaluation.step >= self.pause_at

    def __call__(self) -> str | None:
        if self.reason is None and self.is_at_rung:
            self.reason = _PAUSED
        if self.reason is None and self.should_stop is not None:
            self.reason = self.should_stop()
        if self.reason is None:
            self.reason = self.requests()
        if self.reason is None and self.preempted is not None:
            self.reason = self.preempted()
            self.is_preempted = self.reason is not None
        return self.reason


@contextmanager
def _noted(folder: TrialFolder, trial: str, is_main: bool) -> Iterator[Callable[..., None]]:
    """Record the attempt's start, and its end by calling the yielded function or by an error."""

    def write(what: str, **values: Any) -> None:
        if is_main:
            note(folder, what, **values)

    write("start", kept=kept_seconds(folder), host=socket.gethostname(), pid=os.getpid())
    try:
        yield lambda how, kept: write("end", how=how, kept=dict(kept))
    except Exception as error:
        # Logged as info: the sweep reports the failure to the user, together with its decision.
        logger.info("%s: failed", trial, exc_info=True)
        if (failure := failure_of(error)) is not Failure.DISK:
            write("end", how=failure, kept=kept_seconds(folder))
        raise


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    ours = logging.getLogger("raysweep")
    level = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.setLevel(level)
        ours.removeHandler(handler)
        handler.close()
