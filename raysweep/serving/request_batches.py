"""A bounded queue of requests, answered in batches by one thread.

Only one thread runs the models, because a batch uses all cores.  Waiting requests with the same key are answered
together.  A request that finds the queue full is refused at once, which is better than a late answer; a request whose
client disconnects before its turn is dropped.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from raysweep.errors import RaysweepError


class BusyError(RaysweepError):
    """The queue is full, or the server is stopping."""


@dataclass(frozen=True, kw_only=True)
class _Request:
    key: Hashable
    payload: Any
    answer: "Future[Any]" = field(default_factory=Future)


class RequestBatches:
    """Answers requests in order of arrival, batching those with the same key."""

    def __init__(
        self,
        work: Callable[[Hashable, Sequence[Any]], Sequence[Any]],
        *,
        most_waiting: int = 64,
        most_together: int = 16,
    ) -> None:
        """Args: `work` answers the payloads of one key; a single thread calls it."""
        self._work, self._most_waiting, self._most_together = work, most_waiting, most_together
        self._waiting: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)

    def start(self) -> None:
        """Start the thread that answers."""
        self._thread.start()

    def give_up(self) -> None:
        """Cancel the waiting requests and accept no more; the current batch is still answered."""
        with self._changed:
            self._is_over = True
            for request in self._waiting:
                request.answer.cancel()
            self._waiting.clear()
            self._changed.notify()

    def stop(self) -> None:
        """Cancel the waiting requests, and return when the current batch is answered."""
        self.give_up()
        if self._thread.ident is not None:
            self._thread.join()

    def ask(self, key: Hashable, payload: Any) -> "Future[Any]":
        """Put a request into the queue; raises BusyError if the queue is full, or the server is stopping."""
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
        """Number of waiting requests."""
        return len(self._waiting)

    def _run(self) -> None:
        while batch := self._next_batch():
            running = [request for request in batch if request.answer.set_running_or_notify_cancel()]
            if not running:
                continue
            try:
                answers = self._work(running[0].key, [request.payload for request in running])
            except Exception as error:  # whatever it is, the waiting clients must be told
                for request in running:
                    request.answer.set_exception(error)
                continue
            for request, answer in zip(running, answers, strict=True):
                request.answer.set_result(answer)

    def _next_batch(self) -> list[_Request]:
        """Wait for the first request and take it with the others of its key; [] if the server is stopping."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_over)
            if self._is_over:
                return []
            key = self._waiting[0].key
            batch = [request for request in self._waiting if request.key == key][: self._most_together]
            for request in batch:
                self._waiting.remove(request)
        return batch
