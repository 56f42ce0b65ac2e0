"""Does CPU work in threads, for kernels and libraries that release the GIL.  Results come in the order of the items, so
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
    """Works on numbered blocks of a corpus, here or on other machines."""

    def __call__(
        self, work: Callable[[Block], Result], fetch: Callable[[int], Block], numbers: Sequence[int]
    ) -> Iterator[Result]:
        """Yield what `work` makes of each block, in order.

        Args:
            work: may be sent to another machine, with what it refers to.
            fetch: reads a block, on this machine.
        """


def map_blocks_in_threads(
    work: Callable[[Block], Result], fetch: Callable[[int], Block], numbers: Sequence[int]
) -> Iterator[Result]:
    """Work on blocks in threads of this process; a `MapBlocks`."""
    return map_in_threads(lambda number: work(fetch(number)), numbers)


def map_in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the result for each item, in order; at most one item more than there are threads is held at a time.

    There are as many threads as pyarrow uses (`pyarrow.cpu_count`).  An error of `work` is raised at its place.
    Threads have ended when all results were taken or an error is raised, but not where results are left.
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
        # Python may collect this generator in any thread, one that holds a lock that the end of a thread needs too.
        waits = False
        raise
    finally:
        pool.shutdown(wait=waits, cancel_futures=True)
        release_freed_memory()  # threads leave much behind


def release_freed_memory() -> None:
    """Give memory that Arrow and numpy freed back to the system, which both put off."""
    pa.default_memory_pool().release_unused()
    pa.system_memory_pool().release_unused()
