"""Synchronises one run's local folder with its objects while a command works in it: the pipeline's side of staging.

`push` is called when the contents of the records have changed (a stage is begun again, or done) and returns when the
bucket is up to date.  In between, a thread sends changes every few seconds: checkpoints, stop requests, curves.
`collect` fetches what a worker with its own disk has sent.  For a local path all of this is `LocalStorage`, which
does nothing.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from raysweep.errors import LockedError, StorageError
from raysweep.staging.bucket import Bucket, Traffic
from raysweep.staging.bucket_address import BucketAddress
from raysweep.staging.lease import take_lease
from raysweep.staging.local_copies import LocalCopies
from raysweep.staging.mirror import Mirror
from raysweep.staging.mirror_index import MirrorIndex
from raysweep.storage.run_files import WORKER_ATTEMPTS, is_large
from raysweep.storage.run_folder import TrialFolder

_LOOK_EVERY_S = 2.0
_COLLECT_EVERY_S = 20.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class StagingTicket:
    """What a worker needs to find the run in the bucket; contains no credentials."""

    storage: BucketAddress
    name: str
    disk: str
    """Identifies the driver's disk, which the worker may share."""
    root: Path
    """The run folder on the driver's disk."""
    token: str
    """Identifies the driver's lease: a worker stops sending when another driver takes over; '' for read-only use."""


class Staging(Protocol):
    """The interface of the storage for the pipeline and the executors."""

    @property
    def ticket(self) -> StagingTicket | None:
        """For workers; None if they can read the run folder itself."""

    def push(self) -> None:
        """Return when the storage has everything that the run folder has.

        Raises:
            StorageError: it does not answer, or refuses.
            LockedError: another process has taken over the run.
        """

    def collect(self, folder: Path) -> None:
        """Fetch what a worker has sent of a folder of the run."""


class LocalStorage:
    """A run folder that every process can read: nothing is sent or fetched."""

    ticket: StagingTicket | None = None

    def push(self) -> None:
        """Do nothing: there is nothing to send."""

    def collect(self, folder: Path) -> None:
        """Do nothing: there is nothing to fetch."""


@dataclass(frozen=True, kw_only=True)
class ReadStorage(LocalStorage):
    """A run in a bucket that this process and its workers only read."""

    ticket: StagingTicket | None

    @classmethod
    def of(cls, storage: BucketAddress, root: Path) -> "ReadStorage":
        """Args: `root` is the folder into which this process fetched the run; its name is the run's."""
        disk = LocalCopies.of(storage).name_disk()
        return cls(ticket=StagingTicket(storage=storage, name=root.name, disk=disk, root=root, token=""))


class RunStaging:
    """A run in a bucket, and the local folder in which this process works on it."""

    def __init__(self, storage: BucketAddress, name: str, say: Callable[[str], None]) -> None:
        """Take the lease, and update the local folder from the bucket.

        Args:
            say: shows a line to the user.

        Raises:
            LockedError: another process works in the run.
            StorageError: the store does not answer, or refuses.
        """
        began = time.monotonic()
        copies = LocalCopies.of(storage)
        copies.name_address(storage)
        self.root, self._say = copies.run(name), say
        self.root.mkdir(parents=True, exist_ok=True)
        self._bucket = Bucket(storage.at(name))
        self._disk, self._storage = copies.name_disk(), storage
        self._lease = take_lease(self._bucket, disk=self._disk, say=say)
        with ExitStack() as on_error:
            on_error.callback(self._lease.release)
            if not self._lease.has_conditions:
                say(f"{storage}: has no conditional writes; two runs of one name are told apart with less certainty")
            index = MirrorIndex.load(copies.index(self.root))
            self._mirror = Mirror(bucket=self._bucket, root=self.root, index=index)
            self._catch_up(index)
            on_error.pop_all()
        self._gives_tickets = False
        self._collected_at = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._push_changes, name="push", daemon=True)
        self._thread.start()
        self._waited_s = time.monotonic() - began

    @property
    def ticket(self) -> StagingTicket | None:
        """For workers."""
        self._gives_tickets = True
        return StagingTicket(
            storage=self._storage, name=self.root.name, disk=self._disk, root=self.root, token=self._lease.token
        )

    @property
    def traffic(self) -> Traffic:
        """What this process has sent and fetched so far."""
        return self._bucket.traffic

    def push(self) -> None:
        """Return when the bucket has everything that the folder has."""
        began = time.monotonic()
        self._refuse_lost()
        self._mirror.push()
        self._waited_s += time.monotonic() - began

    def collect(self, folder: Path) -> None:
        """Fetch what a worker has sent of a folder of the run."""
        self._refuse_lost()
        if not self._gives_tickets:
            return
        began, under = time.monotonic(), folder.relative_to(self.root).as_posix()
        self._mirror.pull(under=under)
        # Only this trial's: another trial's worker may be sending a longer file, which the next push would then delete.
        self._merge_attempts(folder)
        self._waited_s += time.monotonic() - began

    def close(self) -> None:
        """Send what is left, and release the run for other processes.

        Raises:
            StorageError: the store does not answer, or refuses; the local folder keeps everything.
            LockedError: another process has taken over the run.
        """
        self._over.set()
        self._thread.join()
        self.push()
        if self._mirror.held:
            self._say(f"not sent, because it is not as its record says: {', '.join(self._mirror.held)[:80]}")
        self._lease.release()
        sent, fetched = self.traffic.sent_bytes / 1e6, self.traffic.fetched_bytes / 1e6
        self._say(
            f"storage: sent {sent:,.1f} MB, fetched {fetched:,.1f} MB, {self.traffic.requests:,} requests, "
            f"{self.traffic.writes:,} of them writes or listings; the work waited {self._waited_s:,.1f} s for it"
        )

    def _catch_up(self, index: MirrorIndex) -> None:
        """Fetch what is newer in the bucket; if another disk was used since, make the folder equal to the bucket."""
        is_own = bool(index.session) and index.session == self._lease.previous
        count = self._mirror.pull(reset=not is_own)
        index.session = self._lease.token
        index.save()
        if count:
            size = self.traffic.fetched_bytes / 1e6
            self._say(f"storage: fetched {count:,} files ({size:,.1f} MB) from {self._bucket.address} to {self.root}")
        self._merge_attempts(self.root)

    def _merge_attempts(self, folder: Path) -> None:
        """Append the attempt events of workers that ended to this process's own, and delete the workers' files."""
        for theirs in folder.rglob(WORKER_ATTEMPTS):
            ours = TrialFolder(theirs.parent).attempts
            lines = theirs.read_text(encoding="utf-8").splitlines(keepends=True)
            known = set(ours.read_text(encoding="utf-8").splitlines(keepends=True)) if ours.exists() else set()
            with ours.open("a", encoding="utf-8") as file:
                file.write("".join(line for line in lines if line.endswith("\n") and line not in known))
            theirs.unlink()

    def _refuse_lost(self) -> None:
        if self._lease.is_lost:
            raise LockedError(
                f"{self._bucket.address}: another process has taken this run over, since this one did not renew its "
                f"lease for long; nothing more is sent. What it did lies in {self.root}"
            )

    def _push_changes(self) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            try:
                self._lease.renew_if_due()
                if self._lease.is_lost:
                    logger.warning("%s: another process has taken this run over", self._bucket.address)
                    # As after Ctrl-C, running trainings save a checkpoint on this disk.
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                self._mirror.push(everything=False)
                if self._gives_tickets and time.monotonic() - self._collected_at >= _COLLECT_EVERY_S:
                    # Fetch what workers with their own disks have sent, for the view of the run.
                    self._mirror.pull(without=is_large)
                    self._collected_at = time.monotonic()
            except (StorageError, OSError) as error:
                # Work continues; the push at the next boundary, or at the end, raises the error if it persists.
                logger.warning("%s", error)


@contextmanager
def staged_run(storage: BucketAddress | None, name: str, say: Callable[[str], None]) -> Iterator[Staging]:
    """Provide the run's storage for the block (None means a local path); afterwards the bucket has everything.

    Raises:
        LockedError: another process works in the run, or has taken it over.
        StorageError: the store does not answer, or refuses; the local folder keeps everything.
    """
    if storage is None:
        yield LocalStorage()
        return
    staging = RunStaging(storage, name, say)
    try:
        yield staging
    except BaseException:
        try:
            staging.close()
        except (StorageError, LockedError) as error:
            # The error that ended the block is the one that the user must see first.
            logger.warning("%s", error)
        raise
    staging.close()
