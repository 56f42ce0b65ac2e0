"""Trainings without Ray: failures, searches and records are those of a sweep on a cluster."""

import pytest
import torch

from raysweep.errors import NonFiniteLossError, TrainingError
from raysweep.inference import text_parts
from raysweep.pipeline.inline_executor import InlineExecutor
from raysweep.pipeline.tasks import TextTask
from raysweep.scheduling.records import State, read_record
from raysweep.storage.atomic_files import read_json
from raysweep.training import loop
from tests.one_thread import one_thread as one_thread


@pytest.fixture
def prepared(tiny_run):
    """A run that is ready to train; the trials are A1, C1, all and all-C1."""
    run = tiny_run(executor=InlineExecutor(fail_fast=False))
    run.do("prepare")
    run.do("mask")
    return run


def failing(monkeypatch, errors):
    """Make the training raise the errors in its list, one per attempt, and then succeed."""
    train = loop.train

    def train_or_fail(job, **how):
        if left := errors.get(job.trial):
            raise left.pop(0)
        return train(job, **how)

    monkeypatch.setattr(loop, "train", train_or_fail)


def test_a_non_finite_loss_is_retried_once_and_other_errors_never(prepared, monkeypatch):
    """The second attempt at `all` succeeds, that at `A1` fails; `C1` is not retried at all."""
    not_finite = [NonFiniteLossError("the loss is not finite at step 3 (documents 4, 7)", 3, (4, 7)) for _ in range(3)]
    failing(monkeypatch, {"all": not_finite[:1], "A1": not_finite[1:], "C1": [TrainingError("no examples")]})
    prepared.do("train")
    records = {name: read_record(prepared.folder.trial(name)) for name in prepared.trials}
    assert {name: record.state for name, record in records.items()} == {
        "A1": State.FAILED,
        "C1": State.FAILED,
        "all": State.DONE,
        "all-C1": State.DONE,
    }
    assert [records[name].attempts for name in ("all", "A1", "C1")] == [2, 2, 1]
    assert records["A1"].failures == {"not finite": 2}
    assert records["A1"].reason.startswith("the loss is not finite at step 3 (documents 4, 7) (for the second time")
    assert records["C1"].reason == f"no examples (log: {prepared.folder.trial('C1').log})"
    ledger = read_json(prepared.folder.ledger)
    assert ledger["trials"]["all"]["failures"] == {"not finite": 1}
    assert ledger["trials"]["all"]["seconds"]["useful"] > 0
    assert ledger["total"]["useful"] == pytest.approx(
        sum(entry["seconds"]["useful"] for entry in ledger["trials"].values()), abs=0.01
    )


def test_a_failed_trial_blocks_its_children_and_other_trials_are_trained(prepared, monkeypatch):
    """The messages and evaluations are those that a sweep on a cluster prints."""
    failing(monkeypatch, {"all": [TrainingError("no examples")]})
    unfinished = prepared.do("train")
    assert {trial.trial: (trial.state, trial.reason) for trial in unfinished} == {
        "all": (State.FAILED, f"no examples (log: {prepared.folder.trial('all').log})"),
        "all-C1": (State.BLOCKED, "its parent all failed"),
    }
    assert "TrainingError: no examples" in prepared.folder.trial("all").log.read_text()
    lines = prepared.listener.lines
    assert "all-C1: blocked: its parent all failed" in lines
    assert any(line.startswith("A1: step 2/4  valid loss in nats/token: ") for line in lines)
    assert "C1: done, 4 steps, best at 4" in lines


def test_fail_fast_trains_nothing_after_the_first_failure(prepared, monkeypatch):
    """The general model is trained first and stays done; the same command without the failure does the rest."""
    failing(monkeypatch, {"A1": [TrainingError("no examples")]})
    prepared.executor = InlineExecutor(fail_fast=True)
    unfinished = prepared.do("train")
    assert {trial.trial: trial.state for trial in unfinished} == {
        "A1": State.FAILED,
        "C1": State.PENDING,
        "all-C1": State.PENDING,
    }


def test_texts_are_scored_by_one_thread_regardless_of_trial_cpus(monkeypatch, tmp_path):
    """As in Ray's actors: sums of floats depend on the number of threads, and both ways must give the same bits."""
    threads = []
    monkeypatch.setattr(text_parts, "score_part", lambda **_: threads.append(torch.get_num_threads()))
    monkeypatch.setattr(TextTask, "write", lambda *_: 1)
    texts = tmp_path / "texts.parquet"
    texts.write_bytes(b"")
    task = TextTask(
        run=tmp_path, model="A1", model_digest="", texts=texts, out=tmp_path / "scores.parquet", tokens_out=None
    )
    assert list(InlineExecutor(threads=2).score_texts([task], None)) == [(task, 1)]
    assert threads == [1]


def test_a_search_with_halving_runs_without_ray(tiny_run):
    """Four samples are judged at step 2, and two of them continue to the end."""
    search = {
        "samples": 4,
        "space": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
        "asha": {"grace_evaluations": 1, "reduction": 2},
    }
    trials = {"A1": {"levels": ["A1"], "search": search}, "A1-C1": {"from": "A1", "levels": ["C1"]}}
    run = tiny_run({"trials": trials})
    assert run.do("prepare", "mask", "train") == []
    tried = read_record(run.folder.trial("A1")).result["search"]["tried"]
    assert [sample["stopped_at"] for sample in tried].count(2) == 2
    finished = [sample["loss"] for sample in tried if sample["stopped_at"] is None]
    best = read_record(run.folder.trial("A1")).result["search"]["sample"]
    assert tried[best]["loss"] == min(finished)
    samples = [read_record(folder) for folder in run.folder.trial("A1").samples()]
    assert sorted(record.state for record in samples) == [State.DONE, State.DONE, State.STOPPED, State.STOPPED]
    weights = run.folder.trial("A1").sample(best).model / "model.safetensors"
    assert (run.folder.trial("A1").model / "model.safetensors").read_bytes() == weights.read_bytes()
