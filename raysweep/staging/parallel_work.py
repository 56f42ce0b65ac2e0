"""Does a few things at a time in threads that do not keep a process from its end."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

PARALLEL = 8
"""Requests at a time."""


def in_parallel(work: Callable[[Any], Any], items: Iterable[Any]) -> None:
    """Do the work for each item, several at a time; the first error is raised when all that began are over.

    The threads are daemons, which those of `concurrent.futures` are not: Python would wait for them at its exit, for
    as long as a store that does not answer is tried.
    """
    left, errors = deque(items), deque[BaseException]()

    def take_items() -> None:
        while not errors:
            try:
                item = left.popleft()
            except IndexError:
                return
            try:
                work(item)
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=take_items, daemon=True) for _ in range(min(PARALLEL, len(left)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
