"""The folder for what raysweep can make again, per user and machine."""

import os
from pathlib import Path


def user_cache() -> Path:
    """Return `~/.cache/raysweep`, or its equivalent in XDG_CACHE_HOME."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "raysweep"
