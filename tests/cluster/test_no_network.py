"""A whole run works without any network but the loopback interface."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from shlex import quote

import pytest

from tests.chaos.case import CONFIG

ROOT = Path(__file__).parents[2]
LOOPBACK_UP = """
import fcntl, socket, struct
SIOCSIFFLAGS, UP_LOOPBACK_RUNNING = 0x8914, 0x49
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", UP_LOOPBACK_RUNNING))
assert socket.if_nameindex() == [(1, "lo")]
"""


def can_unshare():
    command = ["unshare", "-rn", "true"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.ray
@pytest.mark.timeout(400)
@pytest.mark.skipif(not can_unshare(), reason="this user may not make a network namespace")
@pytest.mark.parametrize("how", ["--inline", pytest.param("", id="Ray", marks=pytest.mark.slow)])
def test_a_run_works_without_a_network(tmp_path, how):
    """From the corpus to the report, nothing is looked up or downloaded."""
    (tmp_path / "experiments.yaml").write_text(CONFIG)
    (tmp_path / "loopback.py").write_text(LOOPBACK_UP)
    python = quote(sys.executable)
    run = f"{python} loopback.py && exec {python} -m raysweep run {how}"
    done = subprocess.run(
        ["unshare", "-rn", "sh", "-ec", run],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "runs" / "tiny" / "report" / "report.html").exists()
