"""Handles SIGTERM during a training without a cluster: the training stops at the end of the step, with a checkpoint.

Batch systems and cloud providers send SIGTERM some seconds before they stop the machine.  A handler that the pipeline
or Ray has installed is kept; these report the stop through `should_stop` instead.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ShouldStop = Callable[[], str | None]
"""Returns the reason to stop, or None."""


@contextmanager
def stop_on_sigterm(should_stop: ShouldStop | None = None) -> Iterator[ShouldStop]:
    """Yield a `should_stop` that also returns 'SIGTERM' after the signal, unless another handler is installed."""
    received: list[int] = []
    in_main_thread = threading.current_thread() is threading.main_thread()
    handles = in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if handles:
        signal.signal(signal.SIGTERM, lambda number, _frame: received.append(number))
    try:
        yield lambda: "SIGTERM" if received else should_stop() if should_stop else None
    finally:
        if handles:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
