"""One process at a time works in a run folder.

The kernel holds the lock and releases it when the process ends, however it ends; the file's text only
names the holder.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raysweep.errors import LockedError
from raysweep.storage.run_folder import RunFolder


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Hold the run folder's lock for the block.

    Raises:
        LockedError: another process has it; names host and pid.
    """
    folder.root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(_holder_message(folder)) from None
        os.ftruncate(descriptor, 0)
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_locked(folder: RunFolder) -> bool:
    """True while a process holds the lock."""
    if not folder.lock.exists():
        return False
    descriptor = os.open(folder.lock, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def last_holder(folder: RunFolder) -> dict[str, Any] | None:
    """The `host`, `pid` and `since` (Unix seconds) of the process that has the lock, or had it last.

    None if the file does not say.
    """
    try:
        holder = json.loads(folder.lock.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return holder if isinstance(holder, dict) and {"host", "pid", "since"} <= set(holder) else None


def _holder_message(folder: RunFolder) -> str:
    who = "another process"
    if holder := last_holder(folder):
        who = f"process {holder['pid']} on {holder['host']}, for {time.time() - holder['since']:,.0f} s"
    return f"{folder.root}: {who} is working in this run. Wait for it, end it, or give this run another --name"
