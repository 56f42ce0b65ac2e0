"""Ctrl-C in the middle of a sweep, as a person does it: a process of its own, and what is left of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import HERE, make_task

from raysweep.scheduling.records import State, read_record

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

SWEEP = """
import sys
from pathlib import Path
from conftest import Remembering, make_task
from raysweep.cluster.session import open_session
from raysweep.cluster.sweep import run_sweep
from raysweep.config.running import ResourcesConfig
from raysweep.store import RunFolder

run = RunFolder(Path(sys.argv[1]))
try:
    with open_session(ResourcesConfig(), scratch=run.ray, cpus=1) as session:
        tasks = [make_task(run, "long", steps=9), make_task(run, "later")]
        run_sweep(session, tasks, Remembering(), storage=run.ray, train="fake_trainings:train_long")
except KeyboardInterrupt:
    sys.exit(130)
"""


def wait_for(claim, process, seconds=240):
    until = time.monotonic() + seconds
    while not claim():
        assert process.poll() is None, f"the sweep ended by itself, with {process.returncode}"
        assert time.monotonic() < until, "it never came"
        time.sleep(0.1)


def test_ctrl_c_ends_with_130_within_seconds_and_leaves_records_but_no_processes(run):
    """Ray's own `fit` would return as if all were well."""
    running = run.trial("long").root / "running"
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, HERE])}
    with subprocess.Popen([sys.executable, "-c", SWEEP, str(run.root)], env=environment) as process:
        try:
            wait_for(lambda: running.exists() and running.read_text(), process)
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=120) == 130
        finally:
            process.kill()
    assert read_record(run.trial("long")).state is State.STOPPED
    assert read_record(make_task(run, "later").folder) is None
    _, alive = psutil.wait_procs(family, timeout=60)
    assert int(running.read_text()) in {each.pid for each in family}
    assert alive == []
