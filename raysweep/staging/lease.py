"""The lock of a run in object storage, which lets one process at a time work in it.

`lease.json` names the holder, who renews it every `RENEW_EVERY_S`.  All writes are conditional (If-None-Match to
create it, If-Match to renew it or take it over), so only one of two competing processes gets it.  A process that died
leaves a lease that nobody renews; a process that sees it unchanged for `EXPIRES_S`, by its own clock, may take it over.
On the disk where the holder worked no such wait is needed, since the kernel's lock on the local folder shows that the
holder is gone.

Whether a store supports conditional writes is found out by a write that must be refused.  If it does not, a lease is
written, and read again after a wait: this separates two processes that start within the same few seconds, but not
two that lost contact with the store and with each other.
"""

import json
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from raysweep.errors import LockedError
from raysweep.staging.bucket import Bucket, Stored, TakenError, UnconditionalError
from raysweep.storage.run_files import LEASE

RENEW_EVERY_S = 15.0
EXPIRES_S = 60.0
_LONG_AGO_S = 600.0
"""A lease older than this, by two clocks that may differ, is free without watching it."""
_LOOK_EVERY_S = 3.0
_SETTLE_S = 6.0
"""Without conditional writes: seconds after which a second writer's lease would be visible."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseHolder:
    """The process that works in a run, or worked in it last."""

    host: str
    pid: int
    since: str
    """Start of the lease, in the holder's local time."""
    disk: str
    """Identifies the disk on which the holder works."""
    token: str
    """Identifies the lease."""
    renewals: int = 0
    is_released: bool = False

    def to_json(self) -> bytes:
        """Encode the holder as the object's content."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self | None:
        """Decode the object's content; None if it is not a lease."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError):
            return None


class Lease:
    """A lease that this process took; `is_lost` is set when another process has taken it over."""

    def __init__(self, bucket: Bucket, holder: LeaseHolder, condition: str, previous: str) -> None:
        self._bucket, self._holder, self._condition = bucket, holder, condition
        self.previous = previous
        """The token of the preceding lease; '' if there was none."""
        self.is_lost = False
        self.has_conditions = True
        self._renewed_at = time.monotonic()

    @property
    def token(self) -> str:
        """Identifies this lease."""
        return self._holder.token

    def renew_if_due(self) -> None:
        """Renew the lease if it is time; set `is_lost` if it belongs to another process now."""
        if not self.is_lost and time.monotonic() - self._renewed_at >= RENEW_EVERY_S:
            self._write(replace(self._holder, renewals=self._holder.renewals + 1))

    def release(self) -> None:
        """Let another process take the lease at once."""
        if not self.is_lost:
            self._write(replace(self._holder, is_released=True))

    def check_conditions(self) -> None:
        """Find out if the store honours conditions; if not, raise LockedError if another process wrote a lease."""
        changed = replace(self._holder, renewals=self._holder.renewals + 1)
        wrong = [
            partial(self._bucket.create, LEASE),
            partial(self._bucket.replace, LEASE, condition='"none"' if self._bucket.address.scheme == "s3" else "1"),
        ]
        self.has_conditions = all(_is_refused(write, changed.to_json()) for write in wrong)
        if not self.has_conditions:
            self._wait_for_other_writers()

    def _wait_for_other_writers(self) -> None:
        time.sleep(_SETTLE_S)
        holder, stored = _read(self._bucket)
        if stored is None or holder is None or holder.token != self.token:
            raise _locked(self._bucket, holder)
        self._condition = stored.condition

    def _write(self, holder: LeaseHolder) -> None:
        try:
            self._condition = self._put(holder)
        except TakenError:
            self.is_lost = True
            return
        self._holder, self._renewed_at = holder, time.monotonic()

    def _put(self, holder: LeaseHolder) -> str:
        if self.has_conditions:
            return self._bucket.replace(LEASE, holder.to_json(), self._condition)
        now, _ = _read(self._bucket)
        if now is None or now.token != self.token:
            raise TakenError(LEASE)
        return self._bucket.upload(LEASE, holder.to_json())


def take_lease(bucket: Bucket, *, disk: str, say: Callable[[str], None]) -> Lease:
    """Take the run's lease; wait up to `EXPIRES_S` if its holder may be dead.

    Args:
        disk: identifies this disk, on which this process holds the local folder's lock.

    Raises:
        LockedError: another process works in the run.
    """
    before, stored = _read(bucket)
    if stored is not None and before is not None and not _is_free(before, stored, disk):
        say(f"{_describe_process(before)} had this run last; watching for up to {EXPIRES_S:.0f} s whether it is alive")
        stored = _watch_until_free(bucket, stored)
    holder = LeaseHolder(
        host=socket.gethostname(),
        pid=os.getpid(),
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        disk=disk,
        token=secrets.token_hex(8),
    )
    condition = _put_first(bucket, holder, stored)
    lease = Lease(bucket, holder, condition, before.token if before else "")
    lease.check_conditions()
    return lease


def read_lease(path: Path) -> tuple[LeaseHolder, bool] | None:
    """Read the holder of a fetched lease, and whether it is active by the file's time; None if it is not a lease."""
    try:
        holder = LeaseHolder.from_json(path.read_bytes())
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None
    return None if holder is None else (holder, not holder.is_released and age < EXPIRES_S)


def read_token(bucket: Bucket) -> str:
    """Return the token of the current lease; '' if there is none."""
    holder, _ = _read(bucket)
    return holder.token if holder and not holder.is_released else ""


def _read(bucket: Bucket) -> tuple[LeaseHolder | None, Stored | None]:
    """Read the lease and its object's version; the holder is None if there is no lease, or none that can be read."""
    content = bucket.read(LEASE)
    return (LeaseHolder.from_json(content[0]), content[1]) if content else (None, None)


def _put_first(bucket: Bucket, holder: LeaseHolder, stored: Stored | None) -> str:
    try:
        if stored is None:
            return bucket.create(LEASE, holder.to_json())
        return bucket.replace(LEASE, holder.to_json(), stored.condition)
    except UnconditionalError:
        return bucket.upload(LEASE, holder.to_json())
    except TakenError as error:
        raise _locked(bucket, _read(bucket)[0]) from error


def _is_refused(write: Callable[..., str], data: bytes) -> bool:
    """Return whether the store refuses a write whose condition is false."""
    try:
        write(data=data)
    except TakenError:
        return True
    except UnconditionalError:
        return False
    return False


def _is_free(holder: LeaseHolder, stored: Stored, disk: str) -> bool:
    return holder.is_released or holder.disk == disk or time.time() - stored.modified > _LONG_AGO_S


def _watch_until_free(bucket: Bucket, stored: Stored) -> Stored | None:
    """Watch a lease until it is released or expires; return it as last seen, or raise LockedError if it is renewed."""
    until = time.monotonic() + EXPIRES_S
    while time.monotonic() < until:
        time.sleep(_LOOK_EVERY_S)
        holder, now = _read(bucket)
        if now is None:
            return None
        if now.version != stored.version:
            if holder is None or not holder.is_released:
                raise _locked(bucket, holder)
            return now
    return _read(bucket)[1]


def _locked(bucket: Bucket, holder: LeaseHolder | None) -> LockedError:
    who = _describe_process(holder) if holder else "another process"
    return LockedError(
        f"{bucket.address}: {who} is working in this folder. Wait for it, end it, or give another --name (`score`: "
        f"--out); the lease of a process that is gone ends {EXPIRES_S:.0f} s after its last sign"
    )


def _describe_process(holder: LeaseHolder) -> str:
    return f"process {holder.pid} on {holder.host:.60}, since {holder.since:.30},"


def describe_holder(holder: LeaseHolder) -> dict[str, Any]:
    """Describe the holder in the form of `pipeline.lock.last_holder`."""
    return {"host": holder.host, "pid": holder.pid, "since": holder.since}
