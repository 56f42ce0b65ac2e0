"""Limits what Ray's own threads keep of freed memory in the process that runs a sweep."""

import ctypes
import os
import sys

_M_ARENA_MAX = -8
"""An option of glibc's `mallopt`, from malloc.h."""


def share_arenas() -> bool:
    """With glibc: add no more arenas of memory in this process, before Ray starts its threads.

    glibc gives each thread that finds the others busy an arena of its own, up to eight a core.  Ray's threads pass
    messages to each other, so what one of them frees lies in the arena of another, and each of these grows.  Arenas
    that earlier threads made, such as those that prepare a corpus, are still used.

    Returns:
        Whether the limit was set; never on other systems, nor where the user's MALLOC_ARENA_MAX says how many.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return set_option is not None and set_option(_M_ARENA_MAX, 1) == 1
