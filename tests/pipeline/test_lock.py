"""One process at a time in a run folder."""

import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from raysweep.errors import LockedError
from raysweep.pipeline import lock
from raysweep.pipeline.lock import is_locked, last_holder, locked
from raysweep.storage.run_folder import RunFolder

HOLD = """
import sys
import time
from pathlib import Path
from raysweep.pipeline.lock import locked
from raysweep.storage.run_folder import RunFolder
with locked(RunFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_run_is_refused_with_the_holder_of_the_lock(tmp_path, holder):
    """Two runs in one folder would write over each other."""
    folder = RunFolder(tmp_path)
    assert is_locked(folder)
    with pytest.raises(LockedError, match=f"process {holder.pid} on "), locked(folder):
        pass


def test_a_killed_process_releases_the_lock(tmp_path, holder):
    """The kernel releases it, whatever the file says."""
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    folder = RunFolder(tmp_path)
    assert not is_locked(folder)
    with locked(folder):
        assert is_locked(folder)
    assert not is_locked(folder)


@pytest.fixture
def status_check(tmp_path):
    """Hold the lock like a process that only checks it; return a function that releases it."""
    with locked(RunFolder(tmp_path)):
        pass
    descriptor = os.open(RunFolder(tmp_path).lock, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    with os.fdopen(descriptor):
        yield lambda: fcntl.flock(descriptor, fcntl.LOCK_UN)


def test_a_run_waits_for_a_brief_status_check_to_release_the_lock(tmp_path, status_check, monkeypatch):
    """With `status` in a tight loop, one start in twenty was refused."""
    monkeypatch.setattr(time, "sleep", lambda seconds: status_check())
    with locked(RunFolder(tmp_path)):
        assert is_locked(RunFolder(tmp_path))


def test_a_run_is_refused_if_a_status_check_never_releases_the_lock(tmp_path, status_check, monkeypatch):
    """Nothing waits forever."""
    monkeypatch.setattr(lock, "_LOOKS_S", 0.0)
    with pytest.raises(LockedError, match="is working in this folder"), locked(RunFolder(tmp_path)):
        pass


def test_the_holder_is_shown_with_its_start_time(tmp_path, holder):
    """A duration measured by a clock that was set back would be negative."""
    with (
        pytest.raises(LockedError, match=r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d is working"),
        locked(RunFolder(tmp_path)),
    ):
        pass


@pytest.mark.parametrize("text", ["", "[]", '{"host": "h", "pid": "x", "since": 1}', "\x00"])
def test_a_malformed_lock_file_names_no_holder(tmp_path, holder, text):
    """The text is only informative; the lock itself is the kernel's."""
    folder = RunFolder(tmp_path)
    folder.lock.write_text(text)
    assert last_holder(folder) is None
    with pytest.raises(LockedError, match="another process is working"), locked(folder):
        pass
