"""Does the work in this process, one piece after another, without Ray or concurrency.

It serves small runs and tests, and as the reference for the cluster's results, whose files must be the same.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysweep.pipeline.sweep_watch import open_sweep
from raysweep.pipeline.tasks import Listener, MaskTask, ScoreTask, TextPart, TextTask, TrainTask
from raysweep.pipeline.training_attempt import run_attempt
from raysweep.planning.budget import BudgetWatch
from raysweep.scheduling.capacity import Capacity, ResourceRequest

if TYPE_CHECKING:
    from raysweep.readers.cpu_threads import MapBlocks


class InlineExecutor:
    """An `Executor` that needs no cluster."""

    def __init__(self, threads: int = 1, *, fail_fast: bool = False, budget: BudgetWatch | None = None) -> None:
        """Args: `threads` is `resources.cpus_per_trial`; sums of floats depend on the number of threads."""
        self._threads, self._fail_fast, self._budget = threads, fail_fast, budget

    def check(self, listener: Listener) -> None:
        """Refuse nothing: this process can do all the work."""

    def block_mapper(self, listener: Listener) -> "MapBlocks":  # noqa: ARG002
        """Return a function that maps blocks with threads of this process."""
        from raysweep.readers.cpu_threads import map_blocks_in_threads

        return map_blocks_in_threads

    def mask(self, tasks: Sequence[MaskTask], listener: Listener) -> list[dict[str, Any]]:
        from raysweep.masking.mask_process import make_shard

        summaries = []
        for done, task in enumerate(tasks):
            listener.advance("mask", done, len(tasks), "shards")
            summaries.append(make_shard(**_fields(task)))
        return summaries

    def train(self, tasks: Sequence[TrainTask], listener: Listener) -> None:
        """Train one task after another, in the order in which the sweep's state releases them."""
        if not tasks:
            return
        import torch

        # Not `from … import train`, so that the function is looked up at each training.
        from raysweep.training import loop

        torch.set_num_threads(self._threads)
        request = ResourceRequest(cpus=self._threads, gpus=0.0)
        with open_sweep(
            tasks,
            requests={task.job.trial: request for task in tasks},
            capacity=Capacity.used_by([request]),
            listener=listener,
            budget=self._budget,
            fail_fast=self._fail_fast,
        ) as watch:
            state = watch.state

            def should_stop() -> str | None:
                watch.poll_signals()
                watch.poll_budget()
                return state.halted or None

            while not should_stop() and (training := state.release()) is not None:
                name = training.name
                state.begin(name)
                outcome = run_attempt(
                    loop.train,
                    training.job,
                    on_evaluation=partial(state.evaluate, name),
                    pause_at=training.pause_at,
                    should_stop=should_stop,
                )
                # Before the end: the time since the last step would otherwise be charged to no training.
                watch.poll_budget()
                state.end(name, outcome)

    def score(self, tasks: Sequence[ScoreTask], listener: Listener) -> None:
        import torch

        from raysweep.evaluation.scoring import score_model

        torch.set_num_threads(1)
        for done, task in enumerate(tasks):
            listener.advance("evaluate", done, len(tasks), "models")
            score_model(**_fields(task))

    def warm_up(self, tasks: int, listener: Listener) -> None:
        """Do nothing: there is nothing to start."""

    def score_texts(self, tasks: Sequence[TextTask], listener: Listener) -> Iterator[tuple[TextTask, int]]:  # noqa: ARG002
        """Score the parts in order."""
        import torch

        from raysweep.inference.text_parts import score_part

        # One thread, as in Ray's actors: scores must not depend on `resources.cpus_per_trial`.
        torch.set_num_threads(1)
        for task in tasks:
            yield task, task.write(score_part(**_fields(task.read())))

    def time_model(self, folder: Path, ensemble: Sequence[Path], repeats: int, listener: Listener) -> dict[str, Any]:
        from raysweep.evaluation.speed import measure_speed

        listener.advance("evaluate", 0, 1, "models timed")
        return measure_speed(folder, repeats, ensemble=ensemble)

    def close(self) -> None:
        """Do nothing: nothing was started."""


def _fields(task: MaskTask | ScoreTask | TextPart) -> dict[str, Any]:
    return {field.name: getattr(task, field.name) for field in dataclasses.fields(task)}
