"""The command that works on a run again, for messages: whole, so that it can be pasted.

Where the run lies is told from its folder, since it may have been copied; all else is as run.json has it from the last
command that worked in it.
"""

import shlex
from pathlib import Path

from raysweep.errors import InputError
from raysweep.staging.local_copies import storage_of
from raysweep.storage.atomic_files import read_json
from raysweep.storage.run_folder import RunFolder

_DEFAULT = Path("runs")
_PLACE = ("--name", "--storage")


def place_options(folder: RunFolder) -> str:
    """`--name` and, unless it is `runs` in the working directory, `--storage` of a run."""
    name, storage = folder.root.resolve().name, storage_of(folder.root)
    return shlex.join(["--name", name, *([] if storage == str(_DEFAULT.resolve()) else ["--storage", storage])])


def run_command(folder: RunFolder, *more: str) -> str:
    """The command that does again, or goes on with, what was done in a run.

    Args:
        more: options that it gets besides.
    """
    try:
        recorded = shlex.split(str(read_json(folder.record)["command"])) if folder.record.is_file() else []
    except (InputError, KeyError, TypeError, ValueError):
        recorded = []  # whoever reads the record as such refuses it, and says why
    start = next((place for place, word in enumerate(recorded) if word.startswith("--")), len(recorded))
    kept: list[str] = []
    words = iter(recorded[start:])
    for word in words:
        if word in _PLACE:
            next(words, None)
        else:
            kept.append(word)
    return " ".join(["raysweep run", place_options(folder), *map(shlex.quote, [*kept, *more])])
