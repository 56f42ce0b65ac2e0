"""Signals in the middle of a sweep: what is saved, and which processes remain."""

import signal

import psutil
import pytest

from raysweep.scheduling.attempts import read_events
from raysweep.scheduling.records import State, read_record
from raysweep.storage.run_folder import RunFolder
from tests.cluster.chained_training import TRIALS, steps_of
from tests.cluster.sweep_process import SweepProcess

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run with a space")


def records_of(run):
    """Return the records that the sweep has written, in the order of their trials."""
    return [record for name in TRIALS if (record := read_record(run.trial(name)))]


def assert_ends_with_130_and_all_its_processes(sweep, family):
    assert sweep.wait() == 130, sweep.output.read_text()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []


def test_sigterm_waits_for_a_checkpoint_and_exits_with_130_without_leaving_processes(run, output):
    """A cluster manager's notice costs no step; Ray's own handler would end the process at any point."""
    # The steps are so long that the training does not end before the signal reaches it.
    with SweepProcess(run, output, STEP_SECONDS="1", CPUS="1") as sweep:
        sweep.wait_until(lambda: steps_of(run, "all"))
        family = sweep.family()
        sweep.process.send_signal(signal.SIGTERM)
        assert_ends_with_130_and_all_its_processes(sweep, family)
    record = read_record(run.trial("all"))
    assert (record.state, record.reason) == (State.STOPPED, "interrupted (SIGTERM)")
    last_step = steps_of(run, "all")[-1][1]
    assert (run.trial("all").checkpoints / f"step-{last_step:08d}" / "checkpoint.json").exists()
    assert read_record(run.trial("all-A1")) is None


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait_for_unresponsive_trainings(run, output):
    """The first asks for checkpoints; here, trainings have an hour for them, and one step takes as long."""
    with SweepProcess(run, output, STEP_SECONDS="3600", GRACE_SECONDS="3600") as sweep:
        sweep.wait_until(lambda: any(event["what"] == "start" for event in read_events(run.trial("all"))))
        family = sweep.family()
        sweep.process.send_signal(signal.SIGINT)
        sweep.wait_for_output("interrupted (Ctrl-C): asked the running trainings (")
        sweep.process.send_signal(signal.SIGINT)
        assert_ends_with_130_and_all_its_processes(sweep, family)
    assert {record.reason for record in records_of(run)} == {"interrupted (Ctrl-C)"}
