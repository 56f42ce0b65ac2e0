"""What a bundle was made with: what decides whether its numbers can be recomputed to the last bit."""

import hashlib
import platform
from collections.abc import Mapping
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


def is_other_code(made_with: Mapping[str, Any]) -> bool:
    """Whether another version of raysweep, or other statistics or another page, made it."""
    here = describe_software()
    return any(made_with.get(name) != here[name] for name in ("raysweep", "code"))


def other_software(made_with: Mapping[str, Any]) -> list[str]:
    """What differs here, as `numpy 2.3.1 (here 2.4.6)`; such things may move a number's last bits."""
    return [
        f"{name} {made_with.get(name)} (here {here})"
        for name, here in describe_software().items()
        if made_with.get(name) != here
    ]


def _code_digest() -> str:
    """Of all modules and templates that make numbers and pages; versions under development share one number."""
    root = Path(__file__).parents[1]
    found = hashlib.sha256()
    for room in _ROOMS:
        for path in sorted((root / room).rglob("*")):
            if path.suffix in {".py", ".css", ".j2"}:
                found.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return found.hexdigest()[:12]


def _vectors() -> str:
    """numpy takes other steps to a logarithm where the processor has wider vectors."""
    known: Any = np.show_config(mode="dicts")
    return " ".join(known.get("SIMD Extensions", {}).get("found", []))
