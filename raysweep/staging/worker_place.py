"""A worker's side of staging: fetch what a task reads, work on the local disk, send what it made.

On the driver's own disk nothing is transferred here: the driver sends what changed.  On other disks the run folder may
have another path, so a task's paths are replaced.  What a task reads is fetched as the run's records list it, and its
digests are compared, so that a task reads exactly what the record lists, or nothing.
"""

import fcntl
import logging
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from raysweep.errors import DamagedError, RaysweepError, StorageError
from raysweep.staging.bucket import Bucket, TakenError
from raysweep.staging.lease import read_token
from raysweep.staging.local_copies import LocalCopies
from raysweep.staging.mirror import Mirror
from raysweep.staging.mirror_index import MirrorIndex, mark_file
from raysweep.staging.parallel_work import in_parallel
from raysweep.staging.run_staging import StagingTicket
from raysweep.storage.atomic_files import atomic_file
from raysweep.storage.digests import digest_file
from raysweep.storage.run_files import WORKER_ATTEMPTS, Claim, is_working_file, read_claims, trial_of
from raysweep.storage.run_folder import RunFolder, TrialFolder

_LOOK_EVERY_S = 2.0
_ASK_EVERY_S = 5.0
"""Seconds between two checks of the bucket for a stop request."""
_CHECK_S = 20.0
_TRIES = 5
_WAIT_S = 2.0

logger = logging.getLogger(__name__)
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class WorkerPlace:
    """Where a worker works on a run."""

    root: Path
    """The run folder on this disk."""
    ticket: StagingTicket | None
    bucket: Bucket | None
    """None if the worker can read the driver's own folder."""

    @classmethod
    def of(cls, ticket: StagingTicket | None) -> "WorkerPlace":
        """Return the place of this process, without fetching anything."""
        if ticket is None:
            return cls(root=Path(), ticket=None, bucket=None)
        copies = LocalCopies.of(ticket.storage)
        if copies.read_disk() == ticket.disk:
            return cls(root=ticket.root, ticket=ticket, bucket=None)
        # A read-only worker must not disturb a process of this machine that works in the run.
        root = copies.run(ticket.name) if ticket.token else copies.view(ticket.name)
        return cls(root=root, ticket=ticket, bucket=Bucket(ticket.storage.at(ticket.name)))

    def localise(self, value: Value) -> Value:
        """Replace the driver's paths in a task by those of this place."""
        if self.bucket is None or self.ticket is None:
            return value
        localised: Value = _replace_root(value, self.ticket.root, self.root)
        return localised

    def fetch(self, *paths: Path) -> None:
        """Fetch files and folders as the run's records list them; ignore paths outside the run folder.

        Raises:
            DamagedError: an object differs from its record.
            StorageError: the store does not answer, or refuses, or no record lists the file.
        """
        if self.bucket is None:
            return
        with self._one_at_a_time():
            for path in paths:
                if path.is_relative_to(self.root):
                    name = path.relative_to(self.root).as_posix()
                    record = _record_of(name)
                    self._fetch(name, record, partial(self._claims, record, name))

    def fetch_file(self, path: Path, claim: Claim) -> None:
        """Fetch a file that no record lists yet.

        Raises:
            DamagedError: the object differs from the claim.
            StorageError: the store does not answer, or refuses.
        """
        if self.bucket is not None:
            name = path.relative_to(self.root).as_posix()
            with self._one_at_a_time():
                self._fetch(name, "the driver", lambda: {name: claim})

    def fetch_records(self, *paths: Path) -> None:
        """Fetch small files in the bucket's current version; a file that the bucket lacks is deleted here."""
        if self.bucket is not None:
            in_parallel(partial(self._fetch_small_file, self.bucket), paths)

    def send(self, *files: Path, record: Path) -> None:
        """Send files, then the record that lists them; an earlier record is deleted first."""
        if self.bucket is not None:
            self.bucket.delete([record.relative_to(self.root).as_posix()])
            for path in (*files, record):
                self.bucket.upload(path.relative_to(self.root).as_posix(), path)

    @contextmanager
    def training_in(self, folder: Path, *, is_main: bool = True) -> Iterator[None]:
        """Fetch a trial's folder from the bucket; during the block send its changes, and at the end everything.

        A stop request sent by the driver appears as the file that a training checks for.

        Args:
            is_main: False on all workers of a training except one; they read the folder and send nothing.

        Raises:
            StorageError: the store does not answer, or refuses.
        """
        if self.bucket is None or self.ticket is None:
            yield
            return
        sender = _TrialSender(self.bucket, self.root, folder, self.ticket)
        sender.begin(is_main=is_main)
        try:
            yield
        finally:
            if is_main:
                sender.end()

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Let one worker of a node fetch at a time, since all of them read the same examples."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root.parent / f".{self.root.name}.fetch.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _fetch(self, path: str, record: str, find_claims: Callable[[], Mapping[str, Claim]]) -> None:
        for again in range(_TRIES):
            claims = find_claims()
            bad = [name for name, claim in claims.items() if not _is_as_claimed(self.root / name, claim)]
            if claims and not bad:
                return
            # The driver may be about to write or replace the record.
            time.sleep(_WAIT_S if again else 0.0)
            in_parallel(self._download, bad)
        options = ["--name", self.ticket.name, "--storage", self.ticket.storage.uri] if self.ticket else []
        raise DamagedError(
            f"{self.bucket and self.bucket.address}/{bad[0] if claims else path}: is not as {record} says; "
            f"`{shlex.join(['raysweep', 'check-run', *options])}` names what is damaged, and the command that "
            "makes it again"
        )

    def _fetch_small_file(self, bucket: Bucket, path: Path) -> None:
        content = bucket.read(path.relative_to(self.root).as_posix())
        if content is None:
            path.unlink(missing_ok=True)
            return
        with atomic_file(path) as temporary:
            temporary.write_bytes(content[0])

    def _claims(self, record: str, path: str) -> dict[str, Claim]:
        assert self.bucket is not None
        content = self.bucket.read(record)
        claims = read_claims(record, content[0]) if content is not None else {}
        return {name: claim for name, claim in claims.items() if name == path or name.startswith(f"{path}/")}

    def _download(self, name: str) -> None:
        assert self.bucket is not None
        if (stored := self.bucket.find(name)) is None:
            return
        try:
            self.bucket.download(name, stored, self.root / name)
        except TakenError:
            logger.info("%s: changed while it was fetched", name)


def find_bucket_problem(ticket: StagingTicket) -> str:
    """Say why this node cannot reach the run in the bucket, or cannot write there if it must; '' if it can."""
    bucket = Bucket(ticket.storage.at(ticket.name), patience_s=_CHECK_S)
    record = RunFolder(Path()).record.as_posix()
    # This is the place of Ray's working files, so no run takes the probe for a file of its own.
    probe = f"{RunFolder(Path()).ray.as_posix()}/node-{socket.gethostname()}"
    try:
        if not ticket.token:
            return "" if bucket.find(record) else f"{bucket.address} holds no run here; it is another bucket"
        if read_token(bucket) != ticket.token:
            return f"{bucket.address} is another bucket here, or another process has taken the run over"
        bucket.upload(probe, b"checked")
        bucket.delete([probe])
    except RaysweepError as error:
        return str(error)
    return ""


class _TrialSender:
    """Sends a trial's folder during its training, and checks for stop requests."""

    def __init__(self, bucket: Bucket, root: Path, folder: Path, ticket: StagingTicket) -> None:
        self._bucket, self._root, self._token = bucket, root, ticket.token
        self._trial, self._under = TrialFolder(folder), folder.relative_to(root).as_posix()
        copies = LocalCopies.of(ticket.storage)
        self._index_path = copies.index(root, self._under)
        self._mirror = self._make_mirror(MirrorIndex.load(self._index_path))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._push_changes, name="push", daemon=True)
        self._checked_at, self._is_replaced = time.monotonic(), False
        self._sent_attempts: Any = None

    def begin(self, *, is_main: bool) -> None:
        self._trial.root.mkdir(parents=True, exist_ok=True)
        if not is_main:
            # The main worker may use the same folder, so fetch only files that do not exist here.
            index = MirrorIndex(path=self._index_path.with_suffix(".other"), files={})
            self._make_mirror(index).pull()
            index.path.unlink()
            return
        self._mirror.pull(reset=True)
        for path in (self._trial.stop, self._trial.attempts):
            path.unlink(missing_ok=True)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        self._check_driver()
        if not self._is_replaced:
            self._send(everything=True)

    def _make_mirror(self, index: MirrorIndex) -> Mirror:
        return Mirror(
            bucket=self._bucket, root=self._root, index=index, under=self._under, leave_out=self._belongs_to_driver
        )

    def _belongs_to_driver(self, path: str) -> bool:
        trial = self._trial
        driven = (trial.record, trial.stop, trial.attempts, trial.root / WORKER_ATTEMPTS)
        names = {file.relative_to(self._root).as_posix() for file in driven}
        return is_working_file(path) or path in names or trial_of(path) != self._under

    def _push_changes(self) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            try:
                if time.monotonic() - self._checked_at >= _ASK_EVERY_S:
                    self._checked_at = time.monotonic()
                    self._check_driver()
                if self._is_replaced:
                    return
                self._send(everything=False)
            except (StorageError, OSError) as error:
                # The training continues; `end` sends what is left, or fails.
                logger.warning("%s", error)

    def _check_driver(self) -> None:
        """Check for a stop request, and whether the driver still holds the run."""
        if read_token(self._bucket) != self._token:
            self._is_replaced = True
            self._trial.stop.write_bytes(b"another process has taken the run over")
        elif content := self._bucket.read(f"{self._under}/{self._trial.stop.name}"):
            self._trial.stop.write_bytes(content[0])

    def _send(self, *, everything: bool) -> None:
        mark = mark_file(self._trial.attempts)
        if mark is not None and mark != self._sent_attempts:
            self._bucket.upload(f"{self._under}/{WORKER_ATTEMPTS}", self._trial.attempts.read_bytes())
            self._sent_attempts = mark
        self._mirror.push(everything=everything)


def _replace_root(value: Any, before: Path, after: Path) -> Any:
    if isinstance(value, Path):
        return after / value.relative_to(before) if value.is_relative_to(before) else value
    if isinstance(value, str):
        path = Path(value) if value.startswith(str(before)) else None
        return str(_replace_root(path, before, after)) if path is not None else value
    if is_dataclass(value) and not isinstance(value, type):
        changed = {field.name: _replace_root(getattr(value, field.name), before, after) for field in fields(value)}
        return replace(value, **changed)
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(_replace_root(item, before, after) for item in value)
    if isinstance(value, list):
        return [_replace_root(item, before, after) for item in value]
    return value


def _record_of(path: str) -> str:
    run = RunFolder(Path())
    if trial := trial_of(f"{path}/"):
        return TrialFolder(Path(trial)).record.as_posix()
    folder, *inside = path.split("/")
    if folder == run.corpora.as_posix() and inside:
        return run.further(inside[0]).further_record.as_posix()
    return run.record.as_posix()


def _is_as_claimed(file: Path, claim: Claim) -> bool:
    return file.is_file() and file.stat().st_size == claim.size and digest_file(file) == claim.digest
