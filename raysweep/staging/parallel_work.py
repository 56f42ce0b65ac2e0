"""Does a few things at a time in threads that do not delay the end of the process."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

PARALLEL = 8
"""Number of simultaneous requests."""


def in_parallel(work: Callable[[Any], Any], items: Iterable[Any]) -> None:
    """Do the work for each item, several at a time; raise the first error when all items that were begun are finished.

    The threads are daemons, unlike those of `concurrent.futures`, for which Python would wait at exit for
    as long as requests to an unresponsive store are retried.
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
