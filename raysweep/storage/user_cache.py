"""The folder in which raysweep keeps what it can make again, for this user on this machine."""

import os
from pathlib import Path


def user_cache() -> Path:
    """`~/.cache/raysweep`, or in XDG_CACHE_HOME."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "raysweep"
