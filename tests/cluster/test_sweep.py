"""One sweep on a real Ray with every kind of failure, and what is on disk after it."""

import gc
import json
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from raysweep.config.training_settings import SearchConfig
from raysweep.scheduling.records import State, read_record
from tests.cluster.fake_trainings import starts_of
from tests.sweep_tasks import RecordingListener, make_task

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

SEARCH = SearchConfig(samples=2, space={"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}})


class CountingTrials(RecordingListener):
    """Counts the trials of Tune that are in memory whenever one of ours ends."""

    def __init__(self):
        super().__init__()
        self.trials = []

    def advance(self, *progress):
        from ray.tune.experiment import Trial

        super().advance(*progress)
        gc.collect()
        self.trials.append(sum(type(candidate) is Trial for candidate in gc.get_objects()))


@pytest.fixture(scope="module")
def listener():
    return CountingTrials()


@pytest.fixture(scope="module")
def sweep(session, run, listener):
    """Return the records of a parent with children, an error, killed workers, a search with a child, a GPU trial."""
    from raysweep.cluster.sweep import run_sweep

    old = run.trial("redone")
    old.root.mkdir(parents=True)
    (old.root / "left over").write_text("")
    tasks = [
        make_task(run, "bad", steps=90),
        make_task(run, "bad-A1", parent="bad"),
        make_task(run, "doomed", steps=80),
        make_task(run, "killed", steps=70),
        make_task(run, "searched", search=SEARCH, steps=60),
        make_task(run, "searched-A1", parent="searched"),
        make_task(run, "redone", fresh=True, gpus=0.5),
        make_task(run, "crowded", steps=50),
        make_task(run, "diverged", steps=50),
    ]
    run_sweep(session, tasks, listener, storage=run.ray, train="tests.cluster.fake_trainings:train_as_named")
    return {task.job.trial: read_record(task.folder) for task in tasks}


def test_a_code_error_fails_the_trial_at_once_with_message_and_log_path(sweep, run):
    """The same error would occur again, hours later."""
    log = run.trial("bad").log
    assert sweep["bad"].state is State.FAILED
    assert sweep["bad"].reason == f"bad: the loss is not finite at step 3 (log: {log})"
    assert starts_of(run.trial("bad")) == 1
    assert "TrainingError" in log.read_text()


def test_a_failed_trial_blocks_only_its_children(sweep):
    """One bad model costs only its own fine-tunes."""
    assert (sweep["bad-A1"].state, sweep["bad-A1"].reason) == (State.BLOCKED, "its parent bad failed")
    assert {name for name, record in sweep.items() if record.state is State.DONE} == {
        "killed",
        "searched",
        "searched-A1",
        "redone",
        "crowded",
        "diverged",
    }


def test_a_killed_worker_is_replaced_and_its_training_resumes(sweep, run):
    """A lost process costs only the steps since the last checkpoint."""
    assert sweep["killed"].state is State.DONE
    assert starts_of(run.trial("killed")) == sweep["killed"].attempts == 2
    assert sweep["killed"].failures == {"lost worker": 1}
    assert sweep["killed"].ledger["wasted"] > 0


def test_a_repeatedly_killed_worker_fails_its_trial(sweep, run):
    """With max_failures 1, it is replaced once."""
    assert sweep["doomed"].state is State.FAILED
    assert sweep["doomed"].reason.startswith("its worker was lost: ")
    assert "(2 times, resources.max_failures: 1; log: " in sweep["doomed"].reason
    assert sweep["doomed"].failures == {"lost worker": 2}
    assert starts_of(run.trial("doomed")) == 2


def test_out_of_memory_and_non_finite_losses_are_retried_once(sweep, listener):
    """It runs alone, from the last valid checkpoint; the message names the batch."""
    assert sweep["crowded"].failures == {"out of memory": 1}
    assert sweep["diverged"].failures == {"not finite": 1}
    assert any(
        line.startswith(
            "diverged: diverged: the loss is not finite at step 3 (documents 4, 7); resumes once from its checkpoint"
        )
        for line in listener.lines
    )


def test_a_process_has_the_title_of_the_trial_that_it_trains(sweep, run):
    """`top` and the dashboard's Cluster tab show it, although one process trains several trials in turn."""
    for name in ("searched-A1", "killed"):
        title = json.loads((run.trial(name).root / "times.json").read_text())["title"]
        assert title == f"ray::train {name}"


def test_no_child_starts_before_its_parents_model_is_written(sweep, run):
    """A search's child waits for all samples; when it starts, it checks that the model is in place."""

    def times(folder):
        return json.loads((folder / "times.json").read_text())

    samples = run.trial("searched").root / "samples"
    ends = [times(samples / sample)["ended"] for sample in ("00", "01")]
    assert times(run.trial("searched-A1").root)["began"] > max(ends)


def test_the_best_sample_becomes_the_trials_model_on_ray(sweep, run):
    """The trial's record has the chosen settings."""
    search = sweep["searched"].result["search"]
    losses = [sample["loss"] for sample in search["tried"]]
    assert len(losses) == 2
    assert search["sample"] == losses.index(min(losses))
    rate = search["settings"]["learning_rate"]
    assert (
        run.trial("searched").model / "model.txt"
    ).read_text() == f"searched/samples/{search['sample']:02d} at {rate}"


def test_a_forced_trial_starts_from_an_empty_folder(sweep, run):
    """The remains of an earlier training must not be resumed."""
    assert not (run.trial("redone").root / "left over").exists()


def test_every_start_evaluation_and_end_is_printed(sweep, listener):
    """Each has one line, which begins with the trial's name."""
    assert "killed: training" in listener.lines
    assert "killed: done, 70 steps, best at 1" in listener.lines
    assert any(line.startswith("killed: step 1/70  valid loss in nats/token: infill ") for line in listener.lines)
    assert listener.progress[-1] == ("train", 9, 9, "trials")


def test_ended_trials_are_dropped_from_tunes_memory(sweep, listener):
    """Tune kept them: some 25 MB of a thousand.  Two run here at a time, two wait, and some have just ended."""
    assert 0 < max(listener.trials) <= 6


def test_trials_that_can_never_start_are_refused_before_the_sweep(session, run, listener):
    """The message has the numbers and the fix."""
    from raysweep.cluster.sweep import run_sweep
    from raysweep.errors import ResourceError

    tasks = [make_task(run, "large", gpus=4), make_task(run, "larger", gpus=4)]
    with pytest.raises(ResourceError, match=r"2 trials ask for 4 GPUs each; the cluster has 2 \(2 CPUs\)"):
        run_sweep(session, tasks, listener, storage=run.ray)
    assert not run.trial("large").root.exists()


def scraped(session):
    """Return all series on the metrics ports of this Ray, as text."""
    place = Path(session.local.context.address_info["session_dir"]).parent / "prom_metrics_service_discovery.json"
    targets = [target for group in json.loads(place.read_text()) for target in group["targets"]]
    texts = []
    for target in targets:
        with suppress(OSError), urllib.request.urlopen(f"http://{target}/metrics", timeout=10) as answer:
            texts.append(answer.read().decode())
    return "\n".join(texts)


def test_prometheus_can_scrape_the_sweep(sweep, session):
    """Each series has labels for its run and its trial; no token is needed."""
    from raysweep.cluster.sweep_metrics import SweepMetrics

    metrics = SweepMetrics("a paper")
    metrics.export_states({"done": 5})
    until, series = time.monotonic() + 90, ""
    while not series:
        assert time.monotonic() < until
        # The sweep does this between two checks of its trials.
        metrics.repeat()
        time.sleep(0.5)
        lines = [line for line in scraped(session).splitlines() if line.startswith("ray_raysweep_trials{")]
        series = next((line for line in lines if 'run="a paper"' in line), "")
    assert 'state="done"' in series
    assert series.endswith(" 5.0")


def test_speed_and_memory_are_exported_with_each_evaluation(monkeypatch, run):
    """They are those in its folder, and are reported until minutes after its end; a state without trials is 0."""
    from raysweep.cluster import sweep_metrics
    from raysweep.training.job import Evaluation

    exported = []

    class Remembered:
        def __init__(self, name, description, tag_keys):
            self.name, self.keys = name, set(tag_keys)

        def set(self, value, tags):
            assert set(tags) == self.keys
            exported.append((self.name, value, tags))

    monkeypatch.setattr(sweep_metrics, "Gauge", Remembered)
    now = [0.0]
    metrics = sweep_metrics.SweepMetrics("paper", lambda: now[0])
    folder = run.trial("measured")
    folder.root.mkdir(parents=True)
    folder.evaluations.write_text('{"step": 5, "tokens_per_second": 21300.0, "peak_memory_bytes": 7}\n')
    metrics.export_evaluation("B1", folder, Evaluation(step=5, losses={"infill": 3.0}, is_best=True))
    metrics.export_states({"pending": 2})
    metrics.export_states({"done": 2})
    metrics.export_spending(gpu_hours=1.5, cost=3.3)
    tags = {"run": "paper", "trial": "B1"}
    assert exported[:4] == [
        ("raysweep_valid_loss", 3.0, {**tags, "kind": "infill"}),
        ("raysweep_step", 5.0, tags),
        ("raysweep_tokens_per_second", 21300.0, tags),
        ("raysweep_peak_memory_bytes", 7.0, tags),
    ]
    states = {tags["state"]: value for name, value, tags in exported if name == "raysweep_trials"}
    assert states == {"pending": 0.0, "done": 2.0}
    assert exported[-2:] == [("raysweep_gpu_hours", 1.5, {"run": "paper"}), ("raysweep_cost", 3.3, {"run": "paper"})]
    before = {(name, str(tags)): value for name, value, tags in exported}
    exported.clear()
    metrics.repeat()
    assert {(name, str(tags)): value for name, value, tags in exported} == before
    metrics.end_trial("B1")
    for now[0], is_told in (
        (sweep_metrics.EXPORTED_AFTER_END_S, True),
        (sweep_metrics.EXPORTED_AFTER_END_S + 1, False),
    ):
        exported.clear()
        metrics.repeat()
        assert any("trial" in tags for _, _, tags in exported) == is_told
        assert ("raysweep_cost", 3.3, {"run": "paper"}) in exported


@pytest.fixture
def evaluated(monkeypatch, run):
    """Return a function that makes metrics of trainings that were evaluated, and the set of the trainings told."""
    from raysweep.cluster import sweep_metrics
    from raysweep.training.job import Evaluation

    trials_exported = set()
    gauge = SimpleNamespace(set=lambda value, tags: trials_exported.add(tags.get("trial")))
    monkeypatch.setattr(sweep_metrics, "Gauge", lambda *_, **__: gauge)

    def make(names, clock=lambda: 0.0):
        metrics = sweep_metrics.SweepMetrics("paper", clock)
        for name in names:
            metrics.export_evaluation(name, run.trial(name), Evaluation(step=5, losses={"infill": 3.0}, is_best=True))
        return metrics, trials_exported

    return make


def test_a_restarted_training_is_exported_before_its_next_evaluation(evaluated):
    """It was preempted, and starts again on another node."""
    from raysweep.cluster import sweep, sweep_metrics

    now = [0.0]
    metrics, exported = evaluated(["B1"], lambda: now[0])
    metrics.end_trial("B1")
    watch = SimpleNamespace(state=SimpleNamespace(begin=lambda _: None))
    sweep._Callback(watch, None, metrics).on_trial_start(1, [], SimpleNamespace(config={"name": "B1"}))
    now[0] = sweep_metrics.EXPORTED_AFTER_END_S + 1
    exported.clear()
    metrics.repeat()
    assert "B1" in exported


def test_only_the_latest_ended_trainings_are_exported(evaluated):
    """The numbers of a thousand, told again and again for minutes, took more memory than all else of the sweep."""
    from raysweep.cluster.sweep_metrics import MOST_ENDED

    names = [f"t{number}" for number in range(MOST_ENDED + 5)]
    metrics, exported = evaluated(names)
    for name in names[1:]:
        metrics.end_trial(name)
    exported.clear()
    metrics.repeat()
    assert exported == {names[0], *names[5:]}  # the first still runs


def test_trainings_without_evaluations_do_not_displace_others(evaluated):
    """Trainings that failed before their first evaluation once pushed out the losses of those that were done."""
    from raysweep.cluster.sweep_metrics import MOST_ENDED

    names = [f"t{number}" for number in range(MOST_ENDED + 1)]
    metrics, exported = evaluated(names)
    for name in (*names[:-1], names[0]):
        metrics.end_trial(name)
    for number in range(MOST_ENDED):
        metrics.end_trial(f"silent{number}")
    metrics.end_trial(names[-1])
    exported.clear()
    metrics.repeat()
    assert exported == {*names} - {names[1]}


def test_tunes_newer_reporter_is_always_disabled(monkeypatch, tmp_path):
    """It prints a banner and keeps every trial."""
    from ray.tune.experimental.output import get_air_verbosity

    from raysweep.cluster import sweep

    monkeypatch.setenv("RAY_AIR_NEW_OUTPUT", "1")
    sweep._tuner(SimpleNamespace(state=None), None, tmp_path / "ray" / "tune", lambda *_: None)
    assert get_air_verbosity(0) is None


def test_the_searcher_drops_a_trial_whose_process_was_lost():
    """Each lost attempt once left a name for the rest of the sweep; Tune may report the loss of an ended one."""
    from raysweep.cluster.tune_searcher import SweepSearcher

    state = SimpleNamespace(release=lambda: SimpleNamespace(name="B1"), is_over=False)
    searcher = SweepSearcher(state, lambda training: {"name": training.name}, end=lambda *_: None)
    searcher.suggest("1")
    searcher.on_trial_complete("1", error=True)
    assert searcher._names == {}
    searcher.on_trial_complete("1", error=True)
