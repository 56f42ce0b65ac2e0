"""Compiles hot loops with numba.  A kernel holds no state, starts no threads and calls only functions of its own file,
so numba's check of the file's age is enough to recompile it after a change."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(function: Kernel) -> Kernel:
    """Compile `function` to run without the GIL, cached on disk."""
    return cast("Kernel", numba.njit(cache=True, nogil=True)(function))
