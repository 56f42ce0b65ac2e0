"""Records which version of each local file is in the bucket, so that only changes are transferred.

An upload is recorded before it begins: if the process is killed in between, the next one knows that the object is its
own, and deletes it if the file is gone.  (If the object were taken for another process's, it would come back as a file:
an old shard that was deleted on purpose would reappear among new ones.)
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from raysweep.storage.atomic_files import write_text

UNKNOWN = ""
"""The version of an object whose upload has only begun."""


class FileMark(NamedTuple):
    """A version of a local file, which changes whenever the file is written or replaced."""

    size: int
    time_ns: int
    inode: int


class SyncedFile(NamedTuple):
    """A file's version when it was sent or fetched, and its object's version."""

    mark: FileMark
    version: str


@dataclass(kw_only=True)
class MirrorIndex:
    """The files of one folder that are in the bucket, by relative path."""

    path: Path
    files: dict[str, SyncedFile]
    session: str = ""
    """Token of the lease under which the folder was last synchronised with the bucket."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the index; a missing or unreadable one is empty, so that the bucket decides."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            files = {name: SyncedFile(FileMark(*mark), version) for name, (mark, version) in values["files"].items()}
            return cls(path=path, files=files, session=str(values["session"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path=path, files={})

    def save(self) -> None:
        """Write the index by rename."""
        write_text(self.path, json.dumps({"session": self.session, "files": self.files}))

    def note(self, path: str, mark: FileMark, version: str) -> None:
        """Record that this version of the file has that version in the bucket."""
        self.files[path] = SyncedFile(mark, version)

    def forget(self, paths: Iterable[str]) -> None:
        """Remove deleted files from the index."""
        for path in paths:
            self.files.pop(path, None)

    def is_sent(self, path: str, mark: FileMark) -> bool:
        """Return whether this version of the file is in the bucket."""
        known = self.files.get(path)
        return known is not None and known.version != UNKNOWN and known.mark == mark


def mark_file(path: str | Path) -> FileMark | None:
    """Return the file's version; None if it does not exist."""
    try:
        status = os.stat(path)  # noqa: PTH116 - faster than Path.stat for the hundreds of files of a run
    except (FileNotFoundError, NotADirectoryError):
        return None
    return FileMark(status.st_size, status.st_mtime_ns, status.st_ino)


def walk_files(root: Path, under: str = "") -> Iterator[str]:
    """Yield the files below a folder, as paths relative to `root`; files that vanish meanwhile are left out."""
    start = len(root.as_posix()) + 1
    for folder, _, names in os.walk(root / under):
        base = folder[start:]
        yield from (f"{base}/{name}" if base else name for name in names)
