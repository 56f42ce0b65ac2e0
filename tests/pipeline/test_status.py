"""Where a run stands, read from its records alone."""

import json
import os
import socket

import pytest

from raysweep.errors import DamagedError
from raysweep.pipeline.lock import locked
from raysweep.pipeline.status import StatusReader, describe_ledger, describe_process
from raysweep.scheduling.attempts import note
from raysweep.scheduling.failures import Failure
from raysweep.scheduling.records import State, begin, end
from raysweep.scheduling.trials import expand_trials


def write_steps(folder, first, last):
    folder.root.mkdir(parents=True, exist_ok=True)
    lines = [{"kind": "step", "step": step, "loss": 9.0 - step, "tokens": 100} for step in range(first, last + 1)]
    with folder.metrics.open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "st')


def test_a_trial_that_never_started_is_pending(tiny_run):
    """Before anything has run, every trial has its row."""
    run = tiny_run()
    rows = StatusReader(run.folder, run.trials).read()
    assert [(row.trial, row.state, row.step) for row in rows] == [(name, State.PENDING, 0) for name in run.trials]


def test_a_running_trial_shows_step_speed_and_time_left(tiny_run):
    """Two of four steps in ten seconds leave ten seconds more; a partially written line is not read."""
    run = tiny_run()
    folder = run.folder.trial("A1")
    begin(folder, trial="A1", fingerprint="f", identity={}, now=100.0)
    write_steps(folder, 1, 2)
    with locked(run.folder):
        row = StatusReader(run.folder, expand_trials(run.config), clock=lambda: 110.0).read()[0]
    assert (row.state, row.step, row.steps, row.loss) == (State.RUNNING, 2, 4, 7.0)
    assert (row.tokens_per_second, row.seconds_left, row.busy_seconds) == (20.0, 10.0, 10.0)


def test_the_speed_of_a_resumed_trial_counts_only_steps_of_this_attempt(tiny_run):
    """The steps of the preceding attempt do not count for this one."""
    run = tiny_run()
    folder = run.folder.trial("A1")
    for _ in range(2):
        begin(folder, trial="A1", fingerprint="f", identity={}, now=100.0)
    times = iter([110.0] * 3 + [112.0] * 3)
    reader = StatusReader(run.folder, {"A1": run.trials["A1"]}, clock=lambda: next(times))
    write_steps(folder, 1, 2)
    with locked(run.folder):
        assert reader.read()[0].seconds_left is None
        folder.metrics.unlink()
        write_steps(folder, 1, 3)
        assert reader.read()[0].seconds_left == 2.0


def test_a_damaged_record_that_is_forced_is_not_started_yet(tiny_run):
    """Views read it until its training begins; a thread that ended there would show nothing of any training."""
    run = tiny_run()
    begin(run.folder.trial("A1"), trial="A1", fingerprint="f", identity={})
    run.folder.trial("A1").record.write_text("{")
    with pytest.raises(DamagedError):
        StatusReader(run.folder, run.trials).read()
    assert StatusReader(run.folder, run.trials, forced=["A1"]).read()[0].state is State.PENDING


def test_a_running_trial_without_a_process_is_shown_as_stopped(tiny_run):
    """After kill -9 nobody is left to record it."""
    run = tiny_run()
    begin(run.folder.trial("A1"), trial="A1", fingerprint="f", identity={}, now=100.0)
    row = StatusReader(run.folder, run.trials).read()[0]
    assert row.state is State.STOPPED
    assert row.reason == "its process is gone; run again to continue"


def test_a_run_without_its_process_is_shown_as_stale_with_the_process_name(tiny_run):
    """From any terminal after a crash: which process it was, and what to do."""
    run = tiny_run()
    assert describe_process(run.folder, run.trials) == ""
    with locked(run.folder):
        begin(run.folder.trial("A1"), trial="A1", fingerprint="f", identity={}, now=100.0)
        assert describe_process(run.folder, run.trials) == f"running: process {os.getpid()} on {socket.gethostname()}"
    assert describe_process(run.folder, run.trials) == (
        f"stale: process {os.getpid()} on {socket.gethostname()} ended without a record; "
        "the same command continues from the last checkpoints"
    )


def test_status_shows_time_by_category_over_all_attempts(tiny_run):
    """Over all attempts, with the failures by kind."""
    run = tiny_run()
    assert describe_ledger(run.folder, run.trials) == ""
    folder = run.folder.trial("A1")
    record = begin(folder, trial="A1", fingerprint="f", identity={}, slots=2.0, unit="gpu", now=0.0)
    note(folder, "start", now=900.0, kept={})
    note(folder, "end", now=3600.0, how="not finite", kept={"step": 1800.0})
    end(folder, record, State.FAILED, failure=Failure.NUMBERS, now=3600.0)
    assert (
        describe_ledger(run.folder, run.trials) == "2.00 GPU hours: useful 50%, starting 25%, wasted 25%; not finite: 1"
    )


def test_finished_trials_are_read_once_and_again_when_their_record_changes(tiny_run):
    """A view of a thousand trials is drawn every second."""
    run = tiny_run()
    folder = run.folder.trial("A1")
    reader = StatusReader(run.folder, {"A1": run.trials["A1"]})
    assert reader.read()[0].state is State.PENDING
    record = begin(folder, trial="A1", fingerprint="f", identity={}, now=100.0)
    write_steps(folder, 1, 2)
    end(folder, record, State.FAILED, reason="no luck", now=110.0)
    row = reader.read()[0]
    assert (row.state, row.step, row.reason) == (State.FAILED, 2, "no luck")
    folder.metrics.write_text("no line of this can be read\n")
    assert reader.read() == [row]
    folder.metrics.unlink()
    begin(folder, trial="A1", fingerprint="f", identity={}, now=120.0)
    assert reader.read()[0].state is State.STOPPED
