"""Trainings in this process, one after another; their records and accounts are those of the cluster's.

A failed training is tried again as its failure calls for (`scheduling.failures`), but for lack of
memory: there are no neighbours here to do without.
"""

import dataclasses
import time
import traceback
from collections import Counter
from collections.abc import Sequence

from raysweep.errors import ConfigError
from raysweep.pipeline.signals import Interruption
from raysweep.pipeline.tasks import Listener, TrainTask
from raysweep.planning.budget import BudgetWatch
from raysweep.scheduling import records
from raysweep.scheduling.attempts import kept_seconds, note
from raysweep.scheduling.failures import Failure, failure_of, remedy
from raysweep.scheduling.records import State
from raysweep.training.job import TrainingResult


class _Cap:
    """The budget, as far as a training in this process meets it."""

    def __init__(self, budget: BudgetWatch | None, threads: int) -> None:
        self._budget, self._threads = budget, threads
        self.reason = ""
        """Why no training goes on; '' while the budget holds."""

    def look(self) -> str:
        """Count the time since the last look."""
        if self._budget is not None and not self.reason:
            self.reason = self._budget.record_usage(time.monotonic(), gpus=0.0, cores=float(self._threads))
        return self.reason

    def close(self) -> None:
        """Keep the account."""
        if self._budget is not None:
            self._budget.close()


def train_inline(
    tasks: Sequence[TrainTask],
    listener: Listener,
    *,
    threads: int,
    fail_fast: bool,
    budget: BudgetWatch | None = None,
) -> None:
    """Train the tasks in their order: parents come before children.

    Args:
        threads: of torch; sums of floats depend on how they are divided.
        fail_fast: whether to leave it at the first that fails.
        budget: the budget; at its cap the training stops at a checkpoint, and no other starts.

    Raises:
        ConfigError: a task is a search.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the training that ran has saved a checkpoint.
    """
    import torch

    torch.set_num_threads(threads)
    for task in tasks:
        if task.search is not None:
            raise ConfigError(f"trials.{task.job.trial}.search: a search needs Ray; run without --inline")
    cap = _Cap(budget, threads)
    try:
        _train_all(tasks, listener, threads=threads, fail_fast=fail_fast, cap=cap)
    finally:
        cap.close()


def _train_all(tasks: Sequence[TrainTask], listener: Listener, *, threads: int, fail_fast: bool, cap: _Cap) -> None:
    lost: set[str] = set()
    cap.look()
    for done, task in enumerate(tasks):
        if cap.reason:
            return
        listener.advance("train", done, len(tasks), "trials")
        if task.fresh:
            task.folder.clear()
        if task.parent in lost:
            records.block(
                task.folder,
                trial=task.job.trial,
                fingerprint=task.job.fingerprint,
                identity=task.identity,
                reason=f"its parent {task.parent} is not done",
            )
            lost.add(task.job.trial)
        elif not _train_one(task, listener, threads, cap):
            lost.add(task.job.trial)
            if fail_fast:
                listener.say(f"--fail-fast: {task.job.trial} failed, so nothing more is trained")
                return


def _train_one(task: TrainTask, listener: Listener, threads: int, cap: _Cap) -> bool:
    """Train until it is done or must be given up.  Returns whether it is done."""
    name, failures = task.job.trial, Counter[Failure]()
    while True:
        record = records.begin(
            task.folder,
            trial=name,
            fingerprint=task.job.fingerprint,
            identity=task.identity,
            slots=float(threads),
        )
        listener.say(f"{name}: training" + (f", attempt {record.attempts}" if record.attempts > 1 else ""))
        interruption = Interruption()
        try:
            with interruption:
                result = _attempt(task, interruption, cap)
        except Exception as error:
            # One bad model costs its own children, not the matrix; the log keeps the whole story.
            failure, message = failure_of(error), str(error)
            task.folder.log.write_text(traceback.format_exc(), encoding="utf-8")
            failures[failure] += 1
            found = remedy(failure, failures[failure], max_failures=0, shares_memory=False)
            why = f"{found.why}; " if found.why else ""
            reason = f"{message} ({why}log: {task.folder.log})"
            state = State.PENDING if found.again else State.FAILED
            records.end(task.folder, record, state, reason=reason, failure=failure)
            listener.say(f"{name}: {'' if found.again else 'failed: '}{reason}")
            if found.again:
                continue
            return False
        if result.stopped and result.stopped in (interruption.reason, cap.reason):
            records.end(task.folder, record, State.STOPPED, reason=result.stopped)
            listener.say(f"{name}: stopped after step {result.steps:,}/{task.job.settings.steps:,}: {result.stopped}")
        else:
            records.end(task.folder, record, State.DONE, result=dataclasses.asdict(result))
            listener.say(f"{name}: done, {result.steps:,} steps, best at {result.best_step:,}")
        interruption.raise_if_asked()
        return True


def _attempt(task: TrainTask, interruption: Interruption, cap: _Cap) -> TrainingResult:
    from raysweep.training.loop import train

    note(task.folder, "start", kept=kept_seconds(task.folder))
    try:
        result = train(task.job, should_stop=lambda: interruption.reason or cap.look() or None)
    except Exception as error:
        if (failure := failure_of(error)) is not Failure.DISK:
            note(task.folder, "end", how=failure, kept=kept_seconds(task.folder))
        raise
    is_stopped = result.stopped != "" and result.stopped in (interruption.reason, cap.reason)
    note(task.folder, "end", how="stopped" if is_stopped else "done", kept=dict(result.seconds))
    return result
