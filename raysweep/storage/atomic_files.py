"""Writes files so that a reader sees the old version or the new one, never half of one.

A file is written beside its final path and renamed; a record that marks others as complete is renamed into place last.
"""

import csv
import errno
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

from raysweep.errors import InputError

_UMASK_LOCK = threading.Lock()
_SYNCED_AT_ONCE = 8
"""Files of a folder that are synced to disk at a time: a file system writes them together."""


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which is renamed onto `path` when the block ends without an error.

    The bytes are synced to disk before the rename; a crash leaves the old file, or none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary, path)
        # mkstemp makes private files; the user's umask decides the permissions instead.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _sync(path.parent, path)
    except OSError as error:
        _name_disk(error, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Like `atomic_file`, for a folder; an existing folder is replaced only at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield temporary
        files = [file for file in temporary.rglob("*") if file.is_file()]
        for file in files:
            # Some writers (safetensors) make private files; the user's umask decides the permissions instead.
            file.chmod(0o666 & ~_umask())
        try:
            with ThreadPoolExecutor(_SYNCED_AT_ONCE) as pool:
                list(pool.map(_sync, files, repeat(path)))
        except RuntimeError:
            # Python starts no more threads once its main thread has ended, when another may still save a checkpoint.
            for file in files:
                _sync(file, path)
        _sync(temporary, path)
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
            path.rename(old / path.name)
            temporary.rename(path)
            shutil.rmtree(old)
        else:
            temporary.rename(path)
        _sync(path.parent, path)
    except OSError as error:
        _name_disk(error, path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Delete temporary files left by killed writers of `name`; only the sole writer of that name may call this."""
    for ending in ("part", "old"):
        for left in folder.glob(f".{name}.*.{ending}"):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a whole text file (UTF-8) by rename."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def csv_writer(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """Yield a `csv.writer` of a file (UTF-8) that is written by rename, after writing the header."""
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        yield writer


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file by rename: sorted keys, two spaces, no NaN."""
    write_text(path, dump_json(value))


def dump_json(value: Any) -> str:
    """Return the text that `write_json` writes."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Read a JSON file of a run; raises InputError that names the file, and the command that lists all damage."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path}: not valid JSON ({error}); it is damaged or was edited. `raysweep check-run --name RUN` lists "
            "what is damaged"
        ) from error


def _name_disk(error: OSError, path: Path) -> None:
    """Add the path to the error of a full disk, since write() names none; other errors may come from what is read."""
    if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT):
        error.filename = str(path)


def _sync(path: Path, target: Path) -> None:
    """Sync a file or folder to disk; an error names the target that it is written for, since fsync() names none."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        error.filename = str(target)
        raise
    finally:
        os.close(descriptor)


def _umask() -> int:
    # The umask can only be read by setting it; two threads doing so at once could leave it at 0 for good.
    with _UMASK_LOCK:
        current = os.umask(0)
        os.umask(current)
    return current
