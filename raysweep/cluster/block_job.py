"""Processes the blocks of a corpus in Ray Data jobs, on the nodes other than the one that this process runs on.

A block is read on this node, where the corpus is, and is sent through the object store, like its result.  Results come
in the order of the blocks, and each depends on its block alone, so neither the number of nodes nor the order in which
they finish can change a byte.  A job takes a limited number of blocks and bytes at a time, so neither this process nor
the object store ever holds the whole corpus.
"""

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Self

import pyarrow as pa
import ray.data

from raysweep.cluster.functions import catch_errors
from raysweep.cluster.mask_job import quiet_ray_data
from raysweep.cluster.session import Session
from raysweep.pipeline.tasks import Listener
from raysweep.readers.cpu_threads import Block, Result, map_blocks_in_threads, map_in_threads

_BLOCKS_AT_ONCE, _BYTES_AT_ONCE = 32, 512 * 2**20
"""A job ends at this many blocks, or with the block that reaches this many bytes; results take about as many again."""
_LOOK_S, _START_S, _JOB_S = 0.14, 6.0, 0.2
_SEND_S, _LOOK_THERE_S, _TAKE_S = 0.025, 0.3, 0.025
"""Seconds, measured as CPU time (BENCHMARKS.md): to process a block in a thread here; until a node has started
its processes and compiled the kernels; to begin and end a job; and, for a block processed elsewhere, to read
and send it, to process it there, and to receive the result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Nodes:
    """The nodes of a cluster."""

    here: str
    """Id of the node that this process runs on."""
    cpus_here: int
    others: int
    cpus_elsewhere: int

    @classmethod
    def find(cls) -> Self:
        """Count the nodes of the joined cluster, and their CPUs."""
        here = ray.get_runtime_context().get_node_id()
        cpus = {node["NodeID"]: int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]
        cpus.pop(here, None)
        elsewhere = [count for count in cpus.values() if count]
        # Not Ray's count of this node, which may be lowered to keep tasks off it: pyarrow's count decides the threads.
        return cls(here=here, cpus_here=pa.cpu_count(), others=len(elsewhere), cpus_elsewhere=sum(elsewhere))

    def save_time(self, blocks: int) -> bool:
        """Return whether this many blocks are processed faster elsewhere than in the one thread of this machine.

        Two threads are at worst 0.014 s per block slower than any number of nodes, which is within the figures'
        variation.
        """
        if self.cpus_here > 1 or not self.cpus_elsewhere:
            return False
        # All blocks of a job are sent before the first is processed; results are received while others are processed.
        there = _SEND_S + max(_TAKE_S, _LOOK_THERE_S / self.cpus_elsewhere) + _JOB_S / _BLOCKS_AT_ONCE
        return blocks * (_LOOK_S - there) > _START_S


def spread_blocks(
    session: Session,
    listener: Listener,
    work: Callable[[Block], Result],
    fetch: Callable[[int], Block],
    numbers: Sequence[int],
) -> Iterator[Result]:
    """Process the blocks where that is faster: in threads of this process, or on the other nodes."""
    nodes = Nodes.find()
    if not nodes.save_time(len(numbers)):
        return map_blocks_in_threads(work, fetch, numbers)
    where = f"{nodes.others:,} other {'node' if nodes.others == 1 else 'nodes'} ({nodes.cpus_elsewhere:,} CPUs)"
    listener.say(f"prepare: texts are looked at through Ray Data, on {where}")
    return map_blocks(session, work, fetch, numbers, cpus=nodes.cpus_elsewhere, spared=nodes.here)


def map_blocks(
    session: Session,
    work: Callable[[Block], Result],
    fetch: Callable[[int], Block],
    numbers: Sequence[int],
    *,
    cpus: int,
    spared: str = "",
) -> Iterator[Result]:
    """Do on the nodes what `cpu_threads.map_blocks_in_threads` does in threads.

    Args:
        work: pickled, like the blocks and the results.
        cpus: number of blocks processed at once, each on one CPU.
        spared: id of a node that gets a block only if no other has room for it.

    Raises:
        RaysweepError: `work` raised it, or a node differs from this one.
        RuntimeError: `work` raised an error that is not raysweep's own.
    """
    quiet_ray_data()
    require = session.check.require if session.check else None

    def work_on(batch: pa.Table) -> pa.Table:
        block = pickle.loads(batch["block"][0].as_buffer())  # noqa: S301 - written below
        outcome = pickle.dumps(catch_errors(require, partial(work, block)), protocol=5)
        return _row(batch["number"][0].as_py(), outcome)

    pickled = map_in_threads(lambda number: pickle.dumps(fetch(number), protocol=5), numbers)
    rows = (_row(number, block) for number, block in zip(numbers, pickled, strict=True))
    # The node that reads the blocks holds them in its object store, so Ray would choose it first.
    elsewhere = {"label_selector": {"ray.io/node-id": f"!{spared}"}, "fallback_strategy": [{"label_selector": {}}]}
    options: dict[str, Any] = elsewhere if spared else {}

    def begin(most: Sequence[int]) -> tuple[Sequence[int], ray.data.Dataset]:
        refs: list[Any] = []
        size = 0
        for row in islice(rows, len(most)):
            refs.append(ray.put(row))
            size += row.nbytes
            if size >= _BYTES_AT_ONCE:
                break
        pool = ray.data.TaskPoolStrategy(size=min(cpus, len(refs)))
        blocks = ray.data.from_arrow_refs(refs)
        job = blocks.map_batches(work_on, batch_size=None, batch_format="pyarrow", num_cpus=1, compute=pool, **options)
        return most[: len(refs)], job

    done = 0
    while done < len(numbers):
        for result in _in_order(*begin(numbers[done : done + _BLOCKS_AT_ONCE])):
            done += 1
            yield result


def _row(number: int, block: bytes) -> pa.Table:
    return pa.table({"number": [number], "block": pa.array([block], pa.large_binary())})


def _in_order(numbers: Sequence[int], outcomes: ray.data.Dataset) -> Iterator[Any]:
    waiting, early = iter(numbers), dict[int, pa.Buffer]()
    following = next(waiting, None)
    for batch in outcomes.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        assert isinstance(batch, pa.Table)
        early |= {number.as_py(): block.as_buffer() for number, block in zip(*batch.columns, strict=True)}
        while following in early:
            outcome = pickle.loads(early.pop(following))  # noqa: S301 - written by our own worker
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome
            following = next(waiting, None)
    assert following is None, "every block has a result"
