"""The log of a trial's worker, while it is written and after."""

import pytest

from raysweep.errors import ConfigError
from raysweep.pipeline.lock import locked
from raysweep.pipeline.logs import find_log, follow, read_end
from raysweep.storage.run_folder import RunFolder


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path)
    log = folder.trial("A1").log
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"line {number} ü\n" for number in range(10_000)) + "half a li")
    return folder


def test_only_complete_last_lines_are_shown(run):
    """A line that is still being written is left for the next read."""
    lines, offset = read_end(run.trial("A1").log, 2)
    assert lines == ["line 9998 ü", "line 9999 ü"]
    assert run.trial("A1").log.read_bytes()[offset:] == b"half a li"
    assert read_end(run.trial("A1").log, 0)[0] == []


def test_a_short_log_is_shown_whole(run):
    """Requesting more lines than exist is not an error."""
    run.trial("A1").log.write_text("one\n")
    assert read_end(run.trial("A1").log, 50) == (["one"], 4)
    run.trial("A1").log.write_text("")
    assert read_end(run.trial("A1").log, 50) == ([], 0)


def test_following_a_log_ends_with_the_run_without_losing_lines(run):
    """Neither a partially written line, nor what came just before the end, is lost."""
    log = run.trial("A1").log
    lock = locked(run)
    lock.__enter__()

    def later(seconds):
        with log.open("a") as file:
            file.write("ne\nthe last\n")
        lock.__exit__(None, None, None)

    _, offset = read_end(log, 1)
    assert list(follow(log, offset, run, sleep=later)) == ["half a line", "the last"]


def test_a_missing_log_is_explained(run):
    """There is no such trial, no log yet, or a log for each sample of a search."""
    trials = ["A1", "B1", "C1"]
    with pytest.raises(ConfigError, match="'A9': no such trial; known are A1, B1, C1"):
        find_log(run, "A9", trials)
    with pytest.raises(ConfigError, match="'B1' has no log yet"):
        find_log(run, "B1", trials)
    sample = run.trial("C1/samples/00").log
    sample.parent.mkdir(parents=True)
    sample.write_text("")
    with pytest.raises(ConfigError, match="those of its search are C1/samples/00"):
        find_log(run, "C1", trials)
    assert find_log(run, "C1/samples/00", trials) == sample
    with pytest.raises(ConfigError, match="no log of such a sample; there are C1/samples/00 … 00"):
        find_log(run, "C1/samples/07", trials)
