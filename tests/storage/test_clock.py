"""Times in records when the system's clock is set."""

import time

import pytest

from raysweep.scheduling.records import State, begin, end
from raysweep.storage.clock import unix_seconds
from raysweep.storage.run_folder import TrialFolder


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_setting_the_system_clock_changes_no_duration(monkeypatch, jump_s):
    """Otherwise a training could take minus an hour, or a day, when the machine asked a time server."""
    before = unix_seconds()
    assert abs(before - time.time()) < 5
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    assert 0 <= unix_seconds() - before < 60


def test_contradictory_times_of_two_processes_count_as_zero(tmp_path):
    """The process that ends an attempt may have read a clock that was set back."""
    folder = TrialFolder(tmp_path)
    record = begin(folder, trial="A1", fingerprint="f", identity={}, now=5000.0)
    assert end(folder, record, State.DONE, now=1400.0).busy_seconds == 0.0
