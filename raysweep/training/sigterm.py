"""SIGTERM during a training without a cluster around it: a checkpoint at the end of the step, then a stop.

Batch systems and cloud machines send it some seconds before they take the machine away.  Whoever has
put an answer of their own in place (a pipeline, Ray) keeps it, and asks `should_stop` instead.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

ShouldStop = Callable[[], str | None]

TERMINATED = "SIGTERM"


class TermSignal:
    """As a context: SIGTERM is remembered instead of ending the process, where nobody else answers it."""

    def __init__(self, asked_by_others: ShouldStop | None = None) -> None:
        self._others = asked_by_others
        self._came = self._catches = False

    def should_stop(self) -> str | None:
        """Why to stop, or None."""
        return TERMINATED if self._came else self._others() if self._others else None

    def __enter__(self) -> Self:
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._catches = in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if self._catches:
            signal.signal(signal.SIGTERM, self._take)
        return self

    def _take(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's arguments
        self._came = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._catches:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
