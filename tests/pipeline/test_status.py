"""Where a run stands, read from its records alone."""

import json

from raysweep.pipeline.lock import locked
from raysweep.pipeline.status import StatusReader
from raysweep.scheduling.records import State, begin
from raysweep.scheduling.trials import expand_trials


def write_steps(folder, first, last):
    folder.root.mkdir(parents=True, exist_ok=True)
    lines = [{"kind": "step", "step": step, "loss": 9.0 - step, "tokens": 100} for step in range(first, last + 1)]
    with folder.metrics.open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "st')


def test_a_trial_that_was_never_started_is_pending(tiny_run):
    """Before anything ran, every trial has its row."""
    run = tiny_run()
    rows = StatusReader(run.folder, run.trials).read()
    assert [(row.trial, row.state, row.step) for row in rows] == [(name, State.PENDING, 0) for name in run.trials]


def test_a_running_trial_shows_its_step_speed_and_time_left(tiny_run):
    """Two steps in ten seconds of four: ten seconds more; a line half written is not read."""
    run = tiny_run()
    folder = run.folder.trial("A1")
    begin(folder, trial="A1", fingerprint="f", identity={}, now=100.0)
    write_steps(folder, 1, 2)
    with locked(run.folder):
        row = StatusReader(run.folder, expand_trials(run.config), clock=lambda: 110.0).read()[0]
    assert (row.state, row.step, row.steps, row.loss) == (State.RUNNING, 2, 4, 7.0)
    assert (row.tokens_per_second, row.seconds_left, row.busy_seconds) == (20.0, 10.0, 10.0)


def test_a_resumed_trial_is_timed_from_the_first_step_seen(tiny_run):
    """The steps of the attempt before cost this one nothing."""
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


def test_a_running_trial_whose_process_is_gone_is_shown_as_stopped(tiny_run):
    """After kill -9 no one is left to write it down."""
    run = tiny_run()
    begin(run.folder.trial("A1"), trial="A1", fingerprint="f", identity={}, now=100.0)
    row = StatusReader(run.folder, run.trials).read()[0]
    assert row.state is State.STOPPED
    assert row.reason == "its process is gone; run again to go on"
