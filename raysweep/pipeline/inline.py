"""Carries the work out in this process, one piece after another: no Ray, no concurrency.

For small runs and tests, and the yardstick for the cluster's results: the files are the same.
"""

import dataclasses
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raysweep.errors import ConfigError
from raysweep.pipeline.signals import Interruption
from raysweep.pipeline.work import Listener, MaskTask, ScoreTask, TrainTask
from raysweep.scheduling import records
from raysweep.scheduling.records import State


class InlineExecutor:
    """An `Executor` without a cluster."""

    def __init__(self, threads: int = 1) -> None:
        """Args: `threads` of one trial, `resources.cpus_per_trial`: sums of floats depend on how they are divided."""
        self._threads = threads

    def mask(self, tasks: Sequence[MaskTask], listener: Listener) -> list[dict[str, Any]]:
        """Make the shards."""
        from raysweep.masking.making import mask_shard

        summaries = []
        for done, task in enumerate(tasks):
            listener.advance("mask", done, len(tasks), "shards")
            summaries.append(
                mask_shard(
                    documents=task.documents,
                    rows=task.rows,
                    shard=task.shard,
                    folder=task.folder,
                    policy=task.policy,
                    seed=task.seed,
                )
            )
        return summaries

    def train(self, tasks: Sequence[TrainTask], listener: Listener) -> None:
        """Train the tasks in their order: parents come before children."""
        import torch

        from raysweep.training.loop import train

        torch.set_num_threads(self._threads)
        lost: set[str] = set()
        for done, task in enumerate(tasks):
            listener.advance("train", done, len(tasks), "trials")
            name, job = task.job.trial, task.job
            if task.search is not None:
                raise ConfigError(f"trials.{name}.search: a search needs Ray; run without --inline")
            if task.fresh:
                task.folder.clear()
            record = records.begin(task.folder, trial=name, fingerprint=job.fingerprint, identity=task.identity)
            if task.parent in lost:
                lost.add(name)
                records.end(task.folder, record, State.BLOCKED, reason=f"its parent {task.parent} is not done")
                continue
            listener.say(f"{name}: training")
            try:
                with Interruption() as interruption:
                    result = train(job, should_stop=lambda: interruption.reason or None)
            except Exception as error:
                # One bad model costs its own children, not the matrix; the record keeps the whole story.
                lost.add(name)
                task.folder.log.write_text(traceback.format_exc(), encoding="utf-8")
                records.end(task.folder, record, State.FAILED, reason=f"{error} (log: {task.folder.log})")
                listener.say(f"{name}: failed: {error}")
                continue
            if result.stopped and result.stopped == interruption.reason:
                records.end(task.folder, record, State.STOPPED, reason=result.stopped)
                listener.say(f"{name}: stopped after step {result.steps:,}/{job.settings.steps:,}: {result.stopped}")
            else:
                records.end(task.folder, record, State.DONE, result=dataclasses.asdict(result))
                listener.say(f"{name}: done, {result.steps:,} steps, best at {result.best_step:,}")
            interruption.raise_if_asked()

    def score(self, tasks: Sequence[ScoreTask], listener: Listener) -> None:
        """Score the models."""
        import torch

        from raysweep.evaluation.scoring import score_model

        torch.set_num_threads(1)
        for done, task in enumerate(tasks):
            listener.advance("evaluate", done, len(tasks), "models")
            score_model(**{field.name: getattr(task, field.name) for field in dataclasses.fields(task)})

    def time_model(self, folder: Path, repeats: int, listener: Listener) -> dict[str, Any]:
        """Time one model."""
        from raysweep.evaluation.speed import measure_speed

        listener.advance("evaluate", 0, 1, "models timed")
        return measure_speed(folder, repeats)

    def close(self) -> None:
        """Nothing was started."""
