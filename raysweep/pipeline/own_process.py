"""Runs a function in a process of its own, which ends at once when it is told to, or when this process is gone.

The process holds one end of a pipe whose other end this process alone has; when that is closed, even by kill -9, the
process ends.  A pool by itself waits for what was begun, and its process outlives a parent that was killed.
"""

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from raysweep.errors import ResourceError

Result = TypeVar("Result")


class OwnProcess:
    """Runs one function after another; any thread may stop it."""

    def __init__(self) -> None:
        self._theirs, self._ours = Pipe(duplex=False)

    def run(self, work: Callable[..., Result], *arguments: object, if_killed: str) -> Result:
        """What the function returns; it and its arguments must be picklable.

        Args:
            if_killed: what to say if something else than `stop` ends it.

        Raises:
            BrokenProcessPool: it was stopped.
            ResourceError: it was killed.
        """
        how: dict[str, Any] = {
            "mp_context": get_context("spawn"),
            "initializer": _end_with,
            "initargs": (self._theirs,),
        }
        with ProcessPoolExecutor(1, **how) as pool:
            # A terminal sends Ctrl-C to the process too, where it would end in a traceback; the caller answers it.
            # After the pool is made: its locks start multiprocessing's resource tracker, and that unblocks SIGINT.
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                running = pool.submit(work, *arguments)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            try:
                return running.result()
            except BrokenProcessPool as error:
                if self._ours.closed:
                    raise
                raise ResourceError(if_killed) from error

    def stop(self) -> None:
        """End what runs, and what would be run later."""
        self._ours.close()


def _end_with(lifeline: "Connection[None, None]") -> None:
    def watch() -> None:
        lifeline.poll(None)  # nothing is ever sent
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
