"""A bounded queue of requests, which one thread answers in batches.

Models are not asked by two threads at once: a batch uses all cores.  Requests with the same key that wait together
are answered together.  A request that finds the queue full is refused at once, which is better than
an answer that comes too late; one whose client went away before its turn is left out.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from raysweep.errors import RaysweepError


class BusyError(RaysweepError):
    """As many requests wait as may wait."""


@dataclass(frozen=True, kw_only=True)
class _Request:
    key: Hashable
    payload: Any
    answer: "Future[Any]" = field(default_factory=Future)


class RequestBatches:
    """Answers requests in the order in which they came, those of one key together."""

    def __init__(
        self,
        work: Callable[[Hashable, Sequence[Any]], Sequence[Any]],
        *,
        most_waiting: int = 64,
        most_together: int = 16,
    ) -> None:
        """Args: `work` answers the payloads of one key; it is called by one thread."""
        self._work, self._most_waiting, self._most_together = work, most_waiting, most_together
        self._waiting: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def give_up(self) -> None:
        """Cancel the requests that wait, and take no more; the current batch is still answered."""
        with self._changed:
            self._is_over = True
            for request in self._waiting:
                request.answer.cancel()
            self._waiting.clear()
            self._changed.notify()

    def stop(self) -> None:
        """Give up the requests that wait, and return when the current batch is answered."""
        self.give_up()
        if self._thread.ident is not None:
            self._thread.join()

    def ask(self, key: Hashable, payload: Any) -> "Future[Any]":
        """Put a request into the queue.

        Raises:
            BusyError: it is full, or the server is being stopped.
        """
        request = _Request(key=key, payload=payload)
        with self._changed:
            for given_up in [request for request in self._waiting if request.answer.cancelled()]:
                self._waiting.remove(given_up)
            if self._is_over or len(self._waiting) >= self._most_waiting:
                raise BusyError(f"busy: {len(self._waiting)} requests wait already; ask again in a few seconds")
            self._waiting.append(request)
            self._changed.notify()
        return request.answer

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def _run(self) -> None:
        while batch := self._next_batch():
            running = [request for request in batch if request.answer.set_running_or_notify_cancel()]
            if not running:
                continue
            try:
                answers = self._work(running[0].key, [request.payload for request in running])
            except Exception as error:  # whatever it is, those who wait must hear of it
                for request in running:
                    request.answer.set_exception(error)
                continue
            for request, answer in zip(running, answers, strict=True):
                request.answer.set_result(answer)

    def _next_batch(self) -> list[_Request]:
        """The first request with the others of its key; none if the server is being stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_over)
            if self._is_over:
                return []
            key = self._waiting[0].key
            batch = [request for request in self._waiting if request.key == key][: self._most_together]
            for request in batch:
                self._waiting.remove(request)
        return batch
