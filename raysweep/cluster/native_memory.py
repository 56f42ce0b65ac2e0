"""Limits how much freed memory Ray's own threads retain in the process that runs a sweep."""

import ctypes
import os
import sys

_M_ARENA_MAX = -8
"""An option of glibc's `mallopt`, from malloc.h."""


def share_arenas() -> bool:
    """Stop glibc from creating more malloc arenas in this process; call this before Ray starts its threads.

    glibc gives each thread that finds the other arenas busy an arena of its own, up to eight per core.  Ray's threads
    pass messages to each other, so memory freed by one thread belongs to the arena of another, and each arena grows.
    Arenas created by earlier threads, such as those that prepare a corpus, are still used.

    Returns:
        Whether the limit was set; False on other systems, and where the user's MALLOC_ARENA_MAX sets it.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return set_option is not None and set_option(_M_ARENA_MAX, 1) == 1
