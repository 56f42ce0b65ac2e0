"""A Ray of this process's own: on this machine, for this user alone, and gone with the process.

It listens on the loopback interface only, keeps its files where nobody else can look, and asks for a token.
A run notices within a second that one of its two servers (the GCS and the raylet) is gone: Ray itself ends the
process after a while without a word when the GCS is gone, and goes on failing every training without a raylet.
"""

import atexit
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import ray

from raysweep.cluster import reaper
from raysweep.cluster.private_files import mark_in_use, protect_token, session_parent
from raysweep.cluster.ray_internals import find_dead_servers, find_raylet, listen_on_loopback
from raysweep.errors import LostRayError
from raysweep.storage.printable import say

AUTH_TOKEN = Path.home() / ".ray" / "auth_token"
_VARIABLES = {
    # No node of this machine is reclaimed, and Ray logs an alarming error when the watcher ends.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # The trainings of one machine find each other through the loopback interface.
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
}
_OBJECT_STORE_BYTES = 512 * 2**20
"""Documents and weights are passed as files; little passes through Ray's object store."""
_LOOK_S = 0.2
_PATIENCE_S = 20.0
"""How long the main thread may take to save its records when Ray is lost; after a minute Ray's own code ends it."""


@dataclass(frozen=True, kw_only=True)
class LocalRay:
    """Ray as it was started here."""

    context: Any
    """What `ray.init` returned."""
    watch: "RayWatch"
    reaper: subprocess.Popen[bytes]
    release: Callable[[], None]
    """Let a later session remove this one's folder."""

    def close(self) -> None:
        """End Ray with all its processes.

        Raises:
            LostRayError: Ray was lost before.
        """
        try:
            self.watch.stop()
            ray.shutdown()
            self.reaper.kill()
        finally:
            assert self.reaper.stdin is not None
            self.reaper.stdin.close()
            self.reaper.wait()
            self.release()


def start_ray(cpus: int | None, gpus: int | None, resources: dict[str, float] | None) -> LocalRay:
    """Start Ray on this machine, never joining another user's.

    Raises:
        ResourceError: its token or its folder cannot be made.
    """
    protect_token(AUTH_TOKEN, create=True)
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    listen_on_loopback(True)
    with session_parent() as parent:
        context: Any = ray.init(
            address="local",
            num_cpus=cpus,
            num_gpus=gpus,
            resources=resources,
            include_dashboard=True,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=_OBJECT_STORE_BYTES,
            _temp_dir=str(parent),
        )
        session = Path(context.address_info["session_dir"])
        release = mark_in_use(session)
    watch = RayWatch(session / "logs")
    watch.start()
    return LocalRay(context=context, watch=watch, reaper=_start_reaper(), release=release)


def _start_reaper() -> subprocess.Popen[bytes]:
    """A process that ends the raylet's agents, should this one be killed; see `reaper`."""
    threads = Path(f"/proc/{find_raylet()}/task")
    agents = [pid for children in threads.glob("*/children") for pid in children.read_text().split()]
    words = [sys.executable, "-I", "-S", str(Path(reaper.__file__)), *agents]
    # Ctrl-C at the terminal must not end it.
    return subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)


class _Lost(BaseException):
    """Raised in the main thread, wherever it is; no Exception, since nothing on its way out may wait for Ray."""


class RayWatch:
    """Looks after Ray's servers in a thread; when one is gone, the main thread's work breaks off."""

    def __init__(self, logs: Path, find_dead: Callable[[], list[str]] = find_dead_servers) -> None:
        """Args: `find_dead` names the servers that are gone."""
        self._logs, self._find_dead = logs, find_dead
        self._stopped = threading.Event()
        self._handler: Any = None
        self._message = ""

    def start(self) -> None:
        """Begin; only in the main thread, where signals can be handled."""
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGUSR1, self._break_off)
            threading.Thread(target=self._watch, name="watch Ray", daemon=True).start()

    def stop(self) -> None:
        """End.

        Raises:
            LostRayError: a server was lost.
        """
        self._stopped.set()
        if self._handler is not None:
            signal.signal(signal.SIGUSR1, self._handler)
        self.raise_if_lost()

    def raise_if_lost(self) -> None:
        """Say what is lost.

        Raises:
            LostRayError: a server was lost.
        """
        if self._message:
            atexit.register(_end_at_once)
            raise LostRayError(self._message)

    def _watch(self) -> None:
        while not self._stopped.wait(_LOOK_S):
            if dead := self._find_dead():
                self._message = (
                    f"Ray's {' and '.join(dead)} on this machine ended (killed, or out of memory?); "
                    f"its log is in {self._logs}. The same command continues from the last checkpoints"
                )
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
                if not self._stopped.wait(_PATIENCE_S):
                    # The main thread waits for Ray, in code that no signal interrupts.
                    say(f"error: {self._message}", to_stderr=True)
                    _end_at_once()
                return

    def _break_off(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's arguments
        raise _Lost(self._message)


def _end_at_once() -> None:
    """End the process before Ray's own code does, which waits for the lost servers, or crashes."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(LostRayError.exit_code)
