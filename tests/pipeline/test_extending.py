"""`--extend` continues a finished training; the result equals that of a training in one go, to the byte."""

import json
import shutil

import pytest

from raysweep.errors import ConfigError
from raysweep.pipeline.cleanup import find_removable
from raysweep.pipeline.inline_executor import InlineExecutor
from raysweep.pipeline.outlook import foresee
from raysweep.scheduling.records import State, read_record
from tests.pipeline.conftest import TINY, make_run
from tests.pipeline.test_run import CountingExecutor

TRAINING = {**TINY["training"], "keep": "resume"}
TRIALS = {
    "A1": {"levels": ["A1"]},
    "all": {"levels": ["A1", "C1"]},
    "all-C1": {"from": "all", "levels": ["C1"], "steps": 2},
}


def changes(steps=4, **training):
    trials = {name: {"steps": steps, **trial} for name, trial in TRIALS.items()}
    return {"training": {**TRAINING, **training}, "trials": trials}


@pytest.fixture(scope="module")
def short_storage(tmp_path_factory):
    """A run of four steps each, whose last states are kept.  For reading only."""
    storage = tmp_path_factory.mktemp("short")
    assert make_run(storage, changes()).do() == []
    return storage


@pytest.fixture
def short(short_storage, tmp_path):
    """The same run, in the test's own folder."""
    shutil.copytree(short_storage, tmp_path / "runs")


@pytest.fixture
def extend(tmp_path):
    def extend_run(values, extended=("A1", "all"), executor=None):
        return make_run(tmp_path / "runs", values, extended=extended, executor=executor)

    return extend_run


def weights(folder, trial):
    return (folder.trial(trial).model / "model.safetensors").read_bytes()


def evaluations(folder, trial):
    lines = [json.loads(line) for line in folder.trial(trial).metrics.read_text().splitlines()]
    return [{key: line[key] for key in ("step", "kind", "loss") if key in line} for line in lines]


def test_an_extended_training_equals_an_uninterrupted_one(short, extend, tmp_path):
    """The weights and the losses at every step are the same; trials that start from it are trained again."""
    run = extend(changes(steps=8))
    assert run.do() == []
    assert "A1: goes on with the training that is done (steps: 4 → 8)" in run.listener.lines
    whole = make_run(tmp_path / "whole", changes(steps=8))
    assert whole.do() == []
    for trial in TRIALS:
        assert weights(run.folder, trial) == weights(whole.folder, trial)
        assert evaluations(run.folder, trial) == evaluations(whole.folder, trial)
        records = [read_record(folder.trial(trial)) for folder in (run.folder, whole.folder)]
        assert records[0].fingerprint == records[1].fingerprint
        assert records[0].result["best_losses"] == records[1].result["best_losses"]
    assert read_record(run.folder.trial("A1")).attempts == 2


def test_extending_an_untrained_trial_is_refused(extend):
    """The option was ignored without a word."""
    run = extend(changes(), executor=CountingExecutor(), extended=("A1",))
    run.do("prepare", "mask", "train")
    message = "A1: --extend changes nothing, since its training has not begun; it goes to step 4"
    assert [line for line in run.listener.lines if "--extend" in line] == [message]


def test_extending_twice_does_nothing_the_second_time(short, extend):
    """The very same command does nothing."""
    extend(changes(steps=8)).do()
    executor = CountingExecutor()
    run = extend(changes(steps=8), executor=executor)
    before = {path: path.read_bytes() for path in run.folder.root.rglob("*") if path.is_file()}
    assert run.do() == []
    assert executor.work == []
    assert {path: path.read_bytes() for path in run.folder.root.rglob("*") if path.is_file()} == before


def test_a_kill_between_checkpoints_and_record_loses_nothing(short, extend, monkeypatch):
    """The same command does the rest."""
    monkeypatch.setattr("raysweep.pipeline.extending.write_record", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        extend(changes(steps=8)).do()
    monkeypatch.undo()
    run = extend(changes(steps=8))
    assert run.do() == []
    assert read_record(run.folder.trial("A1")).result["steps"] == 8


@pytest.mark.parametrize(
    "trained", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_a_kill_during_an_extension_loses_nothing(short, extend, trained):
    """The same command continues, whichever trainings are done; children of extended trials are trained again."""

    class Killed(InlineExecutor):
        def train(self, tasks, listener):
            super().train(tasks[:trained], listener)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extend(changes(steps=8), executor=Killed()).do()
    run = extend(changes(steps=8))
    states = [read_record(run.folder.trial(name)).state for name in ("A1", "all")]
    assert states == [State.DONE] * trained + [State.STOPPED] * (2 - trained)
    assert run.do() == []
    assert [read_record(run.folder.trial(name)).result["steps"] for name in TRIALS] == [8, 8, 2]


REFUSED = {
    "more than steps": (changes(steps=8, learning_rate=1e-2), "more than its steps changed"),
    "fewer": (changes(steps=2), "found steps: 4 → 2; steps can only be raised"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_extension_that_would_change_the_result_is_refused(short, extend, case):
    """The refusal names the reason, and comes before anything is done."""
    values, words = REFUSED[case]
    executor = CountingExecutor()
    with pytest.raises(ConfigError) as caught:
        extend(values, executor=executor).do()
    assert str(caught.value).startswith(f"--extend A1: {words}")
    assert str(caught.value).endswith("Train it again with --force A1")
    assert executor.work == []


UNFIT = {
    "schedule": ({"schedule": "linear"}, "its schedule is linear, whose learning rates depend on the number of steps"),
    "evaluation": ({"evaluate_every": 3}, "its last evaluation was at step 4, which is not one of every 3 steps"),
    "keep": ({"keep": 2}, "its last state was not kept, since 'keep' was not 'resume'"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", UNFIT)
def test_a_training_that_is_not_a_prefix_of_the_longer_one_is_refused(tiny_run, extend, case):
    """A longer training in one go would have taken another course."""
    training, words = UNFIT[case]
    assert tiny_run(changes(**training)).do() == []
    with pytest.raises(ConfigError, match=words):
        extend(changes(steps=8, **training)).do()


def test_more_steps_without_the_extend_option_are_refused(short, tiny_run):
    """Nobody is surprised by a longer training."""
    with pytest.raises(ConfigError, match="steps: 4 → 8"):
        tiny_run(changes(steps=8)).do()


def test_extending_an_unknown_trial_is_refused(tiny_run):
    """The message lists the existing trials."""
    with pytest.raises(ConfigError, match="--extend B9: no such trial; known are A1, all, all-C1"):
        tiny_run(changes(), extended=["B9"])


def test_the_plan_counts_extended_steps(short, extend):
    """The plan also shows what an extension would refuse."""
    run = extend(changes(steps=8))
    seen = foresee(run.config, "tiny", run.folder, command=["raysweep"], extended=["A1", "all"])
    assert seen.refusal is None
    assert seen.reasons["A1"] == "goes on with what is done (steps: 4 → 8)"
    assert seen.todo == ("A1", "all", "all-C1")
    seen = foresee(run.config, "tiny", run.folder, command=["raysweep"], extended=["A1"])
    assert str(seen.refusal) == (
        "trial 'all': its config differs from the one that built it (steps: 4 → 8). "
        "Use --extend all to go on with it, or --force all, or give it a new name"
    )
    assert seen.reasons["all"] == "changed (steps: 4 → 8): needs --extend all to go on with it, or --force all"
    fewer = make_run(run.folder.root.parent, changes(steps=2))
    seen = foresee(fewer.config, "tiny", run.folder, command=["raysweep"], extended=["A1"])
    assert str(seen.refusal).startswith("--extend A1: found steps: 4 → 2")
    seen = foresee(fewer.config, "tiny", run.folder, command=["raysweep"])
    assert seen.reasons["A1"] == "changed (steps: 4 → 2): needs --force A1"


def test_clean_keeps_the_checkpoint_that_an_extension_needs(short, tiny_run):
    """A trial keeps one checkpoint and one best model; `clean` does not delete them."""
    folder = tiny_run(changes()).folder
    kept = sorted(path.name.partition("-")[0] for path in folder.trial("A1").checkpoints.iterdir())
    assert kept == ["best", "step"]
    assert not [item for item in find_removable(folder) if "checkpoints" in str(item.path)]
