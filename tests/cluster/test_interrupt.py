"""Signals in the middle of a sweep, as they come in life: to a process of its own, and what is left of it."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from raysweep.scheduling.records import State, read_record
from raysweep.storage.run_folder import RunFolder
from tests.cluster.conftest import ROOT
from tests.sweep_tasks import make_task

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run with a space")


SWEEP = """
import signal, sys
from pathlib import Path
from tests.sweep_tasks import Remembering, make_task
from raysweep.cli.app import end_on_sigterm
from raysweep.cluster.session import open_session
from raysweep.cluster.sweep import run_sweep
from raysweep.config.resource_settings import ResourcesConfig
from raysweep.storage.run_folder import RunFolder

end_on_sigterm()
run = RunFolder(Path(sys.argv[1]))
try:
    with open_session(ResourcesConfig(), scratch=run.ray, cpus=1) as session:
        tasks = [make_task(run, "long", steps=9000), make_task(run, "later")]
        run_sweep(session, tasks, Remembering(), storage=run.ray, train="tests.cluster.fake_trainings:" + sys.argv[2])
except KeyboardInterrupt:
    sys.exit(130)
"""


def wait_for(claim, process, seconds=240):
    until = time.monotonic() + seconds
    while not claim():
        assert process.poll() is None, f"the sweep ended by itself, with {process.returncode}"
        assert time.monotonic() < until, "it never came"
        time.sleep(0.1)


def interrupt(run, training, *signals):
    """Start a sweep, send it the signals once its training runs; returns all its processes, and those alive."""
    running = run.trial("long").root / "running"
    environment = {**os.environ, "PYTHONPATH": ROOT}
    with subprocess.Popen([sys.executable, "-c", SWEEP, str(run.root), training], env=environment) as process:
        try:
            wait_for(lambda: running.exists() and running.read_text(), process)
            family = psutil.Process(process.pid).children(recursive=True)
            for number in signals:
                process.send_signal(number)
                time.sleep(1.0)
            began = time.monotonic()
            assert process.wait(timeout=120) == 130
            seconds = time.monotonic() - began
        finally:
            process.kill()
    assert int(running.read_text()) in {each.pid for each in family}
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    return seconds


def test_sigterm_waits_for_a_checkpoint_and_ends_with_130_leaving_no_processes(run):
    """A cluster manager's notice costs no step; Ray's own handler would end the process wherever it is."""
    interrupt(run, "train_until_asked", signal.SIGTERM)
    assert int((run.trial("long").root / "checkpoint").read_text()) > 0
    record = read_record(run.trial("long"))
    assert (record.state, record.reason) == (State.STOPPED, "interrupted (SIGTERM)")
    assert read_record(make_task(run, "later").folder) is None


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait_for_a_training_that_does_not_listen(run):
    """The first asks for checkpoints; who presses again has no time for them."""
    seconds = interrupt(run, "train_long", signal.SIGINT, signal.SIGINT)
    assert seconds < 20
    record = read_record(run.trial("long"))
    assert (record.state, record.reason) == (State.STOPPED, "interrupted (Ctrl-C)")
