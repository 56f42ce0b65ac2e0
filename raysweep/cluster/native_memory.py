"""Limits what Ray's own threads keep of freed memory in the process that runs a sweep."""

import ctypes
import sys

_M_ARENA_MAX = -8
"""An option of glibc's `mallopt`, from malloc.h."""


def share_arenas() -> bool:
    """With glibc: let all threads take memory from one arena, for the rest of this process, before Ray starts its own.

    glibc gives each thread that finds the others busy an arena of its own, up to eight a core.  Ray's threads pass
    messages to each other, so what one of them frees lies in the arena of another, and each of these grows.

    Returns:
        Whether it took effect; never on other systems.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return set_option is not None and set_option(_M_ARENA_MAX, 1) == 1
