"""Masking and scoring on a real Ray: results come in order, and errors as they were raised."""

import time
from contextlib import closing

import pytest
import ray
from ray.util.state import list_tasks

from raysweep.config.data_settings import MaskingConfig
from raysweep.config.evaluation_settings import EvaluationConfig
from raysweep.errors import InputError, TrainingError
from raysweep.pipeline.tasks import MaskTask, ScoreTask
from tests.sweep_tasks import RecordingListener, make_task

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(600),
    # Ray Data warns of its own deprecated fields when it makes its own context.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
]


@pytest.fixture
def listener():
    return RecordingListener()


@pytest.fixture
def mask_tasks(run):
    return [
        MaskTask(
            documents=run.documents,
            rows=(shard * 10, shard * 10 + 3 + shard),
            shard=shard,
            folder=run.examples,
            policy=MaskingConfig(),
            seed=0,
        )
        for shard in range(5)
    ]


@pytest.fixture
def score_tasks(run):
    return [
        ScoreTask(
            model=name,
            start=str(run.trial(name).model),
            job=make_task(run, name).job,
            examples=run.examples,
            documents=run.documents,
            levels=("A1",),
            evaluation=EvaluationConfig(),
            seed=0,
            out=run.cells(name),
            record=run.cells_record(name),
        )
        for name in ("A1", "B1", "all")
    ]


def test_summaries_are_returned_in_task_order(session, mask_tasks, listener):
    """The first shard ends after the second; the values are what the workers returned."""
    from raysweep.cluster.mask_job import make_shards

    summaries = make_shards(
        session, mask_tasks, listener, workers=2, mask="tests.cluster.fake_pieces:mask_first_shard_last"
    )
    expected = [{"shard": n, "documents": 3 + n, "examples": 2, "nested": {"kept": [1, 2]}} for n in range(5)]
    assert summaries == expected
    assert [done for _, done, _, _ in listener.progress] == sorted(done for _, done, _, _ in listener.progress)
    assert listener.progress[-1][1:3] == (25, 25)
    assert "examples/s" in listener.progress[-1][3]


def test_a_head_without_cpus_and_workers_asks_for_a_node(session, mask_tasks, listener, monkeypatch):
    """KubeRay's heads often have no CPU, and the autoscaler starts a worker only when work waits for it."""
    from raysweep.cluster import mask_job

    monkeypatch.setattr(mask_job.ray, "cluster_resources", dict)
    made = mask_job.make_shards(session, mask_tasks[:1], listener, workers=None, mask="tests.cluster.fake_pieces:mask")
    assert len(made) == 1


def test_an_error_in_a_shard_is_raised_with_its_type(session, mask_tasks, listener):
    """It keeps its message and exit code, and is not wrapped in an error of Ray's."""
    from raysweep.cluster.mask_job import make_shards

    with pytest.raises(InputError, match=r"^documents.parquet row 7: found no text$"):
        make_shards(session, mask_tasks, listener, workers=2, mask="tests.cluster.fake_pieces:mask_or_refuse")


def test_a_bug_is_raised_with_the_shard_and_the_workers_traceback(session, mask_tasks, listener):
    """Fixing the bug needs the line of code."""
    from raysweep.cluster.mask_job import make_shards

    with pytest.raises(RuntimeError, match=r"(?s)^shard 1: ZeroDivisionError: .*mask_or_break"):
        make_shards(session, mask_tasks, listener, workers=None, mask="tests.cluster.fake_pieces:mask_or_break")


def score(session, tasks, listener, function):
    from raysweep.cluster.scorers import Scorers

    with closing(Scorers(session, score=function)) as scorers:
        scorers.score(tasks, listener)


def test_models_are_scored_by_one_single_threaded_process_per_core(session, score_tasks, listener):
    """Torch is imported once per core instead of once per model, and scores do not depend on the number of cores."""
    score(session, score_tasks, listener, "tests.cluster.fake_pieces:score")
    notes = [task.out.read_text().split() for task in score_tasks]
    assert len({process for process, *_ in notes}) <= 2
    assert {tuple(rest) for _, *rest in notes} == {("cpu", "1")}
    assert listener.progress == [("evaluate", done, 3, "models") for done in range(4)]
    until = time.monotonic() + 60
    address = ray.get_runtime_context().gcs_address
    while {"score A1", "score B1", "score all"} - {task.name for task in list_tasks(address=address, limit=1000)}:
        assert time.monotonic() < until, "the dashboard does not show which model a task scores"
        time.sleep(0.5)


def test_a_scoring_error_names_the_model(session, score_tasks, listener):
    """The error keeps its type."""
    with pytest.raises(InputError, match=r"^model 'B1': model.safetensors: torn$"):
        score(session, score_tasks, listener, "tests.cluster.fake_pieces:score_or_refuse")


def test_a_model_whose_scorer_is_lost_is_rescheduled(session, score_tasks, listener):
    """A node that loses power costs only the score in progress."""
    score(session, score_tasks, listener, "tests.cluster.fake_pieces:score_and_die_once")
    assert len([task.out.read_text() for task in score_tasks]) == 3
    assert listener.lines == ["lost the process that scored 'B1'; another scores it"]
    assert listener.progress[-1] == ("evaluate", 3, 3, "models")


def test_a_lost_model_is_rescheduled_to_an_idle_scorer(session, score_tasks, monkeypatch):
    """The idle scorer holds the CPU or GPU that a new one would wait for, for ever if the cluster cannot grow."""
    from raysweep.cluster.scorers import Scorers

    class Telling(RecordingListener):
        def advance(self, stage, done, total, unit):
            super().advance(stage, done, total, unit)
            if done == 2:
                (score_tasks[0].out.parent / "others are scored").touch()

    started, start = [], Scorers._start

    def start_two(scorers):
        started.append(len(started))
        assert len(started) <= 2, "there is no room for a third"
        return start(scorers)

    monkeypatch.setattr(Scorers, "_start", start_two)
    score(session, score_tasks, Telling(), "tests.cluster.fake_pieces:score_and_die_last")
    assert len([task.out.read_text() for task in score_tasks]) == 3


def test_a_model_that_kills_every_scorer_is_reported(session, score_tasks, listener):
    """It is named after resources.max_failures losses; it may be what needs the memory."""
    with pytest.raises(
        TrainingError, match=r"^model 'B1': the process that scores it was lost \(out of memory\?\), 2 t"
    ):
        score(session, score_tasks, listener, "tests.cluster.fake_pieces:score_and_die")


def test_timing_continues_in_another_process_after_a_loss(session, tmp_path, monkeypatch):
    """Scoring does the same."""
    import ray

    from raysweep.cluster.scorers import Scorers

    with closing(Scorers(session)) as scorers:
        scorers._resize(1)
        ray.kill(scorers._scorers[0])
        with pytest.raises(ray.exceptions.RayTaskError):
            scorers.time_model(tmp_path / "none", [], 1)


@pytest.mark.parametrize(
    ("models", "present", "most", "places"),
    [
        (12, 2, 4, 3),
        (12, 0, 4, 3),
        (3, 0, 4, 1),
        (40, 1, 4, 4),
        (2, 4, 4, 4),
        (12, 4, 4, 4),
    ],
)
def test_new_nodes_are_requested_only_for_enough_waiting_models(models, present, most, places):
    """A node takes minutes to come, and costs money from then on."""
    from raysweep.cluster.scorers import count_scorers
    from raysweep.scheduling.capacity import Capacity, ResourceRequest

    need = ResourceRequest(cpus=1, gpus=1.0)
    present, most = Capacity(cpus=8, gpus=present), Capacity(cpus=24, gpus=most)
    assert count_scorers(need, models, present=present, most=most) == places


def test_empty_stages_do_not_connect_to_the_cluster(listener):
    """A resumed run may have nothing left to mask, train or score."""
    from raysweep.cluster.ray_executor import RayExecutor
    from raysweep.config.resource_settings import ResourcesConfig
    from raysweep.storage.run_folder import RunFolder

    executor = RayExecutor(ResourcesConfig(address="nobody.invalid:1"), RunFolder("nowhere"))
    assert executor.mask([], listener) == []
    executor.train([], listener)
    executor.score([], listener)
    executor.close()


@pytest.mark.timeout(120)
def test_a_scorer_that_is_kept_gives_its_place_to_trainings(session, run, listener, monkeypatch):
    """With sequential seeds, trainings follow an evaluation; on a machine with one GPU they used to wait for ever."""
    from functools import partial

    from raysweep.cluster import sweep
    from raysweep.cluster.ray_executor import RayExecutor
    from raysweep.scheduling.records import State, read_record

    fake = partial(sweep.run_sweep, train="tests.cluster.fake_trainings:train")
    monkeypatch.setattr(sweep, "run_sweep", fake)
    executor = RayExecutor(session.resources, run)
    executor._session = session
    executor.warm_up(2, listener)
    assert len(executor._scorers._scorers) == 2
    executor.train([make_task(run, "next-seed")], listener)
    assert read_record(run.trial("next-seed")).state is State.DONE
    executor._scorers.close()
