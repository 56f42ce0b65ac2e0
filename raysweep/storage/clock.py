"""Gives times for records as Unix seconds; within a process they never jump, even if the system's clock is set.

Times recorded by different processes may contradict each other; code that subtracts them treats negative durations as
0.
"""

import time
from functools import cache


def unix_seconds() -> float:
    """Return the system's Unix seconds at this process's first call, plus the time that has passed since."""
    return _offset() + _elapsed()


@cache
def _offset() -> float:
    return time.time() - _elapsed()


def _elapsed() -> float:
    # On Linux, CLOCK_BOOTTIME keeps counting while a laptop sleeps, like the system's clock.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
