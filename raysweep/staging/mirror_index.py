"""Remembers which version of a local file is in the bucket, so that only what changed travels.

An upload is noted before it begins: should the process be killed in between, the next one knows that the object is its
own, and deletes it if the file is gone.  (An object taken for another's would come back as a file: an old shard that
was removed on purpose would lie among new ones.)
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from raysweep.storage.atomic_files import write_text

UNKNOWN = ""
"""The version of an object whose upload has begun."""


class FileMark(NamedTuple):
    """A version of a local file: changes whenever the file is written or replaced."""

    size: int
    time_ns: int
    inode: int


class SyncedFile(NamedTuple):
    """A file as it was when it was sent or fetched, and the version of its object."""

    mark: FileMark
    version: str


@dataclass(kw_only=True)
class MirrorIndex:
    """The files of one folder that are in the bucket, by relative path."""

    path: Path
    files: dict[str, SyncedFile]
    session: str = ""
    """The lease under which the folder was last kept in step with the bucket."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it; one that is missing or cannot be read is empty, so that the bucket decides."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            files = {name: SyncedFile(FileMark(*mark), version) for name, (mark, version) in values["files"].items()}
            return cls(path=path, files=files, session=str(values["session"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path=path, files={})

    def save(self) -> None:
        """Write it by rename."""
        write_text(self.path, json.dumps({"session": self.session, "files": self.files}))

    def note(self, path: str, mark: FileMark, version: str) -> None:
        """Remember that this version of the file has that version in the bucket."""
        self.files[path] = SyncedFile(mark, version)

    def forget(self, paths: Iterable[str]) -> None:
        """Forget what was deleted."""
        for path in paths:
            self.files.pop(path, None)

    def is_sent(self, path: str, mark: FileMark) -> bool:
        """Whether this version of the file is in the bucket."""
        known = self.files.get(path)
        return known is not None and known.version != UNKNOWN and known.mark == mark


def mark_file(path: str | Path) -> FileMark | None:
    """The file's version; None if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - by name: a look at a run asks for hundreds of files
    except (FileNotFoundError, NotADirectoryError):
        return None
    return FileMark(status.st_size, status.st_mtime_ns, status.st_ino)


def walk_files(root: Path, under: str = "") -> Iterator[str]:
    """The files below a folder, as paths relative to `root`; those that vanish meanwhile are left out."""
    start = len(root.as_posix()) + 1
    for folder, _, names in os.walk(root / under):
        base = folder[start:]
        yield from (f"{base}/{name}" if base else name for name in names)
