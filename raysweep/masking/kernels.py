"""Compiling the room's hot loops.

A kernel is plain Python over NumPy arrays, compiled by numba at its first call and kept on disk, so
the seconds of compiling are paid once per machine.  Kernels hold no state and start no threads.
"""

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def kernel(function: Kernel) -> Kernel:
    """Compile `function`, without Python's lock, into the cache beside its file."""
    return cast("Kernel", njit(cache=True, nogil=True)(function))
