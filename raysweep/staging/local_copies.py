"""Where the run folders of object storage lie on the local disk.

    <base>/<bucket>-<digest of the address>/<run>/          the folder in which a run works
    <base>/<bucket>-<digest of the address>/.read/<run>/    what commands that only look have fetched
    beside them `.<run>.index.json`, which says what is in the bucket, `disk`, which identifies the disk, and
    `.address`, which messages name

`base` is RAYSWEEP_STAGING, or ~/.cache/raysweep/staging.  A worker that finds the driver's `disk` there shares it.
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
    """The local folders of the runs below one address."""

    folder: Path

    @classmethod
    def of(cls, storage: BucketAddress) -> "LocalCopies":
        """Those of the runs in this storage; nothing is made."""
        base = Path(os.environ.get(_VARIABLE) or "~/.cache/raysweep/staging").expanduser().resolve()
        plain = re.sub(r"[^\w.-]+", "-", storage.bucket)[:40]
        return cls(folder=base / f"{plain}-{digest_text(f'{storage} {storage.endpoint}')[:8]}")

    @property
    def disk(self) -> Path:
        """The file that identifies this disk."""
        return self.folder / "disk"

    def run(self, name: str) -> Path:
        """The folder in which a run works."""
        return self.folder / name

    def view(self, name: str) -> Path:
        """The folder of those who only look; its name is the run's, as messages and reports show it."""
        return self.folder / _VIEWS / name

    def index(self, root: Path, part: str = "") -> Path:
        """The index of a folder, or of a part of it that a worker of its own keeps in step."""
        return root.with_name(f".{root.name}{'~' if part else ''}{part.replace('/', '~')}.index.json")

    def name_address(self, storage: BucketAddress) -> None:
        """Note whose copies these are."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / _ADDRESS).exists():
            write_text(self.folder / _ADDRESS, storage.uri)

    def read_disk(self) -> str:
        """What identifies this disk; '' if no driver has worked here."""
        try:
            return self.disk.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def name_disk(self) -> str:
        """What identifies this disk, made if there is none."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), self.disk.open("x", encoding="utf-8") as file:
            file.write(secrets.token_hex(16))
        return self.read_disk()


def storage_of(root: Path) -> str:
    """Where the run of a folder lies, as --storage takes it: for a copy from object storage, its address."""
    parent = root.resolve().parent
    address = (parent.parent if parent.name == _VIEWS else parent) / _ADDRESS
    return address.read_text(encoding="utf-8") if address.is_file() else str(parent)
