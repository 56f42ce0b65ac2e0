"""Restricts what a locally started Ray keeps on disk, its token and its session folder, to this user.

Anybody who has the token can run code as this user, and the session's logs and sockets expose everything that a run
does.  Ray makes the token readable by all, and its folders writable by all.
"""

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raysweep.errors import ResourceError

_SOCKET_PATH_BYTES = 107
"""Maximum length of a socket's path on Linux."""
_RAY_ADDS_BYTES = 64
"""'/session_<date>_<time>_<microseconds>_<pid>/sockets/plasma_store'"""
_KEPT = 3
"""Number of ended sessions whose logs are kept."""


def protect_token(path: Path, *, create: bool) -> None:
    """Restrict the token file to its owner; create it before Ray does, if it does not exist.

    Args:
        create: True only where Ray would create a token; a joined cluster has its own.

    Raises:
        ResourceError: the file cannot be created, or its permissions cannot be read or changed.
    """
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ) or os.environ.get("RAY_AUTH_MODE") == "disabled":
        return
    try:
        with suppress(FileNotFoundError):
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
            if path.stat().st_size:
                return
        if create:
            _write_token(path)
    except OSError as error:
        raise ResourceError(
            f"{path}: {error.strerror}; Ray keeps there the token by which its processes know each other. "
            "Make it readable and writable for you, or let RAY_AUTH_TOKEN_PATH name another file"
        ) from error


def _write_token(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # By rename, so that no process reads half of it; mkstemp makes a file that only its owner can read.
    handle, name = tempfile.mkstemp(prefix=".auth_token.", dir=path.parent)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
    Path(name).replace(path)


@contextmanager
def session_parent() -> Iterator[Path]:
    """Yield the folder in which Ray creates a session's folder, after deleting ended sessions from it.

    During the block no other process deletes sessions, because the new one is not marked as in use yet.

    Raises:
        ResourceError: no temporary folder can hold Ray's sockets.
    """
    parent = _find_parent() / "r"
    parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(parent, os.O_RDONLY)
    try:
        # If another process is starting a session, it holds the lock shared, and nothing is deleted this time.
        if _try_lock(descriptor, fcntl.LOCK_EX):
            _remove_ended(parent)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield parent
    finally:
        os.close(descriptor)


def mark_in_use(session: Path) -> Callable[[], None]:
    """Mark a session's folder as in use until this process ends, however it ends, or calls the returned function."""
    descriptor = os.open(session, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return lambda: os.close(descriptor)


def _find_parent() -> Path:
    """Find a folder that only this user can enter, with a path short enough for sockets: in TMPDIR, or else in /tmp."""
    longest = _SOCKET_PATH_BYTES - _RAY_ADDS_BYTES - len("/r")
    problems = []
    for place in dict.fromkeys([os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "/tmp"]):
        folder = Path(place).absolute() / f"raysweep-{os.geteuid()}"
        if len(os.fsencode(folder)) > longest:
            problems.append(f"{place!s:.80} is longer than the {longest - len(folder.name) - 1} bytes it may have")
            continue
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            status = folder.lstat()
            if status.st_uid != os.geteuid() or not folder.is_dir() or folder.is_symlink():
                problems.append(f"{folder} is not a folder of yours")
                continue
            folder.chmod(0o700)
        except OSError as error:
            problems.append(f"{folder}: {error.strerror}")
            continue
        return folder
    raise ResourceError(
        f"TMPDIR: found no folder for Ray's sockets: {'; '.join(problems)}. Set TMPDIR to a short path that is yours"
    )


def _remove_ended(parent: Path) -> None:
    """Delete the folders of ended sessions, except the newest ones."""
    ended = [session for session in parent.glob("session_2*") if session.is_dir() and _is_over(session)]
    for session in sorted(ended, reverse=True)[_KEPT:]:
        # Helpers of a killed session may still write into it; what they leave is deleted next time.
        shutil.rmtree(session, ignore_errors=True)


def _is_over(session: Path) -> bool:
    descriptor = os.open(session, os.O_RDONLY)
    try:
        return _try_lock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
