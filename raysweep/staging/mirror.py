"""Synchronises a bucket with a local folder, so that a reader never finds a record without its files.

One pass of `push` reads the records first and lists the files afterwards, so that every file named in a record is
listed.  It then changes the bucket in this order; a kill between any two requests may leave a record missing, but never
one whose files are missing:

    1. records that list less than before are written; other records that change or are gone are deleted
    2. changed files, records last (`storage.run_files.commit_rank`)
    3. deletions, so that the last checkpoint is deleted after the next one has arrived

A file that a record lists is sent only if it has the recorded digest; otherwise the record is held back too:
neither damaged files nor files that are still being written are sent.
"""

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysweep.staging.bucket import Bucket, Stored, TakenError
from raysweep.staging.mirror_index import UNKNOWN, FileMark, MirrorIndex, mark_file, walk_files
from raysweep.staging.parallel_work import in_parallel
from raysweep.storage.digests import digest_file
from raysweep.storage.run_files import (
    Claim,
    commit_rank,
    is_growing,
    is_in_checkpoint,
    is_sealed_record,
    is_working_file,
    read_claims,
    trial_of,
)

GROWING_EVERY_S = 20.0
"""Seconds between two uploads of a growing file, unless a checkpoint or record of the same trial is sent."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Snapshot:
    """The state of the folder: every commit file existed before the files were listed."""

    marks: Mapping[str, FileMark]
    claims: Mapping[str, Mapping[str, Claim]]
    """The files listed in each record, by record."""
    unsettled: frozenset[str]
    """Commit files left for a later pass, because they changed during the listing or are damaged."""


@dataclass(kw_only=True)
class Mirror:
    """A local folder and its objects; only one process may push or pull the same paths."""

    bucket: Bucket
    root: Path
    index: MirrorIndex
    under: str = ""
    """The only folder to synchronise, relative to `root`; '' for all of it."""
    leave_out: Callable[[str], bool] = is_working_file
    """Selects paths that are left unchanged on both sides."""
    appends: bool = False
    """Whether to write fetched growing files in place, for a reader that has them open."""
    held: tuple[str, ...] = ()
    """Files that the last pass did not send, because they differ from their record."""
    _claims: dict[str, tuple[FileMark, Mapping[str, Claim]]] = field(default_factory=dict)
    """The contents of each record, by the version of its file, since most passes find the records unchanged."""
    _sent_at: dict[str, float] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.RLock)

    def push(self, *, everything: bool = True) -> None:
        """Send what changed and delete what is gone.

        Args:
            everything: whether to include growing files that were sent moments ago.

        Raises:
            StorageError: the store does not answer, or refuses.
        """
        with self._lock:
            now = self._take_snapshot()
            changed = {
                path: mark
                for path, mark in now.marks.items()
                if path not in now.unsettled and not self.index.is_sent(path, mark)
            }
            deleted = {path for path in self.index.files if path not in now.marks and self._is_ours(path)}
            self._hold_back(now, changed, deleted)
            if not everything:
                self._defer_growing(changed)
            if changed or deleted:
                self._send(now, changed, deleted)

    def pull(self, *, reset: bool = False, under: str = "", without: Callable[[str], bool] | None = None) -> int:
        """Fetch what others sent; return the number of files.

        Args:
            reset: make the local folder equal to the bucket: delete local files that the bucket lacks, and fetch
                changed ones again.  Otherwise local changes are kept.
            under: fetch only this folder.
            without: selects objects that are not fetched.
        """
        with self._lock:
            objects = {
                path: stored
                for path, stored in self.bucket.list(under or self.under).items()
                if self._is_ours(path) and not (without is not None and without(path))
            }
            wanted = {path: stored for path, stored in objects.items() if self._is_wanted(path, stored, reset=reset)}
            in_parallel(lambda path: self._fetch(path, wanted[path]), wanted)
            here = {*self.index.files, *walk_files(self.root, under or self.under)}
            for path in here - set(objects):
                if self._is_ours(path) and _is_below(path, under) and not (without is not None and without(path)):
                    self._drop(path, reset=reset)
            self.index.save()
            return len(wanted)

    def _take_snapshot(self) -> _Snapshot:
        commits = {path: mark for path, mark in self._marks().items() if commit_rank(path) is not None}
        claims, unreadable = {}, set()
        for path, mark in commits.items():
            if is_sealed_record(path):
                try:
                    if (listed := self._read_claims(path, mark)) is not None:
                        claims[path] = listed
                except ValueError:
                    unreadable.add(path)
        marks = self._marks()
        late = {path for path, mark in marks.items() if commit_rank(path) is not None and commits.get(path) != mark}
        return _Snapshot(marks=marks, claims=claims, unsettled=frozenset(late | unreadable))

    def _read_claims(self, path: str, mark: FileMark) -> Mapping[str, Claim] | None:
        """Return the claims of the record with this mark; None if it is gone.  If it is replaced meanwhile, the newer
        claims are stored under the older mark, which the file will not have again."""
        known = self._claims.get(path)
        if known is not None and known[0] == mark:
            return known[1]
        try:
            data = (self.root / path).read_bytes()
        except FileNotFoundError:
            return None
        self._claims[path] = (mark, read_claims(path, data))
        return self._claims[path][1]

    def _marks(self) -> dict[str, FileMark]:
        ours = (path for path in walk_files(self.root, self.under) if self._is_ours(path))
        return {path: mark for path in ours if (mark := mark_file(f"{self.root}/{path}")) is not None}

    def _hold_back(self, now: _Snapshot, changed: dict[str, FileMark], deleted: set[str]) -> None:
        """Remove from the changes those records whose files differ from them, and these files."""
        held = set()
        for record, claims in now.claims.items():
            if bad := {path for path, claim in claims.items() if self._differs(path, claim, now, changed)}:
                held |= bad
                for path in (record, *bad):
                    changed.pop(path, None)
                    deleted.discard(path)
        self.held = tuple(sorted(held))

    def _differs(self, path: str, claim: Claim, now: _Snapshot, changed: Mapping[str, FileMark]) -> bool:
        if (mark := now.marks.get(path)) is None:
            return self._is_ours(path)
        if path not in changed:
            return False
        try:
            return mark.size != claim.size or digest_file(self.root / path) != claim.digest
        except FileNotFoundError:
            return True

    def _defer_growing(self, changed: dict[str, FileMark]) -> None:
        """Leave out growing files, except those that are followed by a commit of the same trial."""
        committed = {trial_of(path) for path in changed if commit_rank(path) is not None}
        now = time.monotonic()
        for path in [path for path in changed if is_growing(path)]:
            if now - self._sent_at.get(path, float("-inf")) < GROWING_EVERY_S and trial_of(path) not in committed:
                del changed[path]

    def _send(self, now: _Snapshot, changed: Mapping[str, FileMark], deleted: Collection[str]) -> None:
        first, withdrawn = self._withdraw(now, changed, deleted)
        for path in changed:
            self.index.note(path, changed[path], UNKNOWN)
        self.index.save()
        self._upload(first)
        self.bucket.delete(withdrawn)
        rest = [path for path in changed if path not in first]
        self._upload([path for path in rest if commit_rank(path) is None])
        for rank in sorted({rank for path in rest if (rank := commit_rank(path)) is not None}):
            self._upload([path for path in rest if commit_rank(path) == rank])
        # A checkpoint's record is deleted before its files.
        self.bucket.delete(path for path in deleted if is_in_checkpoint(path) and commit_rank(path) is not None)
        self.bucket.delete(path for path in deleted if commit_rank(path) is None)
        self.index.forget(deleted)
        self.index.save()

    def _withdraw(
        self, now: _Snapshot, changed: Mapping[str, FileMark], deleted: Collection[str]
    ) -> tuple[list[str], list[str]]:
        """Return the commit files to write, and those to delete, before anything else."""
        first, withdrawn = (
            [],
            [path for path in deleted if commit_rank(path) is not None and not is_in_checkpoint(path)],
        )
        for path in changed:
            if commit_rank(path) is None or path not in self.index.files:
                continue
            if path not in now.claims:
                withdrawn.append(path)
                continue
            before = self.bucket.read(path)
            claims, old = dict(now.claims[path]), _claims_of(path, before[0]) if before else {}
            if before is not None and claims.items() <= old.items():
                first.append(path)
            elif not old.items() <= claims.items():
                withdrawn.append(path)
        return first, withdrawn

    def _upload(self, paths: Iterable[str]) -> None:
        def send(path: str) -> None:
            file = self.root / path
            if (mark := mark_file(file)) is None:
                # The file was deleted meanwhile; the next pass deletes the object if there is one.
                return
            try:
                version = self.bucket.upload(path, file if mark.size > _READ_BYTES else file.read_bytes())
            except FileNotFoundError:
                return
            self._sent_at[path] = time.monotonic()
            self.index.note(path, mark, version)

        in_parallel(send, paths)

    def _is_wanted(self, path: str, stored: Stored, *, reset: bool) -> bool:
        known, mark = self.index.files.get(path), mark_file(self.root / path)
        if known is not None and known.version == stored.version:
            # Without `reset`, a file that was changed or deleted here is left to this process.
            return reset and mark != known.mark
        if reset:
            return True
        if known is None:
            return mark is None
        return known.version != UNKNOWN and mark == known.mark

    def _fetch(self, path: str, stored: Stored) -> None:
        try:
            self._download(path, stored)
        except TakenError:
            # It was replaced or deleted since it was listed; the next pull fetches it.
            logger.info("%s: changed while it was fetched", path)
            return
        if (mark := mark_file(self.root / path)) is not None:
            self.index.note(path, mark, stored.version)

    def _download(self, path: str, stored: Stored) -> None:
        file = self.root / path
        if not (self.appends and is_growing(path) and file.exists()):
            self.bucket.download(path, stored, file)
            return
        with tempfile.TemporaryDirectory() as scratch:
            fetched = Path(scratch) / file.name
            self.bucket.download(path, stored, fetched)
            with file.open("r+b") as open_file:
                open_file.write(fetched.read_bytes())
                open_file.truncate()

    def _drop(self, path: str, *, reset: bool) -> None:
        """Delete a file that the bucket no longer has; without `reset` only if it did not change here."""
        known, mark = self.index.files.get(path), mark_file(self.root / path)
        if reset or (known is not None and known.version != UNKNOWN and mark == known.mark):
            (self.root / path).unlink(missing_ok=True)
            self.index.forget([path])
            _remove_empty((self.root / path).parent, self.root)

    def _is_ours(self, path: str) -> bool:
        return _is_below(path, self.under) and not self.leave_out(path)


_READ_BYTES = 16 << 20
"""Files up to this size are read at once, so that a growing file is sent in one consistent state."""


def _is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")


def _claims_of(path: str, data: bytes) -> dict[str, Claim]:
    """Return the claims of a record in the bucket; {} if it cannot be read, so that it is replaced."""
    try:
        return read_claims(path, data)
    except ValueError:
        return {}


def _remove_empty(folder: Path, root: Path) -> None:
    """Delete a folder that has become empty, and its empty parents: an empty checkpoint would look damaged."""
    while folder != root and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
