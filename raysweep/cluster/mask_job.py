"""Makes the shards of the example store in a Ray Data job.

Each shard is made by one call that depends on its task alone and renames its own file into place, so neither
the number of workers nor the order in which they finish can change a byte.  (Ray Data's `write_parquet` does
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
    """Make the shards; return their summaries in the order of the tasks.

    Args:
        workers: number of shards made at once, each on one CPU; None for the number of CPUs that the nodes have now,
            so that the autoscaler starts no GPU node for work that needs no GPU.
        mask: the function, 'module:function', called with a task's fields.

    Raises:
        RaysweepError: the error of the first shard that failed.
        RuntimeError: a shard failed with an error that is not raysweep's own.
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
    """Call `mask` for every task; yield each task's index and its summary or error, as they finish."""

    def make_shard(row: dict[str, Any]) -> dict[str, Any]:
        # Rows are stored by Arrow, which has no type for these records.
        task = pickle.loads(row["task"])  # noqa: S301 - written below
        outcome = make_staged_shard(mask, task, require, ticket, documents)
        return {"index": row["index"], "outcome": pickle.dumps(outcome)}

    require, ticket = session.check.require if session.check else None, session.ticket
    documents = claim_of(tasks[0].documents) if ticket else None
    quiet_ray_data()
    rows = [{"index": index, "task": pickle.dumps(task)} for index, task in enumerate(tasks)]
    # A head may have no CPU, and no worker may have come yet; one shard then asks for a node.
    cpus = max(1, int(ray.cluster_resources().get("CPU", 0.0)))  # type: ignore[no-untyped-call]
    pool = ray.data.TaskPoolStrategy(size=min(workers or cpus, len(rows)))
    shards = ray.data.from_items(rows, override_num_blocks=len(rows)).map(make_shard, num_cpus=1, compute=pool)
    for row in shards.iter_rows():
        yield int(row["index"]), pickle.loads(row["outcome"])  # noqa: S301 - written by our own worker


def quiet_ray_data() -> None:
    """Disable Ray Data's progress bars in favour of raysweep's own lines."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    # Ray Data logs its plan, and the absence of progress bars.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
