"""A run with sequential seeds: further rounds while claims are open, resumed after interruption, and its savings."""

import json
import shutil

import pytest

from raysweep.evidence import seed_release
from raysweep.pipeline.status import describe_ledger, find_unfinished
from raysweep.publishing.bundle import write_bundle
from raysweep.publishing.verify import verify_bundle
from tests.pipeline.conftest import make_run
from tests.pipeline.test_run import CountingExecutor, again

SEQUENTIAL = {"seeds": {"max": 4, "stop": "sequential"}}
ENTRIES = ("A1", "C1", "all", "all-C1")


@pytest.fixture(scope="module")
def settled(finished_storage, tmp_path_factory):
    """The finished run, configured for sequential seeds afterwards, and what was then trained.  For reading only."""
    storage = tmp_path_factory.mktemp("settled") / "runs"
    shutil.copytree(finished_storage, storage)
    executor = CountingExecutor()
    run = make_run(storage, SEQUENTIAL, executor=executor)
    assert run.do() == []
    return run, trained(executor.work)


def trained(work):
    return [name.removeprefix("train ") for name in work if name.startswith("train")]


@pytest.fixture
def open_claims(monkeypatch):
    """Set which claims are open per number of seeds, since the tiny corpus has too few learners to keep one open."""
    answers = {}

    def is_settled(finding):
        return (finding.hypothesis, finding.scope) not in answers.get(open_claims_seeds(), ())

    def open_claims_seeds():
        return answers["looks"]

    take_look = seed_release.take_look

    def counted(folder, config, trials):
        answers["looks"] = max(trial.seed for trial in trials.values() if folder.trial(trial.name).record.exists()) + 1
        return take_look(folder, config, trials)

    monkeypatch.setattr(seed_release, "is_settled", is_settled)
    monkeypatch.setattr(seed_release, "take_look", counted)
    return answers


def test_a_settled_run_trains_two_seeds_and_reports_the_saving(settled, tiny_run, tmp_path):
    """Configured after a run of one seed, whose models are kept; status, ledger, page and bundle show it."""
    run, work = settled
    folder = run.folder
    assert work == [f"{name}-seed1" for name in ENTRIES]
    shutil.copytree(folder.root.parent, tmp_path / "runs")
    assert again(tiny_run, changes=SEQUENTIAL) == []
    ledger = json.loads(folder.ledger.read_text())
    assert ledger["saved"]["trials"] == [f"{name}-seed{seed}" for name in ENTRIES for seed in (2, 3)]
    means = [ledger["trials"][name]["seconds"] for entry in ENTRIES for name in (entry, f"{entry}-seed1")]
    assert ledger["saved"]["seconds"] == pytest.approx(sum(sum(mean.values()) for mean in means), abs=0.01)
    assert "; 8 trainings not needed" in describe_ledger(folder, run.trials)
    assert "Not started, because no claim needed them: 8 trainings." in folder.report_html.read_text()
    evidence = json.loads(folder.evidence.read_text())
    assert {training["trial"] for training in evidence["trainings"]} == {
        f"{name}{suffix}" for name in ENTRIES for suffix in ("", "-seed1")
    }
    write_bundle(folder, tmp_path / "evidence.zip")
    assert verify_bundle(tmp_path / "evidence.zip").is_verified


def test_status_knows_what_was_saved_before_there_is_a_report(finished_storage, tiny_run, tmp_path):
    """The last look, in `evaluate`, decides it; the report may be made much later."""
    shutil.copytree(finished_storage, tmp_path / "runs")
    run = tiny_run(SEQUENTIAL)
    for stage in ("train", "evaluate"):
        run.do(stage)
    assert "trainings not needed" in describe_ledger(run.folder, run.trials)


def test_an_open_claim_trains_one_seed_after_another_until_settled(done_run, tiny_run, open_claims):
    """H1 on A1 is open at two seeds and nothing at three; a run that was interrupted in between continues."""
    open_claims[2] = [("H1", "A1")]

    class CutOff(CountingExecutor):
        def train(self, tasks, listener):
            if any(task.job.trial == "A1-seed2" for task in tasks):
                raise KeyboardInterrupt
            super().train(tasks, listener)

    executor = CutOff()
    with pytest.raises(KeyboardInterrupt):
        tiny_run(SEQUENTIAL, executor=executor).do()
    assert trained(executor.work) == [f"{name}-seed1" for name in ENTRIES]
    run = tiny_run(SEQUENTIAL)
    assert [trial.trial for trial in find_unfinished(run.folder, run.trials)][:1] == ["A1-seed2"]
    assert [*run.trials_to_do()] == ["A1-seed2", "all-seed2"]
    work = again(tiny_run, changes=SEQUENTIAL)
    assert trained(work) == ["A1-seed2", "all-seed2"]
    assert json.loads(done_run.folder.looks.read_text())["not_needed"][0] == "A1-seed3"


def test_a_failed_training_ends_the_rounds_until_the_next_command(done_run, tiny_run, open_claims, monkeypatch):
    """The claim waits for it; the next command retries, and then continues.  Forced work is repeated only once."""
    from raysweep.training import loop

    open_claims[2] = open_claims[3] = [("H1", "A1")]
    train = loop.train

    def failing(job, **how):
        if job.trial == "A1-seed2":
            raise ValueError("no luck")
        return train(job, **how)

    monkeypatch.setattr(loop, "train", failing)
    executor = CountingExecutor()
    unfinished = tiny_run(SEQUENTIAL, executor=executor, forced=["C1"]).do()
    assert executor.work.count("train C1") == 1
    assert [trial.trial for trial in unfinished] == ["A1-seed2"]
    monkeypatch.setattr(loop, "train", train)
    assert trained(again(tiny_run, changes=SEQUENTIAL)) == ["A1-seed2", "A1-seed3", "all-seed3"]


def test_switching_to_fixed_seeds_drops_the_sequential_looks(settled, tiny_run, tmp_path):
    """Two fixed seeds are those that the rounds trained; the report is made again, without the looks."""
    shutil.copytree(settled[0].folder.root.parent, tmp_path / "runs")
    run = tiny_run({"seeds": 2})
    assert run.folder.looks.exists()
    assert trained(again(tiny_run, changes={"seeds": 2})) == []
    assert not run.folder.looks.exists()
