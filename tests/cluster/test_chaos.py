"""Six trainings, five that need one of them, and the loss of every process, node or disk that they use.

Each time, all eleven are done after at most one more run, every model is the same as without the loss, only steps
since the last checkpoint are repeated, and no finished training is touched.
"""

import subprocess
from contextlib import suppress
from itertools import groupby

import pytest

from raysweep.scheduling.attempts import read_events
from raysweep.scheduling.records import State, read_record
from raysweep.storage.run_folder import RunFolder
from tests.cluster.chained_training import (
    GIVE_NOTICE,
    REMOVE_NODE,
    SAVED_EVERY,
    TRIALS,
    expected_values,
    is_done,
    steps_of,
)
from tests.cluster.sweep_process import SweepProcess

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


def has_unsaved_steps(run, name):
    """Return whether the training is past its first checkpoint and has done a step that is not saved."""
    steps = steps_of(run, name)
    return len(steps) > SAVED_EVERY and steps[-1][1] % SAVED_EVERY == 1 and not is_done(run, name)


def assert_result_is_undisturbed(run, *, lost=3):
    """Check that at most `lost` trainings repeated steps, and only those since their last checkpoint."""
    models = {name: (run.trial(name).model / "chain.txt").read_text() for name in TRIALS}
    assert models == expected_values()
    again = {}
    for name, (_, steps) in TRIALS.items():
        done = [step for _, step in steps_of(run, name)]
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
def test_killing_a_ray_process_costs_only_steps(run, output, how, title, failure):
    """The trial's process, Train's worker, the trial's actor or the controller is killed; the sweep continues alone."""
    with SweepProcess(run, output, how) as sweep:
        sweep.wait_until(lambda: has_unsaved_steps(run, "all"))
        for process in sweep.processes(title):
            process.kill()
        assert sweep.wait() == 0, sweep.output.read_text()
    assert_result_is_undisturbed(run)
    assert read_record(run.trial("all")).failures == {failure: 1}
    assert f"resources.max_failures: 2) (log: {run.trial('all').log})" in sweep.output.read_text()


def all_nodes_train(run):
    """Return whether three trainings are past a checkpoint; the head has room for one."""
    return sum(len(steps_of(run, name)) > SAVED_EVERY and not is_done(run, name) for name in TRIALS) == 3


def failures_of(run):
    """Return the failures of every trial that had any."""
    return [failures for name in TRIALS if (failures := read_record(run.trial(name)).failures)]


def test_removing_a_node_costs_only_steps(run, output):
    """Its trainings resume on the remaining node."""
    with SweepProcess(run, output, "cluster", STEP_SECONDS="1.5") as sweep:
        sweep.wait_until(lambda: all_nodes_train(run))
        (run.root / REMOVE_NODE).touch()
        assert sweep.wait() == 0, sweep.output.read_text()
    assert_result_is_undisturbed(run)
    assert sum(sum(failures.values()) for failures in failures_of(run)) == 2, failures_of(run)


def test_draining_a_node_with_notice_costs_no_step(run, output):
    """Its trainings save a checkpoint at once, and resume elsewhere."""

    def interrupted():
        events = [event for name in TRIALS for event in read_events(run.trial(name))]
        return sum(event.get("state") == State.PENDING for event in events)

    with SweepProcess(run, output, "cluster", STEP_SECONDS="1.5") as sweep:
        sweep.wait_until(lambda: all_nodes_train(run))
        (run.root / GIVE_NOTICE).touch()
        sweep.wait_until(lambda: interrupted() == 2)
        (run.root / REMOVE_NODE).touch()
        assert sweep.wait() == 0, sweep.output.read_text()
    assert assert_result_is_undisturbed(run) == {}
    assert failures_of(run) == [{"preempted": 1}] * 2


def test_a_killed_command_resumes_when_run_again(run, output):
    """Two processes never work on one training: those of the killed command are gone."""
    with SweepProcess(run, output) as sweep:
        sweep.wait_until(lambda: is_done(run, "A1") and steps_of(run, "all-A1"))
        done = {name: steps_of(run, name) for name in TRIALS if is_done(run, name)}
        sweep.process.kill()
        sweep.process.wait()
    with SweepProcess(run, output) as sweep:
        assert sweep.wait() == 0, sweep.output.read_text()
    assert_result_is_undisturbed(run)
    assert {name: steps_of(run, name) for name in done} == done
    for name in TRIALS:
        processes = [process for process, _ in steps_of(run, name)]
        turns = [process for process, _ in groupby(processes)]
        assert len(turns) == len(set(turns)), f"{name}: a process trained on after another had begun"
    assert read_record(run.trial("all-A1")).failures == {"lost process": 1}


def test_sigterm_loses_no_step(run, output):
    """Every training saves a checkpoint first, and the same command resumes them."""
    with SweepProcess(run, output) as sweep:
        sweep.wait_until(lambda: has_unsaved_steps(run, "all"))
        sweep.process.terminate()
        assert sweep.wait() == 130
    assert "interrupted (SIGTERM): asked the running trainings (" in sweep.output.read_text()
    with SweepProcess(run, output) as sweep:
        assert sweep.wait() == 0, sweep.output.read_text()
    assert assert_result_is_undisturbed(run) == {}


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here ({mounted.stderr.strip()})")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_reported_and_the_next_run_does_the_rest(small_disk, output):
    """Once there is room again, no record or checkpoint is damaged, and no finished work is repeated."""
    run = RunFolder(small_disk / "run")
    with SweepProcess(run, output) as sweep:
        sweep.wait_until(lambda: is_done(run, "A1") and steps_of(run, "all-A1"))
        fill(small_disk / "filler")
        assert sweep.wait() == 1
    assert "No space left on device" in sweep.output.read_text()
    (small_disk / "filler").unlink()
    with SweepProcess(run, output) as sweep:
        assert sweep.wait() == 0, sweep.output.read_text()
    models = {name: (run.trial(name).model / "chain.txt").read_text() for name in TRIALS}
    assert models == expected_values()


def fill(path):
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
