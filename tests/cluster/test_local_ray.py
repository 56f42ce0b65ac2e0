"""A Ray that is started here is only for this user, and a run never outlives it without a message."""

import io
import os
import re
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from raysweep.cluster.local_ray import LocalRay, start_ray
from raysweep.cluster.ray_executor import RayExecutor
from raysweep.cluster.ray_internals import Change
from raysweep.config.resource_settings import ResourcesConfig
from raysweep.errors import ResourceError
from raysweep.scheduling.records import State, read_record
from raysweep.storage.run_folder import RunFolder
from tests.cluster.chained_training import steps_of
from tests.cluster.conftest import ROOT
from tests.cluster.listening import exposed_listeners, listening_as_ss_says
from tests.cluster.sweep_process import SweepProcess
from tests.sweep_tasks import RecordingListener


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run with a space")


class TokenModes(threading.Thread):
    """Watch the token file's mode from the moment it exists."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.modes, self.is_over = path, set(), threading.Event()

    def run(self):
        while not self.is_over.wait(0.002):
            if self.path.exists():
                self.modes.add(stat.S_IMODE(self.path.stat().st_mode))


def test_a_dashboard_that_does_not_start_is_reported_in_one_line(monkeypatch, tmp_path):
    """A missing package of the dashboard once ended the run as a fault of raysweep; other errors stay as they are."""
    message = "The last 20 lines of dashboard.err:\n  File 'x.py'\nImportError: no aiohttp_cors\n"

    def fail(**options):
        raise Exception(message)

    monkeypatch.setattr("ray.init", fail)
    monkeypatch.setattr("raysweep.cluster.local_ray.AUTH_TOKEN", tmp_path / "token")
    with pytest.raises(ResourceError, match=r"its dashboard does not: ImportError: no aiohttp_cors; install Ray anew"):
        start_ray(1, 0, None)
    message = "no memory for the object store"
    with pytest.raises(Exception, match=r"^no memory for the object store$"):
        start_ray(1, 0, None)


def test_a_failed_start_of_ray_restores_the_environment(monkeypatch, tmp_path):
    """A process that then joined a cluster would have looked for its other nodes on the loopback interface."""
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("raysweep.cluster.local_ray.AUTH_TOKEN", tmp_path / "token")
    seen = {}

    def fail(**options):
        seen.update(os.environ)
        raise MemoryError

    monkeypatch.setattr("ray.init", fail)
    before = dict(os.environ)
    with pytest.raises(MemoryError):
        start_ray(1, 0, None)
    assert seen["GLOO_SOCKET_IFNAME"] == "lo"
    assert dict(os.environ) == before


def test_an_environment_variable_changed_in_between_keeps_its_value(monkeypatch):
    """Only what the start of Ray has set is undone, even if its watching process cannot be awaited."""
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "PYTHONBREAKPOINT"):
        monkeypatch.setenv(name, "lo")

    def fail():
        raise InterruptedError

    released = []
    local = LocalRay(
        context=None,
        reaper=SimpleNamespace(stdin=io.BytesIO(), wait=fail),
        release=lambda: released.append(True),
        environment={
            "GLOO_SOCKET_IFNAME": Change(None, "lo"),
            "NCCL_SOCKET_IFNAME": Change(None, "lo"),
            "PYTHONBREAKPOINT": Change("pdb", "lo"),
        },
    )
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth0")
    with pytest.raises(InterruptedError):
        local.leave()
    assert released
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    assert os.environ["NCCL_SOCKET_IFNAME"] == "eth0"
    assert os.environ["PYTHONBREAKPOINT"] == "pdb"


def test_scoring_starts_no_dashboard(monkeypatch, tmp_path):
    """It takes 2.5 s of CPU time; only Ray Train needs it."""
    asked = []

    def note(**options):
        asked.append(options["include_dashboard"])
        raise KeyboardInterrupt

    monkeypatch.setattr("ray.init", note)
    monkeypatch.setattr("raysweep.cluster.local_ray.AUTH_TOKEN", tmp_path / "token")
    for trains in (False, True):
        executor = RayExecutor(ResourcesConfig(), RunFolder(tmp_path), trains=trains)
        with pytest.raises(KeyboardInterrupt):
            executor.time_model(tmp_path, [], 1, RecordingListener())
    assert asked == [False, True]


START_AND_END = """
import os
from raysweep.cluster.local_ray import start_ray
before = dict(os.environ)
for _ in range(2):
    ray = start_ray(1, 0, None, with_dashboard=False)
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ
    assert ray.context.address_info["node_ip_address"] == "127.0.0.1"
    ray.close()
    assert dict(os.environ) == before
"""


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_local_ray_restores_the_environment(monkeypatch):
    """A process that inherited its addresses could not start a cluster of two nodes, and `breakpoint` stayed Ray's."""
    for name in ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_AUTH_MODE", "PYTHONBREAKPOINT"):
        monkeypatch.delenv(name, raising=False)
    subprocess.run([sys.executable, "-c", START_AND_END], check=True, cwd=ROOT)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_session_is_unreachable_for_others_and_ends_with_its_driver(run, output, tmp_path):
    """Others on the network or the machine could run code as this user, or read what learners wrote.

    Once, Ray listened on nine ports of all interfaces, its token was readable by all for 15 s, and two of its
    processes lived on for a minute. Here, TMPDIR is longer than a socket's path may be.
    """
    token = TokenModes(tmp_path / "home" / ".ray" / "auth_token")
    token.start()
    with SweepProcess(run, output, CPUS="1", HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path)) as sweep:
        sweep.wait_until(lambda: steps_of(run, "all"))
        token.is_over.set()
        family = sweep.family()
        assert len(family) > 5
        everyone = [*family, psutil.Process(sweep.process.pid)]
        assert exposed_listeners(everyone) == []
        listening = listening_as_ss_says(everyone)
        assert listening is None or (len(listening) > 5 and set(listening) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"})
        session = Path((run.ray / "session.json").read_text().split('"logs": "')[1].split('"')[0]).parent
        assert stat.S_IMODE(session.parent.parent.stat().st_mode) == 0o700
        sweep.process.kill()
        _, alive = psutil.wait_procs(family, timeout=45)
        assert alive == []
    assert token.modes == {0o600}


@pytest.mark.ray
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("server", "how", "message"),
    [
        ("raylet", [], "raylet on this machine ended"),
        pytest.param("gcs_server", [], "gcs_server on this machine ended", marks=pytest.mark.slow),
        pytest.param("raylet", ["cluster"], "raylet at .* has not answered for 1. s", marks=pytest.mark.slow),
        pytest.param("gcs_server", ["cluster"], "gcs_server at .* has not answered for 1. s", marks=pytest.mark.slow),
    ],
)
def test_a_run_whose_ray_is_killed_reports_it_and_ends(run, output, server, how, message):
    """Ray itself waits for a minute and ends the process without a message, or fails one training after another."""
    with SweepProcess(run, output, *how, STEP_SECONDS="1", CPUS="1") as sweep:
        sweep.wait_until(lambda: steps_of(run, "all"))
        # The other node of a cluster has a raylet, too.
        process = min(
            (candidate for candidate in sweep.family() if candidate.name() == server),
            key=lambda candidate: candidate.create_time(),
        )
        process.kill()
        killed_at = time.monotonic()
        assert sweep.wait() == 1
        assert time.monotonic() - killed_at < 50
    printed = sweep.output.read_text()
    assert re.search(f"error: Ray's {message}", printed)
    assert "/logs. The same command continues from the last checkpoints" in printed
    record = read_record(run.trial("all"))
    # If the main thread waits in Ray's code until its patience ends, the record still says that the trial runs; the
    # next run then counts a lost process, as after a kill.
    # A cluster's other node may end the training meanwhile.
    assert record.state in {State.STOPPED, State.RUNNING, *([State.DONE] if how else [])}
    if record.state is State.STOPPED:
        assert re.search(f"Ray's {message}", record.reason)


@pytest.mark.ray
@pytest.mark.slow
def test_the_full_doctor_starts_ray(tmp_path):
    """Its last check is the first thing that a run would do."""
    words = ["doctor", "--storage", str(tmp_path), "--set", "resources.gpus_per_trial=0"]
    done = subprocess.run([sys.executable, "-m", "raysweep", *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert "\n✔ Ray         Ray " in done.stdout
