"""Failures in a run without Ray: the same remedies and the same records as on a cluster."""

import pytest

from raysweep.errors import NonFiniteLossError, TrainingError
from raysweep.pipeline.inline_executor import InlineExecutor
from raysweep.scheduling.records import State, read_record
from raysweep.storage.atomic_files import read_json
from raysweep.training import loop


@pytest.fixture
def prepared(tiny_run):
    """Ready to train; the trials are A1, C1, all and all-C1."""
    run = tiny_run(executor=InlineExecutor(fail_fast=False))
    run.do("prepare")
    run.do("mask")
    return run


def failing(monkeypatch, errors):
    """The training fails as its list says, once for each error, and then goes through."""
    train = loop.train

    def train_or_fail(job, **how):
        if left := errors.get(job.trial):
            raise left.pop(0)
        return train(job, **how)

    monkeypatch.setattr(loop, "train", train_or_fail)


def test_a_loss_that_is_not_finite_gets_one_more_try_and_an_error_none(prepared, monkeypatch):
    """The second try of `all` goes through, that of `A1` does not; `C1` is not tried again at all."""
    not_finite = [NonFiniteLossError("the loss is not finite at step 3 (documents 4, 7)", 3, (4, 7)) for _ in range(3)]
    failing(monkeypatch, {"all": not_finite[:1], "A1": not_finite[1:], "C1": [TrainingError("no examples")]})
    prepared.do("train")
    found = {name: read_record(prepared.folder.trial(name)) for name in prepared.trials}
    assert {name: record.state for name, record in found.items()} == {
        "A1": State.FAILED,
        "C1": State.FAILED,
        "all": State.DONE,
        "all-C1": State.DONE,
    }
    assert [found[name].attempts for name in ("all", "A1", "C1")] == [2, 2, 1]
    assert found["A1"].failures == {"not finite": 2}
    assert found["A1"].reason.startswith("the loss is not finite at step 3 (documents 4, 7) (the second time")
    assert found["C1"].reason == f"no examples (log: {prepared.folder.trial('C1').log})"
    ledger = read_json(prepared.folder.ledger)
    assert ledger["trials"]["all"]["failures"] == {"not finite": 1}
    assert ledger["trials"]["all"]["seconds"]["useful"] > 0
    assert ledger["total"]["useful"] == pytest.approx(
        sum(entry["seconds"]["useful"] for entry in ledger["trials"].values()), abs=0.01
    )


def test_with_fail_fast_nothing_is_trained_after_the_first_failure(prepared, monkeypatch):
    """What is done stays done; the same command without the failure does the rest."""
    failing(monkeypatch, {"C1": [TrainingError("no examples")]})
    prepared.executor = InlineExecutor(fail_fast=True)
    assert {trial.trial: trial.state for trial in prepared.do("train")} == {
        "C1": State.FAILED,
        "all": State.PENDING,
        "all-C1": State.PENDING,
    }
