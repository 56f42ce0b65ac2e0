"""Times of records: Unix seconds whose differences within a process are durations, also if the system's clock is set.

Times that several processes noted may still contradict each other; who subtracts them counts a negative duration as 0.
"""

import time
from functools import cache


def unix_seconds() -> float:
    """Unix seconds by the system's clock when this process first asked, plus what has passed since then."""
    return _offset() + _elapsed()


@cache
def _offset() -> float:
    return time.time() - _elapsed()


def _elapsed() -> float:
    # On Linux it goes on while a laptop sleeps, as the system's clock does.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
