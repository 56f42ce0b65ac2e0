"""Writes files so that a reader sees the old version or the new one, never half of one.

A file is written beside its place and renamed; a record that says "done" is renamed into place last.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raysweep.errors import InputError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed onto it when the block ends without an error.

    The bytes are on disk before the rename; a crash leaves the old file, or none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        _sync(beside)
        # mkstemp makes private files; ours are as readable as any other file of the user's.
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
        _sync(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Like `atomic_file`, for a whole folder; an existing one is replaced only at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield beside
        for file in beside.rglob("*"):
            if file.is_file():
                # Some writers (safetensors) make private files; ours are as readable as any other of the user's.
                file.chmod(0o666 & ~_umask())
                _sync(file)
        beside.chmod(0o777 & ~_umask())
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
            path.rename(old / path.name)
            beside.rename(path)
            shutil.rmtree(old)
        else:
            beside.rename(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove what killed writers of `name` left beside it; only for the one writer of that name to call."""
    for ending in ("part", "old"):
        for left in folder.glob(f".{name}.*.{ending}"):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a whole text file (UTF-8) by rename."""
    with atomic_file(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file by rename: sorted keys, two spaces, no NaN."""
    write_text(path, dump_json(value))


def dump_json(value: Any) -> str:
    """The text of a JSON file, as `write_json` writes it."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Read a JSON file of a run folder.

    Raises:
        InputError: it is not JSON; names the file, and says to delete it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); delete it, and its stage is redone") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
