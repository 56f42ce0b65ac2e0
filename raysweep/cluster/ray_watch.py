"""Notices within seconds that Ray is lost, and interrupts whatever the main thread is waiting for.

Ray itself ends the process after a minute without response if the GCS is gone, and without a raylet it keeps failing
every training.
"""

import atexit
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import ray

from raysweep.cluster.ray_internals import find_dead_servers
from raysweep.errors import LostRayError
from raysweep.storage.printable import say

_LOOK_S = 0.2
_PATIENCE_S = 15.0
"""Seconds for the main thread to save its records when Ray is lost; after a minute Ray's own code ends it."""
_SILENCE_S = 10.0
"""Seconds that a cluster's server may be unreachable: its listening socket answers even if its process is busy."""
_CONNECT_S = 2.0


def find_ended_server() -> str:
    """Say which server of the locally started Ray has ended; '' if all are running."""
    dead = find_dead_servers()
    return f"Ray's {' and '.join(dead)} on this machine ended (killed, or out of memory?)" if dead else ""


class SilentServers:
    """Reports servers of a joined cluster, by name and address, that have been unreachable for a while."""

    def __init__(self, addresses: Mapping[str, tuple[str, int]], silence_s: float = _SILENCE_S) -> None:
        self._addresses, self._silence_s = addresses, silence_s
        self._answered = dict.fromkeys(addresses, time.monotonic())

    def __call__(self) -> str:
        """Describe the first unreachable server; '' if there is none."""
        for name, address in self._addresses.items():
            try:
                socket.create_connection(address, timeout=_CONNECT_S).close()
                self._answered[name] = time.monotonic()
            except OSError as error:
                silence = time.monotonic() - self._answered[name]
                if silence >= self._silence_s:
                    place = f"{address[0]}:{address[1]}"
                    return f"Ray's {name} at {place} has not answered for {silence:.0f} s ({error.strerror or error})"
        return ""


def servers_of_cluster() -> dict[str, tuple[str, int]]:
    """Return the addresses of the joined cluster's GCS and of this node's raylet."""
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    (node,) = [node for node in ray.nodes() if node["NodeID"] == context.get_node_id()]  # type: ignore[no-untyped-call]
    return {
        "gcs_server": (host, int(port)),
        "raylet": (str(node["NodeManagerAddress"]), int(node["NodeManagerPort"])),
    }


class _Lost(BaseException):
    """Raised in the main thread at any point; not an Exception, so that no handler waits for Ray on the way out."""


class RayWatch:
    """Watches Ray's servers in a thread.

    Args:
        logs: the folder of Ray's logs.
        find_lost: describes what is lost; '' if nothing is.
        look_s: seconds between two checks.
    """

    def __init__(self, logs: Path, find_lost: Callable[[], str], look_s: float = _LOOK_S) -> None:
        self._logs, self._find_lost, self._look_s = logs, find_lost, look_s
        self._stopped = threading.Event()
        self._handler: Any = None
        self._message = ""

    def start(self) -> None:
        """Start watching, if this is the main thread, which can handle signals."""
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGUSR1, self._break_off)
            threading.Thread(target=self._watch, name="watch Ray", daemon=True).start()

    def stop(self) -> None:
        """Stop watching; raises LostRayError if a server was lost."""
        self._stopped.set()
        if self._handler is not None:
            signal.signal(signal.SIGUSR1, self._handler)
        self.raise_if_lost()

    def raise_if_lost(self) -> None:
        """Raise LostRayError if a server was lost."""
        if self._message:
            atexit.register(_end_at_once)
            raise LostRayError(self._message)

    def _watch(self) -> None:
        while not self._stopped.wait(self._look_s):
            if lost := self._find_lost():
                self._message = (
                    f"{lost}; its log is in {self._logs}. The same command continues from the last checkpoints"
                )
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
                if not self._stopped.wait(_PATIENCE_S):
                    # The main thread waits for Ray in code that no signal interrupts.
                    say(f"error: {self._message}", to_stderr=True)
                    _end_at_once()
                return

    def _break_off(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's arguments
        raise _Lost(self._message)


def _end_at_once() -> None:
    """End the process before Ray's own exit code, which waits for the lost servers, or crashes."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(LostRayError.exit_code)
