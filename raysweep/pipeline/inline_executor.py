"""Carries the work out in this process, one piece after another: no Ray, no concurrency.

For small runs and tests, and the yardstick for the cluster's results: the files are the same.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raysweep.pipeline.tasks import Listener, MaskTask, ScoreTask, TrainTask
from raysweep.planning.budget import BudgetWatch


class InlineExecutor:
    """An `Executor` without a cluster."""

    def __init__(self, threads: int = 1, *, fail_fast: bool = False, budget: BudgetWatch | None = None) -> None:
        """Args: `threads` of one trial, `resources.cpus_per_trial`: sums of floats depend on how they are divided."""
        self._threads, self._fail_fast, self._budget = threads, fail_fast, budget

    def mask(self, tasks: Sequence[MaskTask], listener: Listener) -> list[dict[str, Any]]:
        """Make the shards."""
        from raysweep.masking.mask_shard import mask_shard

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
        from raysweep.pipeline.inline_training import train_inline

        train_inline(tasks, listener, threads=self._threads, fail_fast=self._fail_fast, budget=self._budget)

    def score(self, tasks: Sequence[ScoreTask], listener: Listener) -> None:
        """Score the models."""
        import torch

        from raysweep.evaluation.scoring import score_model

        torch.set_num_threads(1)
        for done, task in enumerate(tasks):
            listener.advance("evaluate", done, len(tasks), "models")
            score_model(**{field.name: getattr(task, field.name) for field in dataclasses.fields(task)})

    def time_model(self, folder: Path, ensemble: Sequence[Path], repeats: int, listener: Listener) -> dict[str, Any]:
        """Time one model."""
        from raysweep.evaluation.speed import measure_speed

        listener.advance("evaluate", 0, 1, "models timed")
        return measure_speed(folder, repeats, ensemble=ensemble)

    def close(self) -> None:
        """Nothing was started."""
