"""Builds the command that works on a run again, complete enough to be pasted, for messages.

The run's location is derived from its folder, since it may have been copied; everything else is taken from the last
command recorded in run.json.  That command's --config, and paths in its settings, are relative to the folder in which
it was given, so the result begins with `cd` if the current folder is another one.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raysweep.errors import InputError
from raysweep.staging.local_copies import storage_of
from raysweep.storage.atomic_files import read_json
from raysweep.storage.printable import HIDDEN
from raysweep.storage.run_folder import RunFolder

_DEFAULT = Path("runs")
_PLACE = ("--name", "--storage")


def place_options(folder: RunFolder, working: Path = Path()) -> str:
    """Return `--name` and, unless it is `runs` in the working directory, `--storage` of a run."""
    name, storage = folder.root.resolve().name, storage_of(folder.root)
    is_default = storage == str((working / _DEFAULT).resolve())
    return shlex.join(["--name", name, *([] if is_default else ["--storage", storage])])


def run_command(folder: RunFolder, *more: str, stage: str = "run") -> str:
    """Return the command that repeats or continues what was done in a run, in backticks.

    Args:
        more: further options.
        stage: the command to use instead of `run`; the name of a stage runs that stage alone.
    """
    record = _read(folder)
    working = Path(record.get("working_folder") or Path.cwd())
    start, notes = "", []
    if not os.access(working, os.X_OK):  # for example on another machine
        notes = [f"in a folder like {shlex.quote(str(working))} of the machine where it ran"]
        working = Path()
    elif working.resolve() != Path.cwd():
        start = f"cd {shlex.quote(str(working))} && "
    _, options, hidden = _parse(str(record.get("command", "")), without=_PLACE)
    words = [f"{start}raysweep {stage}", place_options(folder, working), *map(shlex.quote, [*options, *more])]
    return _format_command(words, [*notes, *hidden])


def this_command(command: Sequence[str], *more: str, stage: str = "run") -> str:
    """Return the running command, in backticks.

    Args:
        command: its words, as in `Settings.command`.
        more: further options.
        stage: the command to use instead of `run`; the name of a stage runs that stage alone.
    """
    start, options, hidden = _parse(" ".join(command))
    return _format_command([*start[:-1], stage, *map(shlex.quote, [*options, *more])], hidden)


def _read(folder: RunFolder) -> Mapping[str, Any]:
    """Read run.json if it holds a command; code that needs the whole record reports what is wrong with it."""
    try:
        record = read_json(folder.record) if folder.record.is_file() else {}
        shlex.split(str(record["command"]))
    except (InputError, KeyError, TypeError, ValueError):
        return {}
    return record


def _parse(command: str, without: Sequence[str] = ()) -> tuple[list[str], list[str], list[str]]:
    """Return the words before the first option; the options; a note on settings whose secret was not recorded."""
    words = shlex.split(command)
    first = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
    kept: list[str] = []
    hidden: list[str] = []
    options = iter(words[first:])
    for option in options:
        if option in without:
            next(options, None)
        elif option == "--set" and HIDDEN in (setting := next(options, "")):
            hidden.append(setting.partition("=")[0])
        else:
            kept += ["--set", setting] if option == "--set" else [option]
    note = [f"with --set {', '.join(hidden)} as before, since secrets are not recorded"] if hidden else []
    return words[:first], kept, note


def _format_command(words: Sequence[str], notes: Sequence[str]) -> str:
    return f"`{' '.join(words)}`" + (f" ({', '.join(notes)})" if notes else "")
