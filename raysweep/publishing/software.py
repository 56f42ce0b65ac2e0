"""The software that made a bundle: it decides whether the same numbers can come out to the last bit."""

import platform
from importlib import metadata
from typing import Any

import numpy as np

from raysweep import __version__
from raysweep.storage.digests import digest_code

_LIBRARIES = ("jinja2", "markupsafe", "numpy", "pandas", "pyarrow", "scipy")


def describe_software() -> dict[str, str]:
    """Version and code of raysweep, the libraries, and the processor's vector instructions."""
    return {
        "raysweep": __version__,
        "code": digest_code(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _LIBRARIES},
        "machine": platform.machine(),
        "vectors": _vectors(),
    }


def other_software(made_with: dict[str, Any]) -> dict[str, str]:
    """What differs here, as `numpy: numpy 2.3.1 (here 2.4.6)`; any of it may change a number's last bits."""
    return {
        name: f"{name} {made_with.get(name)} (here {here})"
        for name, here in describe_software().items()
        if made_with.get(name) != here
    }


def _vectors() -> str:
    """numpy computes a logarithm in other steps where the processor has wider vectors."""
    build: Any = np.show_config(mode="dicts")
    return " ".join(build.get("SIMD Extensions", {}).get("found", []))
