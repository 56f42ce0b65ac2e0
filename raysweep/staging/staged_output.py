"""Provides the place where `score` writes its table: a path, or an object, with unfinished parts beside it.

An object is written on the local disk first, like a run: the folder of parts is sent to the bucket during the work
(`run_staging`), so that another machine can resume; the tables are sent when they are complete, their record last.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from raysweep.errors import ConfigError
from raysweep.staging.bucket import Bucket, TakenError
from raysweep.staging.bucket_address import BucketAddress, is_bucket_uri, parse_bucket_uri
from raysweep.staging.local_copies import LocalCopies
from raysweep.staging.run_staging import Staging, staged_run


@dataclass(frozen=True, kw_only=True)
class StagedOutput:
    """A file to be written."""

    path: Path
    """Its path on this disk."""
    parent: BucketAddress | None
    """The folder of the object; None for a path."""

    @classmethod
    def of(cls, out: str | Path) -> "StagedOutput":
        """Args: a path, s3://bucket/folder/name or gs://….

        Raises:
            ConfigError: the URI cannot be read, or does not name an object in a bucket.
        """
        if not is_bucket_uri(str(out)):
            return cls(path=Path(out), parent=None)
        address = parse_bucket_uri(str(out), option="--out")
        folder, _, name = address.prefix.rpartition("/")
        if not name:
            raise ConfigError(f"--out: found '{address!s:.60}'; must name a file in the bucket")
        parent = replace(address, prefix=folder)
        return cls(path=LocalCopies.of(parent).run(name), parent=parent)

    @property
    def place(self) -> str:
        """The folder of the object, as shown to the user; '' for a path."""
        return "" if self.parent is None else str(self.parent)

    def fetch(self, *files: Path) -> None:
        """Make these files equal to the bucket's; files that the bucket lacks are deleted here."""
        if self.parent is None:
            return
        bucket = Bucket(self.parent)
        for path in files:
            name = self._name(path)
            while (stored := bucket.find(name)) is not None and not _is_same(path, stored.size, stored.modified):
                try:
                    bucket.download(name, stored, path)
                except TakenError:
                    continue
            if stored is None:
                path.unlink(missing_ok=True)

    def send(self, *files: Path, record: Path) -> None:
        """Send files, then the record that lists them; an earlier record is deleted first."""
        if self.parent is None:
            return
        bucket = Bucket(self.parent)
        bucket.delete([self._name(record)])
        bucket.delete(self._name(path) for path in files if not path.exists())
        for path in (*(path for path in files if path.exists()), record):
            bucket.upload(self._name(path), path)
            if (stored := bucket.find(self._name(path))) is not None:
                # Give the file the object's time, as if it had been fetched.
                os.utime(path, (stored.modified, stored.modified))

    @contextmanager
    def working(self, parts: Path, say: Callable[[str], None]) -> Iterator[Staging]:
        """Synchronise the folder of parts, which lies beside the output, with the bucket during the block.

        Raises:
            LockedError: another process works on this output.
            StorageError: the store does not answer, or refuses.
        """
        with staged_run(self.parent, parts.name, say) as staging:
            yield staging

    def _name(self, path: Path) -> str:
        return path.relative_to(self.path.parent).as_posix()


def _is_same(path: Path, size: int, modified: float) -> bool:
    """Return whether a file was fetched from an object of this size and time."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return status.st_size == size and abs(status.st_mtime - modified) < 1e-3
