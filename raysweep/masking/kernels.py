"""Compiles the hot loops of masking.

A kernel is plain Python over NumPy arrays.  Numba compiles it at its first call and caches it on disk, so
each machine compiles it once.  Kernels hold no state and start no threads.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numba

from raysweep.readers import compiled
from raysweep.readers.compiled import Kernel


def kernel(function: Kernel) -> Kernel:
    """Compile `function` as `compiled.kernel` does, with a cache folder of these sources' version."""
    settings: Any = numba.config
    default = settings.CACHE_DIR
    settings.CACHE_DIR = str(_cache_folder(default))
    try:
        return compiled.kernel(function)
    finally:
        settings.CACHE_DIR = default


@cache
def _cache_folder(default: str) -> Path:
    """Return a cache folder for the present version of these sources.

    Compiled kernels include the constants and kernels of other files that they use, but numba checks only
    the age of their own file: after a change elsewhere it would silently use outdated code.
    If the folder cannot be written, numba falls back to its usual folders.
    """
    here = Path(__file__).parent
    sources = hashlib.blake2b(digest_size=8)
    for path in sorted(here.glob("*.py")):
        source = path.read_bytes()
        if b"@kernel" in source or path.stem == "characters":
            sources.update(source)
    base = Path(default) if default else here / "__pycache__"
    return base / f"kernels-{sources.hexdigest()}"
