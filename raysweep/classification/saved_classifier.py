"""Saves a fitted classifier of levels with skops, which needs no pickle, and loads it again.

Only the types of our own pipeline are trusted: a file that holds any other is refused before anything of it runs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import skops.io

from raysweep.errors import InputError
from raysweep.storage.atomic_files import atomic_file

_TRUSTED = ("numpy.dtype",)
"""Types beyond those that skops knows as safe, as scikit-learn's own are; a dtype is the type of an array's numbers."""


def save_classifier(path: Path, fitted: Any, *, levels: tuple[str, ...], models: Mapping[str, str]) -> None:
    """Write the classifier with the levels that it tells and the models whose perplexities it reads.

    Args:
        models: digest of each by name, in the order of the features.
    """
    with atomic_file(path) as beside:
        skops.io.dump({"levels": list(levels), "models": dict(models), "pipeline": fitted}, beside)


def load_classifier(path: Path) -> tuple[Any, tuple[str, ...], dict[str, str]]:
    """Read a classifier; returns it with its levels and the digests of its models.

    Raises:
        InputError: the file cannot be read, or holds a type that is not trusted.
    """
    try:
        unknown = [name for name in skops.io.get_untrusted_types(file=path) if name not in _TRUSTED]
        if unknown:
            raise InputError(f"{path}: holds {unknown[0][:80]}, which is not trusted; save it with raysweep classify")
        values = skops.io.load(path, trusted=list(_TRUSTED))
        return values["pipeline"], tuple(values["levels"]), dict(values["models"])
    except InputError:
        raise
    except Exception as error:  # skops raises what zipfile, json and numpy raise
        raise InputError(f"{path}: is no classifier that raysweep saved ({str(error)[:60]})") from error
