"""Saves a fitted classifier of levels with skops, which needs no pickle, and loads it again.

The same classifier gives the same bytes: skops names its parts by memory addresses, which are replaced by numbers.
Only the types of our own pipeline are trusted: a file with any other type is refused before any of its code runs.
"""

import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import skops.io

from raysweep.config.fingerprints import EXAMPLES_VERSION, SCORES_VERSION
from raysweep.errors import InputError
from raysweep.storage.atomic_files import atomic_file

_SCHEMA = "schema.json"
_ADDRESS = re.compile(r'("__id__": |"file": ")(\d+)(\.npy"|\b)')
_PERPLEXITIES = [EXAMPLES_VERSION, SCORES_VERSION]
_TRUSTED = ("numpy.dtype",)
"""Types trusted in addition to those that skops considers safe, such as scikit-learn's; a dtype is an array's type."""


def save_classifier(path: Path, fitted: Any, *, levels: tuple[str, ...], models: Mapping[str, str]) -> None:
    """Write the classifier, its levels and, as model → digest, the models whose perplexities are its features."""
    values = {"levels": list(levels), "models": dict(models), "perplexities": _PERPLEXITIES, "pipeline": fitted}
    dumped = skops.io.dumps(values)
    with atomic_file(path) as temporary:
        temporary.write_bytes(_without_addresses(dumped))


def load_classifier(path: Path, *, fix: str) -> tuple[Any, tuple[str, ...], dict[str, str]]:
    """Read a classifier; returns it with its levels and the digests of its models.

    Args:
        fix: how to fit it again, for messages.

    Raises:
        InputError: the file cannot be read, contains a type that is not trusted, or was fitted on perplexities that
            this version of raysweep computes differently.
    """
    try:
        unknown = [name for name in skops.io.get_untrusted_types(file=path) if name not in _TRUSTED]
        if unknown:
            raise InputError(f"{path}: holds {unknown[0][:80]}, which is not trusted; save it with raysweep classify")
        values = skops.io.load(path, trusted=list(_TRUSTED))
        if values.get("perplexities") != _PERPLEXITIES:
            raise InputError(f"{path}: was fitted on perplexities of another version of raysweep; {fix}")
        return values["pipeline"], tuple(values["levels"]), dict(values["models"])
    except InputError:
        raise
    except Exception as error:  # skops raises what zipfile, json and numpy raise
        raise InputError(f"{path}: is no classifier that raysweep saved ({str(error)[:60]})") from error


def _without_addresses(dumped: bytes) -> bytes:
    """Rewrite the ZIP file with parts numbered by their first appearance, sorted, and without dates."""
    with zipfile.ZipFile(io.BytesIO(dumped)) as source:
        schema = source.read(_SCHEMA).decode("utf-8")
        numbers: dict[str, str] = {}

        def renamed(match: re.Match[str]) -> str:
            return f"{match[1]}{numbers.setdefault(match[2], str(len(numbers)))}{match[3]}"

        schema = _ADDRESS.sub(renamed, schema)
        files = {f"{numbers[name.removesuffix('.npy')]}.npy": name for name in source.namelist() if name != _SCHEMA}
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as target:
            for name in sorted(files):
                target.writestr(zipfile.ZipInfo(name), source.read(files[name]))
            target.writestr(zipfile.ZipInfo(_SCHEMA), schema)
    return written.getvalue()
