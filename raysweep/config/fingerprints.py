"""Computes fingerprints of settings and files, which identify finished work; they do not include paths or hosts."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EXAMPLES_VERSION = 2
SCORES_VERSION = 6
"""Versions of the examples and of the scores; increased if the same settings give other examples or perplexities."""


def fingerprint(fields: Mapping[str, Any]) -> str:
    """Hash plain values to a short string; the order of keys does not matter."""
    text = json.dumps(fields, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def file_fingerprint(path: Path) -> str:
    """Hash the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=12)).hexdigest()


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List the plain values that differ, as `steps: 400 → 800`, with dotted paths for nested values."""
    before, after = flatten(old), flatten(new)
    return [
        f"{path}: {_show(before, path)} → {_show(after, path)}"
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path) or (path in before) != (path in after)
    ]


def flatten(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested fields by their dotted paths; lists are not flattened."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def _show(flat: Mapping[str, Any], path: str) -> str:
    return json.dumps(flat[path], ensure_ascii=False) if path in flat else "absent"
