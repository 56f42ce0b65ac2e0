"""Caches the digests of a start's weights by path, size and times of its files, so that repeated plans are fast.

Only `plan`, which writes no results, uses the cache, through `trusting_file_times`.  Training and scoring read every
weight.  As in Git's index, the digests of a file that was changed in the last seconds are not cached, because a second
change might not change its times.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from raysweep.config.fingerprints import fingerprint
from raysweep.errors import InputError
from raysweep.storage.atomic_files import read_json, write_json
from raysweep.storage.clock import unix_seconds
from raysweep.storage.user_cache import user_cache

Digests = dict[str, str]
_MOST_STARTS = 50
_SETTLED_S = 3.0
_trusts = ContextVar("trusts", default=False)


@contextmanager
def trusting_file_times() -> Iterator[None]:
    """Use cached digests inside the block for weights whose files have the same path, size and times."""
    token = _trusts.set(True)
    try:
        yield
    finally:
        _trusts.reset(token)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileStates:
    """The state of files before they were read."""

    states: tuple[tuple[str, int, int, int, int], ...]
    """Path, size in bytes, mtime and ctime in ns, and inode of each file."""
    is_settled: bool
    """Whether the last change of every file is long enough ago that a further change would change its times."""

    @classmethod
    def of(cls, files: Sequence[Path]) -> "FileStates":
        """Read the state of the files."""
        stats = [(str(file.resolve()), file.stat()) for file in files]
        return cls(
            states=tuple((path, st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino) for path, st in stats),
            is_settled=max(st.st_ctime for _, st in stats) <= unix_seconds() - _SETTLED_S,
        )

    @property
    def key(self) -> str:
        """The key of the files' digests in the cache."""
        return fingerprint({path: list(state) for path, *state in self.states})


def recall_digests(files: FileStates, tensors: Sequence[str]) -> Digests | None:
    """Return the cached digests of the tensors in these files; None if the files must be read."""
    digests = _entries().get(files.key) if _trusts.get() else None
    return digests if digests is not None and sorted(digests) == sorted(tensors) else None


def remember_digests(files: FileStates, digests: Digests) -> None:
    """Cache the digests for the next plan; the oldest entries are dropped.

    Args:
        files: the state of the files before the weights were read, so that a change in the meantime is noticed.
    """
    if not files.is_settled:
        return
    key, entries = files.key, _entries()
    if entries.pop(key, None) == digests or not _can_write():
        return
    kept = list({**entries, key: digests}.items())[-_MOST_STARTS:]
    write_json(_file(), dict(kept))


def _file() -> Path:
    return user_cache() / "start-digests.json"


def _can_write() -> bool:
    place = _file().parent
    place = next(folder for folder in (place, *place.parents) if folder.exists())
    return os.access(place, os.W_OK)


def _entries() -> dict[str, Digests]:
    try:
        entries = read_json(_file()) if _file().is_file() else {}
    except InputError:
        return {}  # damaged, or written by another version: the weights are read again
    return entries if isinstance(entries, dict) else {}
