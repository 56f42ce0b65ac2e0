"""Defines where the run folders of object storage lie on the local disk.

    <base>/<bucket>-<digest of the address>/<run>/          the folder in which a run works
    <base>/<bucket>-<digest of the address>/.read/<run>/    what read-only commands have fetched
    beside them `.<run>.index.json`, which lists what is in the bucket, `disk`, which identifies the disk, and
    `.address`, which messages show

`base` is RAYSWEEP_STAGING, or ~/.cache/raysweep/staging.  A worker that finds the driver's `disk` there shares the
disk.
"""

import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from raysweep.staging.bucket_address import BucketAddress
from raysweep.storage.atomic_files import write_text
from raysweep.storage.digests import digest_text

_VARIABLE = "RAYSWEEP_STAGING"
_VIEWS = ".read"
_ADDRESS = ".address"


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalCopies:
    """The local folders of all runs below one address."""

    folder: Path

    @classmethod
    def of(cls, storage: BucketAddress) -> "LocalCopies":
        """Return the folders for this storage, without creating them."""
        base = Path(os.environ.get(_VARIABLE) or "~/.cache/raysweep/staging").expanduser().resolve()
        plain = re.sub(r"[^\w.-]+", "-", storage.bucket)[:40]
        return cls(folder=base / f"{plain}-{digest_text(f'{storage} {storage.endpoint}')[:8]}")

    @property
    def disk(self) -> Path:
        """The file that identifies this disk."""
        return self.folder / "disk"

    def run(self, name: str) -> Path:
        """Return the folder in which a run works."""
        return self.folder / name

    def view(self, name: str) -> Path:
        """Return the folder for read-only commands; it is named like the run, as messages and reports show."""
        return self.folder / _VIEWS / name

    def index(self, root: Path, part: str = "") -> Path:
        """Return the index of a folder, or of a part of it that one worker synchronises."""
        return root.with_name(f".{root.name}{'~' if part else ''}{part.replace('/', '~')}.index.json")

    def name_address(self, storage: BucketAddress) -> None:
        """Record the address that these folders are copies of."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / _ADDRESS).exists():
            write_text(self.folder / _ADDRESS, storage.uri)

    def read_disk(self) -> str:
        """Return this disk's identifier; '' if no driver has worked here."""
        try:
            return self.disk.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def name_disk(self) -> str:
        """Return this disk's identifier, creating it if there is none."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), self.disk.open("x", encoding="utf-8") as file:
            file.write(secrets.token_hex(16))
        return self.read_disk()


def storage_of(root: Path) -> str:
    """Return a run's storage as --storage takes it; for a copy from object storage, its address."""
    parent = root.resolve().parent
    address = (parent.parent if parent.name == _VIEWS else parent) / _ADDRESS
    return address.read_text(encoding="utf-8") if address.is_file() else str(parent)
