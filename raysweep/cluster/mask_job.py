"""The shards of the example store as a Ray Data job.

Every shard is made by one call that depends on its task alone and writes its own file by rename, so
neither the number of workers nor the order in which they end can change a byte.  (Ray Data's own
`write_parquet` keeps no order, even when asked to.)
"""

import logging
import pickle
import time
import traceback
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import ray.data

from raysweep.cluster.functions import resolve
from raysweep.errors import RaysweepError
from raysweep.pipeline.tasks import Listener, MaskTask

MASK_SHARD = "raysweep.masking.mask_shard:mask_shard"


def make_shards(
    tasks: Sequence[MaskTask],
    listener: Listener,
    *,
    workers: int,
    mask: str = MASK_SHARD,
) -> list[dict[str, Any]]:
    """Make the shards; returns their summaries in the tasks' order.

    Args:
        workers: shards made at a time, each on one CPU.
        mask: the function, 'module:function', called with a task's fields.

    Raises:
        RaysweepError: as the first shard that failed raised it.
        RuntimeError: a shard failed with an error of another kind.
    """
    if not tasks:
        return []
    documents = [task.rows[1] - task.rows[0] for task in tasks]
    listener.advance("mask", 0, sum(documents), "documents")
    summaries: dict[int, dict[str, Any]] = {}
    done = examples = 0
    began = time.monotonic()
    for row in _dataset(tasks, mask, workers).iter_rows():
        index = int(row["index"])
        outcome = pickle.loads(row["outcome"])  # noqa: S301 - written by our own worker just now
        if isinstance(outcome, BaseException):
            raise outcome
        summaries[index] = outcome
        done, examples = done + documents[index], examples + outcome["examples"]
        rate = examples / max(time.monotonic() - began, 1e-9)
        listener.advance("mask", done, sum(documents), f"documents  {rate:,.0f} examples/s")
    return [summaries[index] for index in range(len(tasks))]


def _dataset(tasks: Sequence[MaskTask], mask: str, workers: int) -> Any:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # It explains its plan, and that there are no progress bars.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = [{"index": index, "task": pickle.dumps(task)} for index, task in enumerate(tasks)]
    return ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        partial(_make, mask=mask), num_cpus=1, compute=ray.data.TaskPoolStrategy(size=min(workers, len(rows)))
    )


def _make(row: dict[str, Any], mask: str) -> dict[str, Any]:
    """Ray Data's function: an error travels as a value, or it arrives wrapped in Ray's own."""
    task: MaskTask = pickle.loads(row["task"])  # noqa: S301 - written by `_dataset`
    outcome: dict[str, Any] | Exception
    try:
        outcome = resolve(mask)(**{field.name: getattr(task, field.name) for field in fields(task)})
    except RaysweepError as error:
        outcome = error
    except Exception as error:
        story = traceback.format_exc()
        outcome = RuntimeError(f"shard {task.shard}: {type(error).__name__}: {error}\n{story}")
    return {"index": row["index"], "outcome": pickle.dumps(outcome)}
