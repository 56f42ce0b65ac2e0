"""The software that made a bundle: it decides whether the same numbers can come out to the last bit."""

import hashlib
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from raysweep import __version__

_LIBRARIES = ("jinja2", "markupsafe", "numpy", "pandas", "pyarrow", "scipy")
_ROOMS = ("evidence", "publishing", "report", "statistics")


def describe_software() -> dict[str, str]:
    """Version and code of raysweep, the libraries, and the processor's vector instructions."""
    return {
        "raysweep": __version__,
        "code": _code_digest(),
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


def _code_digest() -> str:
    """A digest of the code that makes numbers and pages, because versions under development share one number."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for room in _ROOMS:
        for path in sorted((root / room).rglob("*")):
            if path.suffix in {".py", ".css", ".j2"}:
                digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _vectors() -> str:
    """numpy computes a logarithm in other steps where the processor has wider vectors."""
    build: Any = np.show_config(mode="dicts")
    return " ".join(build.get("SIMD Extensions", {}).get("found", []))
