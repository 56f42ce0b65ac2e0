"""Lets one process at a time work in a run folder.

The kernel holds the lock and releases it when the process ends, however it ends; the file's text only
names the holder.  A process that only checks the lock takes it too, shared and for microseconds; a run that
starts at that moment waits for it to be released.
"""

import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raysweep.errors import InputError, LockedError
from raysweep.staging.lease import describe_holder, read_lease
from raysweep.storage.named_folder import create_run_folder
from raysweep.storage.run_files import LEASE
from raysweep.storage.run_folder import RunFolder

_LOOKS_S = 10.0
"""Seconds that a starting run waits for processes that only check the lock."""


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Hold the run folder's lock during the block.

    Raises:
        ConfigError: the folder cannot be created.
        InputError: the lock file is a link, or not a regular file.
        LockedError: another process holds the lock; the message names its host and pid.
    """
    create_run_folder(folder)
    descriptor = _open(folder, os.O_RDWR | os.O_CREAT)
    try:
        if not _take(descriptor):
            raise LockedError(_holder_message(folder))
        os.ftruncate(descriptor, 0)
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_locked(folder: RunFolder) -> bool:
    """Tell whether a process holds the lock; for a run fetched from object storage, whether its lease is valid."""
    if (lease := read_lease(folder.root / LEASE)) is not None:
        return lease[1]
    if not folder.lock.exists():
        return False
    descriptor = _open(folder, os.O_RDONLY)
    try:
        return not _try(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def last_holder(folder: RunFolder) -> dict[str, Any] | None:
    """Return `host`, `pid` and `since` (local time) of the last holder of the lock; None if the file does not say."""
    if (lease := read_lease(folder.root / LEASE)) is not None:
        return describe_holder(lease[0])
    try:
        holder = json.loads(folder.lock.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    is_known = isinstance(holder, dict) and {"host", "pid", "since"} <= set(holder) and isinstance(holder["pid"], int)
    return holder if is_known else None


def _open(folder: RunFolder, flags: int) -> int:
    """Open the lock file; raise InputError unless it is a regular file with one name, because it is emptied."""
    try:
        # Without O_NONBLOCK, opening a FIFO that has no writer would block.
        descriptor = os.open(folder.lock, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if folder.lock.is_symlink() or folder.lock.is_dir():
            raise _not_a_lock(folder) from error
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise _not_a_lock(folder)
    return descriptor


def _not_a_lock(folder: RunFolder) -> InputError:
    return InputError(f"{folder.lock}: found a link or no plain file; remove it if no run works in the folder")


def _take(descriptor: int) -> bool:
    """Take the lock; return False if a run holds it, rather than a process that only checks it."""
    until = time.monotonic() + _LOOKS_S
    while not _try(descriptor, fcntl.LOCK_EX):
        if not _try(descriptor, fcntl.LOCK_SH) or time.monotonic() > until:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        time.sleep(0.001)
    return True


def _try(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder_message(folder: RunFolder) -> str:
    holder = last_holder(folder)
    who = f"process {holder['pid']} on {holder['host']}, since {holder['since']}" if holder else "another process"
    return (
        f"{folder.root}: {who} is working in this folder. Wait for it, end it, or give another --name (`score`: --out)"
    )
