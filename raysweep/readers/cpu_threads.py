"""Runs CPU work in threads, for kernels and libraries that release the GIL.  Results come in the order of the items, so
the number of threads changes no result."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import pyarrow as pa

Item = TypeVar("Item")
Result = TypeVar("Result")
Block = TypeVar("Block")


class MapBlocks(Protocol):
    """Applies a function to numbered blocks of a corpus, in this process or on other machines."""

    def __call__(
        self, work: Callable[[Block], Result], fetch: Callable[[int], Block], numbers: Sequence[int]
    ) -> Iterator[Result]:
        """Yield the result of `work` for each block, in order.

        Args:
            work: may be pickled and sent to another machine.
            fetch: reads a block, on this machine.
        """


def map_blocks_in_threads(
    work: Callable[[Block], Result], fetch: Callable[[int], Block], numbers: Sequence[int]
) -> Iterator[Result]:
    """Apply `work` to the blocks in threads of this process; a `MapBlocks`."""
    return map_in_threads(lambda number: work(fetch(number)), numbers)


def map_in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the result for each item, in order; at most one item more than there are threads is held at a time.

    There are as many threads as pyarrow uses (`pyarrow.cpu_count`).  An error of `work` is raised in place of its
    result.  All threads have ended once every result was taken or an error was raised, but not if results are left.
    """
    if (threads := pa.cpu_count()) == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    waits = True
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except GeneratorExit:
        # Python may collect this generator in any thread, even in one that holds a lock that a worker needs to end.
        waits = False
        raise
    finally:
        pool.shutdown(wait=waits, cancel_futures=True)
        release_freed_memory()  # threads leave much unused memory behind


def release_freed_memory() -> None:
    """Return memory that Arrow and the C library keep after it was freed to the system."""
    pa.default_memory_pool().release_unused()
    pa.system_memory_pool().release_unused()
