"""Remembers the digests of a start's weights by place, size and times of its files, so that a plan reads them once.

Only what looks and makes nothing may ask: `plan` within `trusting_file_times`.  Whatever trains or scores reads every
weight.  As in Git's index, a file that was changed within the last seconds is not remembered, since a second change
may leave its times as they are.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
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


def recall_digests(files: Sequence[Path], tensors: Sequence[str]) -> Digests | None:
    """The digests of these tensors, which are in these files; None if they must be read."""
    found = _entries().get(_key(files)) if _trusts.get() else None
    return found if found is not None and sorted(found) == sorted(tensors) else None


def remember_digests(files: Sequence[Path], digests: Digests) -> None:
    """Keep the digests for the next plan; the oldest ones are forgotten."""
    if max(file.stat().st_ctime for file in files) > unix_seconds() - _SETTLED_S:
        return
    key, entries = _key(files), _entries()
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


def _key(files: Sequence[Path]) -> str:
    states = [(str(file.resolve()), file.stat()) for file in files]
    return fingerprint(
        {path: [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino] for path, state in states}
    )


def _entries() -> dict[str, Digests]:
    try:
        entries = read_json(_file()) if _file().is_file() else {}
    except InputError:
        return {}  # written by another version, or damaged: the weights are read again
    return entries if isinstance(entries, dict) else {}
