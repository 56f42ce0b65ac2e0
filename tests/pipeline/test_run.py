"""A run from a CSV to a report: what is done once, what is done again, and what is refused."""

import json
from pathlib import Path

import pytest

from raysweep.errors import ChangedError, ConfigError, InputError, ResourceError
from raysweep.pipeline.inline_executor import InlineExecutor
from raysweep.pipeline.run_record import forget, read_run
from raysweep.scheduling.records import State, read_record


class CountingExecutor(InlineExecutor):
    """Records the tasks that it was given."""

    def __init__(self):
        super().__init__()
        self.work = []

    def mask(self, tasks, listener):
        self.work += [f"mask {task.shard}" for task in tasks]
        return super().mask(tasks, listener)

    def train(self, tasks, listener):
        self.work += [f"train {task.job.trial}" for task in tasks]
        super().train(tasks, listener)

    def score(self, tasks, listener):
        self.work += [f"score {task.model}" for task in tasks]
        super().score(tasks, listener)


def again(tiny_run, **options):
    executor = CountingExecutor()
    run = tiny_run(executor=executor, **options)
    assert run.do() == []
    return executor.work


def contents(folder):
    """Return the time at which each file was last written."""
    return {path: path.stat().st_mtime_ns for path in folder.root.rglob("*") if path.is_file()}


@pytest.fixture
def with_learning_rate(tiny_trials):
    def change(trial, rate):
        return {"trials": {**tiny_trials, trial: {**tiny_trials[trial], "learning_rate": rate}}}

    return change


def test_a_run_produces_a_report_with_every_model(done_run):
    """From nothing to the page that answers the question."""
    folder = done_run.folder
    page = folder.report_html.read_text(encoding="utf-8")
    for name in done_run.trials:
        assert name in page
        assert (folder.trial(name).model / "model.safetensors").is_file()
    rows = folder.matrix.read_text().splitlines()
    assert rows[0] == "model,A1,C1"
    assert {row.split(",")[0] for row in rows[1:]} == {"start", *done_run.trials}
    assert json.loads(folder.evidence.read_text())
    assert folder.report_markdown.stat().st_size > 0


def test_running_twice_does_nothing_the_second_time(done_run, tiny_run):
    """The second command finds all records in place."""
    before = contents(done_run.folder)
    assert again(tiny_run) == []
    assert contents(done_run.folder) == before


def test_a_changed_learning_rate_stops_the_run_and_is_named(done_run, tiny_run, with_learning_rate):
    """A finished training is not overwritten without being asked."""
    with pytest.raises(ChangedError) as caught:
        tiny_run(with_learning_rate("A1", 2e-3)).do()
    assert str(caught.value) == (
        "trial 'A1': its config differs from the one that built it (learning_rate: 0.001 → 0.002). "
        "Use --force A1, or give it a new name"
    )


@pytest.mark.parametrize(
    ("changes", "forced"), [({"seed": 1}, ()), ({"budget": {"wall_hours": 1e-9}}, ["A1"])], ids=["changed", "budget"]
)
def test_a_refused_run_writes_nothing(done_run, tiny_run, changes, forced):
    """The folder's description stays the one that it was made from."""
    before = contents(done_run.folder)
    with pytest.raises(ConfigError):
        tiny_run(changes, forced=forced).do()
    assert contents(done_run.folder) == before


def test_a_changed_trial_is_refused_before_anything_is_written(done_run, tiny_run, with_learning_rate):
    """Even if the stages before the trainings are done."""
    before = contents(done_run.folder)
    with pytest.raises(ChangedError):
        tiny_run(with_learning_rate("A1", 2e-3)).do()
    assert contents(done_run.folder) == before


def test_the_record_contains_the_working_directory_of_the_command(done_run):
    """The paths of its config and data may be relative to that folder."""
    assert read_run(done_run.folder).working_folder == str(Path.cwd())


def test_a_stage_whose_input_is_missing_writes_nothing(tiny_run):
    """`raysweep train` before `raysweep mask` leaves no config behind."""
    run = tiny_run()
    with pytest.raises(ConfigError, match="stage 'train' needs 'mask', which is not done"):
        run.do("train")
    assert not run.folder.config.exists()


def test_forcing_the_mask_stage_rebuilds_every_shard(done_run, tiny_run):
    """It is made again although the settings are the same; the result has the same bytes."""
    shards = [path for path in sorted(done_run.folder.examples.glob("shard-*")) if path.suffix != ".json"]
    before = [path.read_bytes() for path in shards]
    shards[0].write_bytes(b"damaged")
    assert again(tiny_run, forced=["mask"]) == ["mask 0", "mask 1"]
    assert [path.read_bytes() for path in shards] == before


def test_forcing_a_changed_trial_redoes_only_it_its_cells_and_the_report(done_run, tiny_run, with_learning_rate):
    """A level's own model has no children, and nothing else changes."""
    assert again(tiny_run, changes=with_learning_rate("A1", 2e-3), forced=["A1"]) == ["train A1", "score A1"]


def test_forcing_a_parent_redoes_its_children(done_run, tiny_run, with_learning_rate):
    """A fine-tune of another general model is a different fine-tune."""
    work = again(tiny_run, changes=with_learning_rate("all", 2e-3), forced=["all"])
    assert work == ["train all", "train all-C1", "score all", "score all-C1"]


def test_forcing_with_the_same_settings_gives_the_same_weights(done_run, tiny_run):
    """Same seed, same result, to the bit on a CPU."""
    weights = done_run.folder.trial("C1").model / "model.safetensors"
    before = weights.read_bytes()
    assert "train C1" in again(tiny_run, forced=["C1"])
    assert weights.read_bytes() == before


def test_changed_data_stops_the_run_until_forced_and_then_everything_is_redone(done_run, tiny_run):
    """Everything downstream was made from the old corpus."""
    other = {"seed": 1}
    with pytest.raises(ChangedError, match=r"stage 'prepare': .*seed: 0 → 1"):
        tiny_run(other).do()
    work = again(tiny_run, changes=other, forced=["prepare"])
    assert sum(item.startswith("mask") for item in work) == 2
    assert sum(item.startswith("train") for item in work) == 4


def test_more_resamples_redo_only_the_report(done_run, tiny_run):
    """The statistics are made from saved scores."""
    assert again(tiny_run, changes={"report": {"resamples": 200}}) == []
    assert json.loads(done_run.folder.record.read_text())["stages"]["report"]["identity"]["report"]["resamples"] == 200


def test_a_failed_trial_blocks_its_children_and_the_others_are_reported(tiny_run, with_learning_rate):
    """One bad model costs its own fine-tunes, not the matrix."""
    run = tiny_run(with_learning_rate("all", 1e30))
    unfinished = run.do()
    assert [(trial.trial, trial.state) for trial in unfinished] == [("all", State.FAILED), ("all-C1", State.BLOCKED)]
    assert "step" in unfinished[0].reason
    assert unfinished[1].reason == "its parent all failed"
    assert {row.split(",")[0] for row in run.folder.matrix.read_text().splitlines()[1:]} == {"start", "A1", "C1"}
    assert "all" in run.folder.report_html.read_text(encoding="utf-8")
    record = read_record(run.folder.trial("A1"))
    assert record is not None
    assert record.state is State.DONE


def test_a_missing_csv_is_reported_by_path(tiny_run):
    """The most common mistake of all."""
    with pytest.raises(InputError, match=r"data\.path: found 'nowhere\.csv', no such file"):
        tiny_run({"data": {"csv": "nowhere.csv"}, "trials": {"A1": {"levels": ["A1"]}}}).do("prepare")


def test_forcing_an_unknown_name_is_refused(tiny_run):
    """A typing error must not look like success."""
    with pytest.raises(ConfigError, match="--force B7: no such stage or trial"):
        tiny_run(forced=["B7"])


def test_resumed_masking_makes_only_the_missing_shards(tiny_run):
    """Shards are written by rename, each with its record; existing ones are kept."""
    run = tiny_run()
    run.do("prepare")
    run.do("mask")
    forget(run.folder, run.record, "mask")  # as a kill before the stage's end leaves it
    run.folder.manifest.unlink()
    lost = sorted(run.folder.examples.glob("shard-00001*"))
    before = [path.read_bytes() for path in lost if path.suffix == ".examples"]
    for path in lost:
        path.unlink()
    executor = CountingExecutor()
    again = tiny_run(executor=executor)
    again.do("mask")
    assert executor.work == ["mask 1"]
    assert [path.read_bytes() for path in lost if path.suffix == ".examples"] == before
    assert again.folder.manifest.exists()


class RefusingExecutor(CountingExecutor):
    """An executor whose cluster cannot do the work."""

    def check(self, listener):
        raise ResourceError("the cluster has 0 GPUs")


def test_a_cluster_that_cannot_run_the_work_is_refused_before_preparing(tiny_run):
    """Preparing a large corpus takes minutes, during which a node would cost money."""
    run = tiny_run(executor=RefusingExecutor())
    with pytest.raises(ResourceError, match="0 GPUs"):
        run.do()
    assert not run.folder.documents.exists()


def test_a_finished_run_needs_no_cluster(done_run, tiny_run):
    """Nor does its report need one."""
    assert again(tiny_run) == []
    assert tiny_run(executor=RefusingExecutor()).do() == []


def test_a_warning_is_given_if_a_step_takes_longer_than_the_stop_timeout(done_run):
    """Ctrl-C would lose the work since the last checkpoint, without the user knowing why."""
    from dataclasses import replace

    from raysweep.pipeline.plan_notes import describe_long_steps

    forecast = next(iter(done_run.forecast.trials.values()))
    long, short = replace(forecast, steps=10, step_s=450.0), replace(forecast, steps=10, step_s=250.0)
    (message,) = describe_long_steps({"all": long, "A1": short})
    assert message.startswith("plan: a step of all takes about 45 s, and Ctrl-C waits 30 s for a checkpoint")
    # A search's forecast has the steps and the seconds of all its samples together.
    assert describe_long_steps({"all": replace(long, samples=4, steps=40, step_s=1800.0)}) == [message]
