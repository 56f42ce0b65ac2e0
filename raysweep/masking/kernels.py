"""Compiling the room's hot loops.

A kernel is plain Python over NumPy arrays, compiled by numba at its first call and kept on disk, so
the seconds of compiling are paid once per machine.  Kernels hold no state and start no threads.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

_CONSTANTS = {"characters", "shards", "vocabulary"}
"""Files without kernels whose constants kernels use."""

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def kernel(function: Kernel) -> Kernel:
    """Compile `function` without Python's lock, and keep what was compiled."""
    settings: Any = numba.config
    usual = settings.CACHE_DIR
    settings.CACHE_DIR = str(_cache_folder(usual))
    try:
        return cast("Kernel", numba.njit(cache=True, nogil=True)(function))
    finally:
        settings.CACHE_DIR = usual


@cache
def _cache_folder(usual: str) -> Path:
    """A folder for exactly these sources.

    Compiled kernels hold the constants and kernels of other files that they use, but numba looks only
    at their own file's age: after a change elsewhere it would go on with the old one, in silence.
    Where the folder cannot be written numba takes its usual places.
    """
    here = Path(__file__).parent
    sources = hashlib.blake2b(digest_size=8)
    for path in sorted(here.glob("*.py")):
        source = path.read_bytes()
        if b"@kernel" in source or path.stem in _CONSTANTS:
            sources.update(source)
    base = Path(usual) if usual else here / "__pycache__"
    return base / f"kernels-{sources.hexdigest()}"
