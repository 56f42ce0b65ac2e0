"""Ctrl-C and SIGTERM while trainings run: the first asks them to save and stop, a second ends at once.

The handler only remembers the signal, so it interrupts nothing halfway: the executor checks for it
between two pieces of work.  The handlers that Ray and Tune would install are switched off when the session
is opened (Ray's ends the process wherever it is, Tune's drops what was not saved); these are removed when the
trainings end.
"""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

GRACE_S = 30.0
"""How long trainings have to save a checkpoint; a cluster manager usually gives this much before it kills."""

_NAMES = {signal.SIGINT: "interrupted (Ctrl-C)", signal.SIGTERM: "interrupted (SIGTERM)"}


class Interruption:
    """The signal that came, if any; as a context manager it catches signals, in the main thread only."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked_at: float | None = None
        self._before: dict[signal.Signals, Any] = {}
        self.reason = ""
        """'' until a signal came."""

    @property
    def is_overdue(self) -> bool:
        """The trainings have had their time to save and stop."""
        return self._asked_at is not None and self._clock() - self._asked_at > GRACE_S

    def raise_if_asked(self) -> None:
        """End the command, now that all is saved.

        Raises:
            KeyboardInterrupt: a signal came.
        """
        if self.reason:
            raise KeyboardInterrupt(self.reason)

    def take(self, number: int, frame: FrameType | None = None) -> None:  # noqa: ARG002 - a handler's arguments
        """Handle a signal.

        Raises:
            KeyboardInterrupt: it is not the first one.
        """
        if self.reason:
            raise KeyboardInterrupt(self.reason)
        self.reason = _NAMES[signal.Signals(number)]
        self._asked_at = self._clock()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _NAMES:
                self._before[number] = signal.signal(number, self.take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
