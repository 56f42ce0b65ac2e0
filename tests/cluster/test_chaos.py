"""Eleven trainings, six and five that need one of them, and everything that can be killed is killed.

Each time all eleven are done after at most one more run, every model is what it would have been, no
step is done again but those since the last checkpoint, and nothing that was done is touched.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from raysweep.scheduling.records import State, read_record
from raysweep.storage.run_folder import RunFolder
from tests.cluster.chained_training import SAVED_EVERY, SIGNS, TRIALS, expected, is_done
from tests.cluster.conftest import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

SCRIPT = str(Path(__file__).parent / "chained_training.py")


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.root.mkdir()
    return folder


@pytest.fixture
def output(tmp_path):
    """What the command says; not on the disk that gets full."""
    return tmp_path / "output.txt"


class Sweep:
    """The command in a process of its own."""

    def __init__(self, run, output, *how, **variables):
        environment = {**os.environ, "PYTHONPATH": ROOT, **variables}
        self.run = run
        self.output = output
        with self.output.open("a") as file:
            words = [sys.executable, SCRIPT, str(run.root), *how]
            self.process = subprocess.Popen(words, env=environment, stdout=file, stderr=subprocess.STDOUT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for each in [*psutil.Process(self.process.pid).children(recursive=True)] if self.is_alive() else []:
            each.kill()
        self.process.kill()
        self.process.wait()

    def is_alive(self):
        return self.process.poll() is None

    def wait_until(self, claim):
        until = time.monotonic() + 300
        while not claim():
            assert self.is_alive(), f"it ended by itself:\n{self.output.read_text()}"
            assert time.monotonic() < until, f"it never came:\n{self.output.read_text()}"
            time.sleep(0.05)

    def wait(self):
        return self.process.wait(timeout=600)

    def victims(self, title):
        """Ray's processes of this kind, the oldest first."""
        found = []
        for each in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if title in " ".join(each.cmdline()):
                    found.append(each)
            except psutil.Error:
                continue
        return sorted(found, key=lambda each: each.create_time())


def steps_of(run, name):
    """(process, step, when) of every step that was done."""
    path = run.trial(name).root / "steps.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(pid), int(step), float(began)) for pid, step, began in map(str.split, lines)]


def in_the_middle(run, name):
    """Whether the training is past its first checkpoint, and a step is not saved yet."""
    steps = steps_of(run, name)
    return len(steps) > SAVED_EVERY and steps[-1][1] % SAVED_EVERY == 1 and not is_done(run, name)


def assert_all_is_as_if_nothing_had_happened(run, *, lost=3):
    """At most `lost` trainings did steps again; those only the ones since their last checkpoint."""
    models = {name: (run.trial(name).model / "chain.txt").read_text() for name in TRIALS}
    assert models == expected()
    again = {}
    for name, (_, steps) in TRIALS.items():
        done = [step for _, step, _ in steps_of(run, name)]
        assert set(done) == set(range(1, steps + 1))
        if len(done) > steps:
            again[name] = len(done) - steps
        record = read_record(run.trial(name))
        assert record.state is State.DONE
        assert record.ledger["useful"] > 0
    assert len(again) <= lost
    assert all(count <= SAVED_EVERY for count in again.values()), again
    return again


@pytest.mark.parametrize(
    ("how", "title", "failure"),
    [
        ("shared", "ray::ImplicitFunc", "lost worker"),
        ("own", "ray::RayTrainWorker", "lost worker"),
        ("own", "ray::ImplicitFunc", "lost driver"),
        ("own", "ray::TrainController", "lost driver"),
    ],
)
def test_a_killed_process_of_ray_costs_steps_and_nothing_else(run, output, how, title, failure):
    """The trial's process, or Train's worker, the trial's actor, the controller: the sweep goes on by itself."""
    with Sweep(run, output, how) as sweep:
        sweep.wait_until(lambda: in_the_middle(run, "all"))
        for victim in sweep.victims(title):
            victim.kill()
        assert sweep.wait() == 0, sweep.output.read_text()
    assert_all_is_as_if_nothing_had_happened(run)
    failures = read_record(run.trial("all")).failures
    assert failures == {failure: 1}
    assert f"resources.max_failures: 2) (log: {run.trial('all').log})" in sweep.output.read_text()


def all_nodes_train(run):
    """Whether three trainings are past a checkpoint, of which the head has room for one."""
    return sum(len(steps_of(run, name)) > SAVED_EVERY and not is_done(run, name) for name in TRIALS) == 3


def test_a_removed_node_costs_steps_and_nothing_else(run, output):
    """Its trainings go on on the node that is left."""
    with Sweep(run, output, "cluster", STEP_SECONDS="1.5") as sweep:
        sweep.wait_until(lambda: all_nodes_train(run))
        (run.root / SIGNS[0]).touch()
        assert sweep.wait() == 0, sweep.output.read_text()
    assert_all_is_as_if_nothing_had_happened(run)
    counts = [failures for name in TRIALS if (failures := read_record(run.trial(name)).failures)]
    assert sum(sum(failures.values()) for failures in counts) == 2, counts


def test_a_node_that_is_taken_away_with_notice_costs_no_step(run, output):
    """Its trainings save a checkpoint at once, and go on elsewhere."""
    with Sweep(run, output, "cluster", STEP_SECONDS="1.5") as sweep:
        sweep.wait_until(lambda: all_nodes_train(run))
        (run.root / SIGNS[1]).touch()
        assert sweep.wait() == 0, sweep.output.read_text()
    assert assert_all_is_as_if_nothing_had_happened(run) == {}
    counts = [failures for name in TRIALS if (failures := read_record(run.trial(name)).failures)]
    assert counts == [{"preempted": 1}] * 2


def test_a_killed_command_goes_on_when_it_is_run_again(run, output):
    """No two processes ever work at one training: those of the killed command are gone."""
    with Sweep(run, output) as sweep:
        sweep.wait_until(lambda: is_done(run, "A1") and steps_of(run, "all-A1"))
        done = {name: steps_of(run, name) for name in TRIALS if is_done(run, name)}
        sweep.process.send_signal(signal.SIGKILL)
        sweep.wait()
    killed = time.time()
    with Sweep(run, output) as sweep:
        assert sweep.wait() == 0, sweep.output.read_text()
    assert_all_is_as_if_nothing_had_happened(run)
    assert {name: steps_of(run, name) for name in done} == done
    for name in TRIALS:
        late = [
            began
            for pid, _, began in steps_of(run, name)
            if pid in {pid for pid, _, at in steps_of(run, name) if at < killed}
        ]
        assert all(began < killed + 2 for began in late), name
    assert read_record(run.trial("all-A1")).failures == {"lost process": 1}


def test_sigterm_loses_no_step(run, output):
    """Every training saves a checkpoint first, and the same command goes on."""
    with Sweep(run, output) as sweep:
        sweep.wait_until(lambda: in_the_middle(run, "all"))
        sweep.process.send_signal(signal.SIGTERM)
        assert sweep.wait() != 0
    assert "interrupted (SIGTERM): asked what runs (" in sweep.output.read_text()
    with Sweep(run, output) as sweep:
        assert sweep.wait() == 0, sweep.output.read_text()
    assert assert_all_is_as_if_nothing_had_happened(run) == {}


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 24 MB."""
    where = tmp_path / "disk"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(where)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here ({mounted.stderr.strip()})")
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)


def test_a_full_disk_ends_the_run_with_its_name_and_a_second_run_does_the_rest(small_disk, output):
    """After room was made: no torn record, no torn checkpoint, nothing that was done is done again."""
    run = RunFolder(small_disk / "run")
    run.root.mkdir()
    with Sweep(run, output) as sweep:
        sweep.wait_until(lambda: is_done(run, "A1") and steps_of(run, "all-A1"))
        fill(small_disk / "filler")
        assert sweep.wait() == 1
    assert "No space left on device" in sweep.output.read_text()
    (small_disk / "filler").unlink()
    with Sweep(run, output) as sweep:
        assert sweep.wait() == 0, sweep.output.read_text()
    models = {name: (run.trial(name).model / "chain.txt").read_text() for name in TRIALS}
    assert models == expected()


def fill(path):
    """Write until nothing more goes."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return
