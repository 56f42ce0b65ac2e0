"""Runs a function in a separate process that ends at once when it is told to, or when this process is gone.

The separate process reads from a pipe whose other end only this process holds; when that end is closed, even by
kill -9, the separate process exits.  A pool alone would wait for work that has begun, and its process would outlive a
killed parent.
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
    """Runs one function after another in a separate process; any thread may stop it."""

    def __init__(self) -> None:
        self._theirs, self._ours = Pipe(duplex=False)

    def run(self, work: Callable[..., Result], *arguments: object, if_killed: str) -> Result:
        """Run a picklable function on picklable arguments, and return its result.

        Raises:
            BrokenProcessPool: `stop` was called.
            ResourceError: anything else ended the process; `if_killed` is the message.
        """
        how: dict[str, Any] = {
            "mp_context": get_context("spawn"),
            "initializer": _end_with,
            "initargs": (self._theirs,),
        }
        with ProcessPoolExecutor(1, **how) as pool:
            # A terminal sends Ctrl-C to the separate process too, which would print a traceback; only the caller
            # handles it. SIGINT is blocked after the pool is made: the pool's locks start multiprocessing's resource
            # tracker, which unblocks it.
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
        """End the running function, and refuse later ones."""
        self._ours.close()


def _end_with(lifeline: "Connection[None, None]") -> None:
    def watch() -> None:
        lifeline.poll(None)  # nothing is ever sent
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
