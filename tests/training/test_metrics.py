"""metrics.jsonl holds every step exactly once, whatever happened in between."""

import json

import pytest

from raysweep.training.metrics import MetricsLog, read_metrics


def write_steps(folder, resume_step, *steps):
    with MetricsLog(folder, resume_step=resume_step) as log:
        for step in steps:
            log.write("step", step, {"loss": step / 3})


def steps_of(folder):
    return [line["step"] for line in read_metrics(folder.metrics)]


def test_a_resumed_training_removes_metrics_after_its_checkpoint(folder):
    """Steps 3 and 4 were done, but lost; they are done again."""
    write_steps(folder, 0, 1, 2, 3, 4)
    write_steps(folder, 2, 3, 4, 5)
    assert steps_of(folder) == [1, 2, 3, 4, 5]


def test_a_restarted_training_removes_all_metrics(folder):
    """It was killed before its first checkpoint."""
    write_steps(folder, 0, 1, 2)
    write_steps(folder, 0, 1)
    assert steps_of(folder) == [1]


@pytest.mark.parametrize("torn", ['{"kind": "step", "step": 3, "lo', '{"kind": "step", "step": 3}', "\0\0\0\0", "\n"])
def test_a_truncated_last_line_is_removed(folder, torn):
    """Half a line, a whole one without its end, or what a file system puts where data was lost."""
    write_steps(folder, 0, 1, 2)
    with folder.metrics.open("a") as file:
        file.write(torn)
    write_steps(folder, 2, 3)
    assert steps_of(folder) == [1, 2, 3]
    assert all(json.loads(line) for line in folder.metrics.read_text().splitlines())


def test_a_truncated_last_line_is_ignored_by_readers(folder):
    """The report may be made in between."""
    write_steps(folder, 0, 1, 2)
    with folder.metrics.open("a") as file:
        file.write('{"kind": "st\n{"kind": "step", "step": 3}\n{"kind": "step", "ste')
    assert steps_of(folder) == [1, 2, 3]


def test_lines_before_an_error_are_kept(folder):
    """The curve that led to the error is needed to understand it."""
    with pytest.raises(RuntimeError, match="boom"), MetricsLog(folder, resume_step=0) as log:
        log.write("step", 1, {"loss": 1.0})
        raise RuntimeError("boom")
    assert steps_of(folder) == [1]


def test_only_rank_0_writes_metrics(folder):
    """Only the first of several workers writes metrics."""
    with MetricsLog(folder, resume_step=0, is_main=False) as log:
        log.write("step", 1, {"loss": 1.0})
        log.draw(1, {"train/loss": 1.0})
        log.flush()
    assert not folder.root.exists()
