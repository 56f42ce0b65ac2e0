"""Remembers the digests of a start's weights by place, size and times of its files, so that a plan reads them once.

Only what looks and makes nothing may ask: `plan` within `trusting_file_times`.  Whatever trains or scores reads every
weight.  As in Git's index, a file that was changed within the last seconds is not remembered, since a second change
may leave its times as they are.
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
    """Within the block, weights whose files look as they did are not read again."""
    token = _trusts.set(True)
    try:
        yield
    finally:
        _trusts.reset(token)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileStates:
    """How files looked before they were read."""

    states: tuple[tuple[str, int, int, int, int], ...]
    """Place, bytes, times of the last change of content and of anything (ns), and inode of each."""
    is_settled: bool
    """Whether none had just been changed: a change after this look gives its file another state."""

    @classmethod
    def of(cls, files: Sequence[Path]) -> "FileStates":
        """Look at the files."""
        known = [(str(file.resolve()), file.stat()) for file in files]
        return cls(
            states=tuple((path, of.st_size, of.st_mtime_ns, of.st_ctime_ns, of.st_ino) for path, of in known),
            is_settled=max(of.st_ctime for _, of in known) <= unix_seconds() - _SETTLED_S,
        )

    @property
    def key(self) -> str:
        """Under which the digests are kept."""
        return fingerprint({path: list(state) for path, *state in self.states})


def recall_digests(files: FileStates, tensors: Sequence[str]) -> Digests | None:
    """The digests of these tensors, which are in these files; None if they must be read."""
    found = _entries().get(files.key) if _trusts.get() else None
    return found if found is not None and sorted(found) == sorted(tensors) else None


def remember_digests(files: FileStates, digests: Digests) -> None:
    """Keep the digests for the next plan; the oldest ones are forgotten.

    Args:
        files: as they looked before the weights were read, so that a change meanwhile is not taken for what was read.
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
        return {}  # written by another version, or damaged: the weights are read again
    return entries if isinstance(entries, dict) else {}
