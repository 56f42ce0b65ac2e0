"""Describes the software that made a bundle, which decides whether numbers are reproduced to the last bit."""

import platform
from importlib import metadata
from typing import Any

import numpy as np

from raysweep import __version__
from raysweep.storage.digests import digest_code

_LIBRARIES = ("jinja2", "markupsafe", "numpy", "pandas", "pyarrow", "scipy")


def describe_software() -> dict[str, str]:
    """Return raysweep's version and code digest, the libraries' versions, and the processor's vector instructions."""
    return {
        "raysweep": __version__,
        "code": digest_code(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _LIBRARIES},
        "machine": platform.machine(),
        "vectors": _vectors(),
    }


def other_software(made_with: dict[str, Any]) -> dict[str, str]:
    """Describe what differs on this machine, as `numpy: numpy 2.3.1 (here 2.4.6)`; each may change last bits."""
    return {
        name: f"{name} {made_with.get(name)} (here {here})"
        for name, here in describe_software().items()
        if made_with.get(name) != here
    }


def _vectors() -> str:
    """Name the processor's vector extensions: numpy computes a logarithm differently where vectors are wider."""
    build: Any = np.show_config(mode="dicts")
    return " ".join(build.get("SIMD Extensions", {}).get("found", []))
