"""One process at a time in a run folder."""

import os
import signal
import subprocess
import sys

import pytest

from raysweep.errors import LockedError
from raysweep.pipeline.lock import is_locked, locked
from raysweep.storage.run_folder import RunFolder

HOLD = """
import sys
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


def test_a_second_run_is_refused_and_told_who_has_the_folder(tmp_path, holder):
    """Two runs in one folder would write over each other."""
    folder = RunFolder(tmp_path)
    assert is_locked(folder)
    with pytest.raises(LockedError, match=f"process {holder.pid} on "), locked(folder):
        pass


def test_a_killed_process_leaves_no_lock(tmp_path, holder):
    """The kernel lets go, whatever the file says."""
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    folder = RunFolder(tmp_path)
    assert not is_locked(folder)
    with locked(folder):
        assert is_locked(folder)
    assert not is_locked(folder)
