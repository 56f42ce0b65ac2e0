"""Handles Ctrl-C and SIGTERM during trainings: the first asks them to save and stop, a second ends at once.

The handler only stores the signal, so nothing is interrupted halfway: the executor checks for it
between two pieces of work.  The handlers that Ray and Tune would install are disabled when the session
is opened (Ray's would end the process at any point, Tune's would drop what was not saved); these handlers are removed
when the trainings end.
"""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

GRACE_S = 30.0
"""Seconds that trainings have to save a checkpoint; cluster managers usually wait about this long before a kill."""

_NAMES = {signal.SIGINT: "interrupted (Ctrl-C)", signal.SIGTERM: "interrupted (SIGTERM)"}


class Interruption:
    """Holds the received signal; as a context manager it catches signals, in the main thread only."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked_at: float | None = None
        self._before: dict[signal.Signals, Any] = {}
        self.reason = ""
        """Name of the received signal; '' before one arrives."""

    @property
    def is_overdue(self) -> bool:
        """Whether the trainings have had their time to save and stop."""
        return self._asked_at is not None and self._clock() - self._asked_at > GRACE_S

    def raise_if_asked(self) -> None:
        """Raise KeyboardInterrupt if a signal was received; called once everything is saved."""
        if self.reason:
            raise KeyboardInterrupt(self.reason)

    def take(self, number: int, frame: FrameType | None = None) -> None:  # noqa: ARG002 - a handler's arguments
        """Handle a signal; the second one raises KeyboardInterrupt."""
        if self.reason:
            raise KeyboardInterrupt(self.reason)
        self.reason = _NAMES[signal.Signals(number)]
        self._asked_at = self._clock()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _NAMES:
                self._before[number] = signal.signal(number, self.take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
