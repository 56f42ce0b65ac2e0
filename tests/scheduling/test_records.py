"""A trial's record on disk."""

from raysweep.scheduling.records import State, begin, end, read_record
from raysweep.storage.run_folder import TrialFolder


def test_attempts_with_the_same_fingerprint_are_counted_with_their_time(tmp_path):
    """The cost of a crash is in the record."""
    folder = TrialFolder(tmp_path / "B2")
    first = begin(folder, trial="B2", fingerprint="f", identity={"steps": 4}, now=100.0)
    end(folder, first, State.FAILED, reason="lost", now=130.0)
    second = begin(folder, trial="B2", fingerprint="f", identity={"steps": 4}, now=200.0)
    end(folder, second, State.DONE, result={"steps": 4}, now=220.0)
    record = read_record(folder)
    assert record is not None
    assert (record.state, record.attempts, record.busy_seconds) == (State.DONE, 2, 50.0)
    assert record.reason == ""


def test_a_changed_fingerprint_restarts_the_attempt_count(tmp_path):
    """A forced trial with new settings does not inherit the old attempts."""
    folder = TrialFolder(tmp_path / "B2")
    end(folder, begin(folder, trial="B2", fingerprint="f", identity={}, now=0.0), State.DONE, now=9.0)
    assert begin(folder, trial="B2", fingerprint="g", identity={}, now=20.0).attempts == 1


def test_a_trial_that_never_started_has_no_record(tmp_path):
    """A missing record is a state, too."""
    assert read_record(TrialFolder(tmp_path / "B2")) is None
