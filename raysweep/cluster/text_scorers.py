"""Score parts of a corpus of new texts in a Ray Data job, on a pool of actors that keep their model.

Each task writes its own files by rename, so neither the number of actors nor the order in which tasks end can change a
byte.  An actor that dies is replaced by Ray Data, and its task is done again.
"""

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import ray.data

from raysweep.cluster.functions import call_with_fields
from raysweep.cluster.scorers import count_places
from raysweep.cluster.session import Session
from raysweep.errors import RaysweepError, TrainingError
from raysweep.pipeline.tasks import TextTask
from raysweep.scheduling.capacity import Capacity

SCORE_PART = "raysweep.inference.text_parts:score_part"
_MOST_BLOCKS = 4096
"""Blocks of the data set of tasks; with more tasks, a block holds several."""


def score_parts(
    session: Session, tasks: Sequence[TextTask], *, score: str = SCORE_PART
) -> Iterator[tuple[TextTask, int]]:
    """Score the parts; yields each task with the number of its texts, in the order of their ends.

    Args:
        score: the function, 'module:function', called with a task's fields and `device`.

    Raises:
        RaysweepError: the error of the first part that failed, with the model's name.
    """
    need = session.need()
    ray.data.DataContext.get_current().enable_progress_bars = False
    # Ray Data logs its plan, and that there are no progress bars.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    present = Capacity(cpus=resources.get("CPU", 0.0), gpus=resources.get("GPU", 0.0))
    size = min(len(tasks), count_places(need, len(tasks), present=present, most=present))
    rows = [{"index": index, "task": pickle.dumps(task)} for index, task in enumerate(tasks)]
    done = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS)).map_batches(
        PartScorer,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=2),
        num_cpus=1,
        num_gpus=need.gpus or None,
        fn_constructor_args=(score, session.check.require if session.check else None, need.gpus > 0),
    )
    for row in done.iter_rows():
        task, outcome = tasks[int(row["index"])], pickle.loads(row["outcome"])  # noqa: S301 - written by our own worker
        if isinstance(outcome, RaysweepError):
            raise outcome
        if isinstance(outcome, Exception):
            raise TrainingError(f"model '{task.model}': {outcome}")
        yield task, outcome


class PartScorer:
    """The actor, in a process of its own, which imports torch once."""

    def __init__(self, score: str, require: Callable[[], None] | None, uses_gpu: bool) -> None:
        # Before torch is imported; one thread, so that a score does not depend on the number of cores.
        os.environ["OMP_NUM_THREADS"] = "1"
        import torch

        torch.set_num_threads(1)
        self._score, self._require = score, require
        self._device = "cuda" if uses_gpu and torch.cuda.is_available() else "cpu"

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Score the part of a batch, which holds one task."""
        task = pickle.loads(batch["task"][0])  # noqa: S301 - written above
        outcome = call_with_fields(self._score, task, self._require, device=self._device)
        return {"index": batch["index"], "outcome": np.array([pickle.dumps(outcome)], dtype=object)}
