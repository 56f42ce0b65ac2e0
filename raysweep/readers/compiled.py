"""Compiles hot loops with numba.  A kernel holds no state, starts no threads and calls only functions of its own file,
so numba's check of the file's age is enough to recompile it after a change."""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., Any])
logger = logging.getLogger(__name__)


def kernel(function: Kernel) -> Kernel:
    """Compile `function` to run without the GIL, cached on disk if numba finds a folder that it may write."""
    try:
        return cast("Kernel", numba.njit(cache=True, nogil=True)(function))
    except RuntimeError as error:
        # numba has no exception type for this error.
        if "no locator available" not in str(error):
            raise
        _say_uncached()
        return cast("Kernel", numba.njit(nogil=True)(function))


@cache
def _say_uncached() -> None:
    """Say it once per process, not for each kernel."""
    logger.warning(
        "numba finds no folder for compiled code that it may write, so each process compiles anew, which takes up to "
        "half a minute; set NUMBA_CACHE_DIR to such a folder"
    )
