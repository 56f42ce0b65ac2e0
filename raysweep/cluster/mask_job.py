"""Make the shards of the example store in a Ray Data job.

Each shard is made by one call that depends on its task alone and renames its own file into place, so neither
the number of workers nor the order in which they end can change a byte.  (Ray Data's `write_parquet` does
not keep the order of rows, even with `preserve_order`.)
"""

import logging
import pickle
import time
from collections.abc import Iterator, Sequence
from typing import Any

import ray.data

from raysweep.cluster.session import Session
from raysweep.cluster.staged_tasks import make_staged_shard
from raysweep.errors import RaysweepError
from raysweep.pipeline.tasks import Listener, MaskTask
from raysweep.storage.run_files import claim_of

MASK_SHARD = "raysweep.masking.mask_process:make_shard"


def make_shards(
    session: Session,
    tasks: Sequence[MaskTask],
    listener: Listener,
    *,
    workers: int | None,
    mask: str = MASK_SHARD,
) -> list[dict[str, Any]]:
    """Make the shards; returns their summaries in the tasks' order.

    Args:
        workers: shards made at a time, each on one CPU; None: as many as the nodes have CPUs now, so that the
            autoscaler starts none, with a GPU, for work that needs none.
        mask: the function, 'module:function', called with a task's fields.

    Raises:
        RaysweepError: the error of the first shard that failed.
        RuntimeError: a shard failed with an error that is not ours.
    """
    documents = [task.rows[1] - task.rows[0] for task in tasks]
    listener.advance("mask", 0, sum(documents), "documents")
    summaries: dict[int, dict[str, Any]] = {}
    done = examples = 0
    began = time.monotonic()
    for index, outcome in _run(session, tasks, mask, workers):
        if isinstance(outcome, RaysweepError):
            raise outcome
        if isinstance(outcome, Exception):
            raise RuntimeError(f"shard {tasks[index].shard}: {outcome}")
        summaries[index] = outcome
        done, examples = done + documents[index], examples + outcome["examples"]
        rate = examples / max(time.monotonic() - began, 1e-9)
        listener.advance("mask", done, sum(documents), f"documents  {rate:,.0f} examples/s")
    return [summaries[index] for index in range(len(tasks))]


def _run(session: Session, tasks: Sequence[MaskTask], mask: str, workers: int | None) -> Iterator[tuple[int, Any]]:
    """Call `mask` with every task; yields the task's index and its summary or error, in the order of their ends."""

    def make_shard(row: dict[str, Any]) -> dict[str, Any]:
        # Rows are Arrow's, which has no type for our records.
        task = pickle.loads(row["task"])  # noqa: S301 - written below
        outcome = make_staged_shard(mask, task, require, ticket, documents)
        return {"index": row["index"], "outcome": pickle.dumps(outcome)}

    require, ticket = session.check.require if session.check else None, session.ticket
    documents = claim_of(tasks[0].documents) if ticket else None
    quiet_ray_data()
    rows = [{"index": index, "task": pickle.dumps(task)} for index, task in enumerate(tasks)]
    cpus = int(ray.cluster_resources()["CPU"])  # type: ignore[no-untyped-call]
    pool = ray.data.TaskPoolStrategy(size=min(workers or cpus, len(rows)))
    shards = ray.data.from_items(rows, override_num_blocks=len(rows)).map(make_shard, num_cpus=1, compute=pool)
    for row in shards.iter_rows():
        yield int(row["index"]), pickle.loads(row["outcome"])  # noqa: S301 - written by our own worker


def quiet_ray_data() -> None:
    """Leave progress to our own lines."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    # Ray Data logs its plan, and that there are no progress bars.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
