"""`track` shows trainings in MLflow and Weights & Biases; TensorBoard gets their settings and test scores."""

import importlib.machinery
import importlib.util
import math
import struct
from dataclasses import replace

import pandas as pd
import pytest

from raysweep.config.loading import parse_config
from raysweep.config.tracker_settings import refuse_missing_trackers
from raysweep.errors import ConfigError
from raysweep.pipeline.file_check import check_files
from raysweep.scheduling.records import State
from raysweep.scheduling.trials import expand_trials
from raysweep.tracking import feed
from raysweep.tracking.tracked_training import find_trainings, read_training
from raysweep.training import loop
from raysweep.training.loop import train
from raysweep.training.metrics import read_metrics
from tests.pipeline.conftest import TINY, make_run
from tests.training.test_curves import read_curves, read_hyperparameters

TRACKED = {"track": ["mlflow"]}


class RecordingTracker:
    """A tracker that stores what it receives, and ignores duplicates like the real ones."""

    is_live = True
    fails = ""
    got = None

    def __init__(self, storage):
        if self.fails:
            raise OSError(self.fails)

    store_of = staticmethod(str)
    viewing_hint = staticmethod("look at {}".format)

    def send(self, training):
        steps = self.got.setdefault(training.id, [])
        for step, curves in training.points(after=steps[-1][0] if steps else 0):
            steps.append((step, curves))
        self.got[training.name] = training

    def close(self):
        self.got["closed"] = True


@pytest.fixture
def tracked_run(done_run):
    """The finished run, with a tracker configured afterwards."""

    def make(changes=TRACKED, **asked):
        return make_run(done_run.folder.root.parent, changes, **asked)

    return make


@pytest.fixture
def tracker(monkeypatch):
    monkeypatch.setattr(RecordingTracker, "got", {})
    monkeypatch.setattr(RecordingTracker, "fails", "")
    monkeypatch.setitem(feed.TRACKERS, "mlflow", RecordingTracker)
    monkeypatch.setattr("raysweep.pipeline.run.refuse_missing_trackers", lambda names: None)
    return RecordingTracker


def test_a_tracker_receives_curves_settings_and_test_scores_of_every_training(tracker, tracked_run):
    """They are read from the run folder, under TensorBoard's names; trainings done before are included."""
    run = tracked_run()
    assert run.do() == []
    training = tracker.got["all-C1"]
    points = dict(tracker.got[training.id])
    metrics = [line for line in read_metrics(training.folder.metrics) if line["kind"] == "step"]
    assert [points[line["step"]]["train/loss"] for line in metrics] == [line["loss"] for line in metrics]
    assert points[2]["valid/loss"] == read_metrics(training.folder.evaluations)[0]["valid"]["infill"]
    curves = read_curves(training.folder.root)
    assert {name for point in points.values() for name in point} <= {*curves, "train/infill_textonly"}
    assert training.settings["from"] == "all"
    assert training.settings["learning_rate"] == 1e-3
    matrix = pd.read_csv(run.folder.matrix, index_col="model")
    assert training.scores["test/perplexity/C1"] == pytest.approx(matrix.loc["all-C1", "C1"], rel=1e-12)
    assert training.scores["test/loss/A1"] == pytest.approx(math.log(matrix.loc["all-C1", "A1"]), rel=1e-12)
    assert "track: mlflow: 4 trainings are up to date; look at " in "\n".join(run.listener.lines)
    assert tracker.got["closed"]


def test_nothing_is_sent_to_a_tracker_twice(tracker, tracked_run, monkeypatch):
    """The second command sends nothing, and does not even create the tracker."""
    assert tracked_run().do() == []
    monkeypatch.setattr(RecordingTracker, "fails", "not to be made")
    again = tracked_run()
    assert again.do() == []
    assert not [line for line in again.listener.lines if line.startswith("track:")]


def test_a_failing_tracker_stops_no_training_and_receives_the_rest_later(tracker, tracked_run, monkeypatch):
    """The run ends as it would without it; the failure is one line, without the password in an address."""
    monkeypatch.setattr(RecordingTracker, "fails", f"{'x' * 260} https://me:{'hunter2' * 20}@server is gone\nand more")
    run = tracked_run()
    assert run.do() == []
    lines = [line for line in run.listener.lines if line.startswith("track:")]
    # Cut after the password is out: half a password in an address that is cut short would not be known as one.
    problem = f"OSError: {'x' * 260} https://***@server is gone"
    assert lines == [f"track: mlflow: {problem}; the same command sends what is missing"]
    monkeypatch.setattr(RecordingTracker, "fails", "")
    assert tracked_run().do() == []
    assert {"A1", "C1", "all", "all-C1"} <= set(tracker.got)


@pytest.mark.slow
def test_a_resumed_or_extended_training_keeps_its_tracker_id_and_a_retrained_one_does_not(tracker, tiny_run, tmp_path):
    """Its id depends on its first start: a tracker continues the same run, and no step arrives twice."""
    keeping = {**TRACKED, "training": {**TINY["training"], "keep": "resume"}}
    assert tiny_run(keeping).do() == []
    first = tracker.got["A1"]
    longer = {**keeping, "trials": {**TINY["trials"], "A1": {"levels": ["A1"], "steps": 8}}}
    assert make_run(tmp_path / "runs", longer, extended=["A1"]).do() == []
    assert tracker.got["A1"].id == first.id
    assert [step for step, _ in tracker.got[first.id]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert make_run(tmp_path / "runs", longer, forced=["A1"]).do() == []
    assert tracker.got["A1"].id != first.id
    assert len(tracker.got[tracker.got["A1"].id]) == 8


def test_the_last_step_of_a_running_training_is_sent_after_its_evaluation(done_run):
    """A step's evaluation is written after the step; sent too early, it would be lost."""
    trials = expand_trials(done_run.config)
    trial, place, record = next(iter(find_trainings(done_run.folder, trials)))
    training = read_training(done_run.folder, done_run.config, trial, place, record)
    assert [step for step, _ in training.points()] == [1, 2, 3, 4]
    assert [step for step, _ in replace(training, state=State.RUNNING).points()] == [1, 2, 3]
    assert [step for step, _ in training.points(after=3)] == [4]
    assert [step for step, _ in replace(training, steps=2000).points()] == [2, 4]


def test_scores_of_an_earlier_model_are_not_sent(tracker, tracked_run):
    """After `train --force A1` alone, the scores on disk are those of the previous model."""
    shorter = {**TRACKED, "trials": {**TINY["trials"], "A1": {"levels": ["A1"], "steps": 2}}}
    assert tracked_run(shorter, forced=["A1"]).do("train") == []
    assert tracker.got["A1"].scores == {}
    assert len(tracker.got[tracker.got["A1"].id]) == 2
    assert tracker.got["C1"].scores != {}


def test_a_tracker_that_is_not_installed_is_refused_before_the_run(tiny_run, monkeypatch):
    """The message gives the place, the value and the command that installs it; a folder `wandb` does not count."""
    module_spec = importlib.util.find_spec("json")
    specs = {"mlflow": None, "wandb": importlib.machinery.ModuleSpec("wandb", None)}
    monkeypatch.setattr("raysweep.config.tracker_settings.find_spec", lambda name: specs.get(name, module_spec))
    run = tiny_run({"track": ["mlflow", "wandb"]})
    with pytest.raises(ConfigError) as error:
        run.do()
    assert str(error.value).splitlines() == [
        f"track: found '{name}'; its package is not installed. "
        f"`pip install -c constraints.txt -e '.[{name}]'` installs it; or take {name} out of track"
        for name in ("mlflow", "wandb")
    ]
    assert not run.folder.root.exists()
    refuse_missing_trackers(["json"])


def test_an_unknown_tracker_is_refused_with_the_known_names():
    """The message lists the known names."""
    with pytest.raises(ConfigError, match=r"track.*found 'mlfow'; must be 'mlflow' or 'wandb'"):
        parse_config({**TINY, "track": ["mlfow"]})


def test_tensorboard_shows_hyperparameters_and_test_scores(done_run):
    """Its HParams tab shows each training's settings; new scores replace the earlier ones."""
    root = done_run.folder.trial("A1").root
    matrix = pd.read_csv(done_run.folder.matrix, index_col="model")
    for is_again in (False, True):
        if is_again:
            done_run.folder.matrix.unlink()  # so the tables are made again, from the same scores
            assert done_run.do("evaluate") == []
        curves = read_curves(root)
        assert [step for step, _ in curves["test/perplexity/C1"]] == [4]
        assert curves["test/perplexity/C1"][0][1] == pytest.approx(matrix.loc["A1", "C1"], rel=1e-6)
        assert {"train/loss", "valid/loss"} <= set(curves)
        data = read_hyperparameters(root)
        starts = [summary.session_start_info.hparams for summary in data if summary.HasField("session_start_info")]
        assert [start["learning_rate"].number_value for start in starts] == [1e-3, 1e-3]
        (experiment,) = [summary.experiment for summary in data if summary.HasField("experiment")]
        columns = {metric.name.tag for metric in experiment.metric_infos}
        assert {"train/loss", "valid/loss", "test/perplexity/A1", "test/loss/C1"} <= columns
    assert not [file.path for file in check_files(done_run.folder) if file.state not in ("ok", "other")]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what their libraries warn of is theirs
def test_mlflow_and_wandb_accept_a_run(tiny_run, tmp_path, monkeypatch):
    """The real libraries, with local stores; a failed training continues in the same run, with each step once."""
    mlflow_client = pytest.importorskip("mlflow.tracking")
    wandb_records = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-8c1f")
    monkeypatch.setenv("WANDB_API_KEY", "tok-8c1f" * 5)
    both = {"track": ["mlflow", "wandb"]}
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", _fail_at_the_first_evaluation)
        assert tiny_run(both).do()
    run = tiny_run(both)
    assert run.do() == []
    assert [line.split(";")[0] for line in run.listener.lines if line.startswith("track:")] == [
        "track: mlflow: 4 trainings are up to date",
        "track: wandb: 4 trainings are up to date",
    ]
    client = mlflow_client.MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    (experiment,) = [candidate for candidate in client.search_experiments() if candidate.name == "tiny"]
    runs = {tracked.info.run_name: tracked for tracked in client.search_runs([experiment.experiment_id])}
    assert {name: tracked.info.status for name, tracked in runs.items()} == dict.fromkeys(TINY["trials"], "FINISHED")
    for name, tracked in runs.items():
        folder = run.folder.trial(name)
        steps = [line for line in read_metrics(folder.metrics) if line["kind"] == "step"]
        history = client.get_metric_history(tracked.info.run_id, "train/loss")
        assert [(point.step, point.value) for point in history] == [(line["step"], line["loss"]) for line in steps]
        assert tracked.data.params["learning_rate"] == "0.001"
        assert tracked.data.metrics["test/perplexity/A1"] > 1
        assert tracked.data.metrics["valid/loss"] == read_metrics(folder.evaluations)[-1]["valid"]["infill"]
    folders = list((tmp_path / "runs" / "wandb").glob("offline-run-*"))
    assert len(folders) == 4
    logged = {}
    for folder in folders:
        (file,) = folder.glob("*.wandb")
        written = [wandb_records.Record.FromString(data) for data in _read_log(file.read_bytes())]
        logged[folder] = [record.history for record in written if record.WhichOneof("record_type") == "history"]
        everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
        assert b"tok-8c1f" not in everything
    assert sorted(map(len, logged.values())) == [2, 4, 4, 4]
    keys = [{item.key or item.nested_key[0] for item in row.item} for rows in logged.values() for row in rows]
    assert all("train/loss" in row for row in keys)
    assert sum("valid/loss" in row for row in keys) == 7


def _fail_at_the_first_evaluation(job, *, on_evaluation, **how):
    def fail(evaluation):
        raise RuntimeError("after step 2, which is on disk and not in a checkpoint")

    return train(job, on_evaluation=fail, **how)


def _read_log(data):
    """Read the records of a `.wandb` file: LevelDB's log format after a header of seven bytes."""
    place, parts = 7, []
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield b"".join(parts)
            parts = []
