"""Counts how often each training failed in this run, and decides how its next attempt must run."""

import time
from collections import Counter
from collections.abc import Callable

from raysweep.scheduling.failures import Failure, FailureDecision, decide_after_failure


class Retries:
    """Counts failures by training and kind, and stores the constraints on the next attempt."""

    def __init__(self, max_failures: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        max_failures: number of times a training is resumed after its worker, or its driver, was lost.
        clock: monotonic seconds.
        """
        self._max_failures, self._clock = max_failures, clock
        self._failures: Counter[tuple[str, Failure]] = Counter()
        self._alone: set[str] = set()
        self._not_before: dict[str, float] = {}

    def decide(self, name: str, failure: Failure, *, shares_memory: bool) -> FailureDecision:
        """Count the failure and decide what follows; `shares_memory` as in `decide_after_failure`."""
        self._failures[name, failure] += 1
        decision = decide_after_failure(
            failure, self._failures[name, failure], max_failures=self._max_failures, shares_memory=shares_memory
        )
        if decision.alone:
            self._alone.add(name)
        self._not_before[name] = self._clock() + decision.wait_s
        return decision

    def must_be_alone(self, name: str) -> bool:
        """Return whether the training ran out of memory beside others."""
        return name in self._alone

    def is_due(self, name: str) -> bool:
        """Return whether the training may start again now."""
        return self._clock() >= self._not_before.get(name, 0.0)
