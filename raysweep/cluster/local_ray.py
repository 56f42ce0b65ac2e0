"""Starts a Ray of this process's own: on this machine, for this user only, ending with the process.

It listens only on the loopback interface, keeps its files where nobody else can read them, and requires a token.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from raysweep.cluster import reaper
from raysweep.cluster.private_files import mark_in_use, protect_token, session_parent
from raysweep.cluster.ray_internals import Change, find_raylet, listening_on_loopback, restore_environment
from raysweep.errors import ResourceError
from raysweep.storage.printable import shorten_quotes

AUTH_TOKEN = Path.home() / ".ray" / "auth_token"
_VARIABLES = {
    # No node of this machine is reclaimed, and Ray logs an alarming error when the watcher ends.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # The trainings of one machine find each other through the loopback interface.
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
}
_OBJECT_STORE_BYTES = 512 * 2**20
"""Documents and weights are passed as files, so Ray's object store holds little."""


@dataclass(frozen=True, kw_only=True)
class LocalRay:
    """A Ray that was started here."""

    context: Any
    """The result of `ray.init`."""
    reaper: subprocess.Popen[bytes]
    release: Callable[[], None]
    """Lets a later session delete this session's folder."""
    environment: Mapping[str, Change]
    """The environment variables that its start changed."""

    def close(self) -> None:
        """Shut down Ray with all its processes."""
        try:
            ray.shutdown()
            self.reaper.kill()
        finally:
            self.leave()

    def leave(self) -> None:
        """Abandon a Ray that is lost; its remaining processes end by themselves."""
        assert self.reaper.stdin is not None
        try:
            self.reaper.stdin.close()
            self.reaper.wait()
        finally:
            restore_environment(self.environment)
            self.release()


def start_ray(
    cpus: int | None, gpus: int | None, resources: dict[str, float] | None, *, with_dashboard: bool = True
) -> LocalRay:
    """Start Ray on this machine, without joining another user's; ResourceError if it cannot."""
    before = dict(os.environ)
    try:
        protect_token(AUTH_TOKEN, create=True)
        for name, value in _VARIABLES.items():
            os.environ.setdefault(name, value)
        context, release = _init(cpus, gpus, resources, with_dashboard=with_dashboard)
        reaper_process = _start_reaper()
    except BaseException:
        restore_environment(_changes_since(before))
        raise
    return LocalRay(context=context, reaper=reaper_process, release=release, environment=_changes_since(before))


def _init(
    cpus: int | None, gpus: int | None, resources: dict[str, float] | None, *, with_dashboard: bool
) -> tuple[Any, Callable[[], None]]:
    """Return the result of `ray.init`, and what lets a later session delete this session's folder."""
    with session_parent() as parent:
        with _dashboard_errors(), listening_on_loopback(True):
            context: Any = ray.init(
                address="local",
                num_cpus=cpus,
                num_gpus=gpus,
                resources=resources,
                include_dashboard=with_dashboard,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=_OBJECT_STORE_BYTES,
                _temp_dir=str(parent),
            )
        session = Path(context.address_info["session_dir"])
        return context, mark_in_use(session)


def _changes_since(before: Mapping[str, str]) -> dict[str, Change]:
    now = os.environ
    return {name: Change(before.get(name), value) for name, value in now.items() if value != before.get(name)}


@contextmanager
def _dashboard_errors() -> Iterator[None]:
    """Report in one line that Ray's dashboard does not start; other processes of Ray need the same packages."""
    try:
        yield
    # Ray has no exception type for this error.
    except Exception as error:
        if "dashboard" not in str(error):
            raise
        # The message contains the dashboard's whole log.
        reason = shorten_quotes(str(error).strip().splitlines()[-1].strip())
        raise ResourceError(
            f"Ray does not start, since its dashboard does not: {reason}; install Ray anew with all its packages: "
            f"pip install --force-reinstall 'ray[default]=={ray.__version__}'"
        ) from error


def _start_reaper() -> subprocess.Popen[bytes]:
    """Start a process that ends the raylet's agents if this process is killed; see `reaper`."""
    threads = Path(f"/proc/{find_raylet()}/task")
    agents = [pid for children in threads.glob("*/children") for pid in children.read_text().split()]
    words = [sys.executable, "-I", "-S", str(Path(reaper.__file__)), *agents]
    # In a new session, so that Ctrl-C at the terminal does not end it.
    return subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)
