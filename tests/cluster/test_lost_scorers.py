"""Which losses of actors end the scoring, without Ray: an actor's work ends at once, or the actor is lost."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError

from raysweep.cluster import scorers as scorers_module
from raysweep.cluster.scorers import SCORE_MODEL, SCORE_PART, Scorer, Scorers
from raysweep.config.resource_settings import ResourcesConfig
from raysweep.errors import TrainingError
from raysweep.inference.part_scores import PartScores
from raysweep.pipeline.tasks import TextPart, TextTask
from raysweep.scheduling.capacity import Capacity, ResourceRequest
from tests.sweep_tasks import RecordingListener

ACTORS = 3
MAX_FAILURES = 2


class FakeFuture:
    """The object that `remote` returns."""

    def __init__(self, outcome):
        self.outcome = outcome


class FakeActor:
    """An object that can be a key, as a real actor can."""

    def __init__(self, ready, score_part):
        self.__ray_ready__, self.score_part = FakeMethod(ready), FakeMethod(score_part)
        self.imported = []
        self.prepare = FakeMethod(self.imported.append)


class FakeMethod:
    """A method of an actor; each call ends as `outcome` says."""

    def __init__(self, outcome):
        self._outcome = outcome

    def options(self, **_):
        return self

    def remote(self, *arguments):
        return FakeFuture(self._outcome(*arguments))


@pytest.fixture
def scorers(monkeypatch):
    """Make actors: the first `lost_starts` are lost before they are ready, others at a part, as `lost` says."""

    def get(future):
        if isinstance(future.outcome, Exception):
            raise future.outcome
        return future.outcome

    def wait(futures, num_returns):
        # The oldest come first, so that actors that were started together end together.
        return futures[:num_returns], futures[num_returns:]

    fake = SimpleNamespace(get=get, wait=wait, kill=lambda _: None, cluster_resources=lambda: {"CPU": ACTORS})
    monkeypatch.setattr(scorers_module, "ray", fake)
    capacity, need = Capacity(cpus=ACTORS, gpus=0.0), ResourceRequest(cpus=1, gpus=0.0)
    resources = ResourcesConfig(max_failures=MAX_FAILURES)
    scorers = Scorers(SimpleNamespace(resources=resources, capacity=capacity, need=lambda: need))
    scorers.lost, scorers.lost_starts = {}, 0

    def is_ready():
        scorers.lost_starts -= 1
        return RayActorError() if scorers.lost_starts >= 0 else None

    def score_part(part):
        scorers.lost[part.texts] = scorers.lost.get(part.texts, 0) - 1
        return RayActorError() if scorers.lost[part.texts] >= 0 else PartScores(texts=1, sums=b"", tokens=None)

    scorers.started = []

    def start():
        scorers.started.append(FakeActor(is_ready, score_part))
        return scorers.started[-1]

    monkeypatch.setattr(scorers, "_start", start)
    return scorers


@pytest.fixture
def parts(tmp_path):
    """Return nine parts of a corpus, all under one model; a part's text is its number."""

    def part(number: int) -> TextTask:
        texts = Path(tmp_path, f"{number:05d}.parquet")
        texts.write_bytes(str(number).encode())
        return TextTask(
            model_digest="", run=tmp_path, model="A1", texts=texts, out=tmp_path / f"A1-{texts.name}", tokens_out=None
        )

    return [part(number) for number in range(9)]


def score(scorers, parts):
    return [task.out.name for task, _ in scorers.score_texts(parts, RecordingListener())]


def test_losses_of_different_parts_are_counted_separately(scorers, parts):
    """For example, a node with three actors loses power, or a spot node goes every hour: each part was lost once."""
    scorers.lost = {b"0": 1, b"1": 1, b"2": 1, b"7": 2}
    assert sorted(score(scorers, parts)) == [part.out.name for part in parts]


def test_actors_started_while_texts_are_read_do_the_scoring(scorers, parts):
    """There are no more actors than places or tasks; those that have started early do the scoring."""
    scorers.warm_up(1)
    assert [actor.imported for actor in scorers.started] == [[SCORE_PART]]
    scorers.warm_up(100)
    assert len(scorers.started) == ACTORS
    assert len(score(scorers, parts)) == len(parts)
    assert len(scorers.started) == ACTORS


def test_a_failed_early_import_is_reported_only_by_the_first_task(monkeypatch):
    """Nobody asks how the import ended, so Ray would also report it as an error that nobody handled."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the actor sets it in its process
    scorer = Scorer((SCORE_MODEL, "raysweep.none:score_part"), None, uses_gpu=False, ticket=None)
    scorer.prepare("raysweep.none:score_part")
    part = TextPart(run=Path("run"), model="A1", model_digest="", texts=b"", with_tokens=False, infills=True)
    assert "No module named 'raysweep.none'" in str(scorer.score_part(part))


def test_a_part_that_kills_every_process_is_reported(scorers, parts):
    """The message says what helps, and what that costs."""
    scorers.lost = {b"4": MAX_FAILURES + 1}
    with pytest.raises(TrainingError) as raised:
        score(scorers, parts)
    assert str(raised.value) == (
        f"model 'A1', part {parts[4].out}: the process that scores it was lost (out of memory?), 3 times; use nodes "
        "with more memory, or lower the run's evaluation.batch_tokens (`raysweep score` then begins again with its "
        "first part); set resources.max_failures higher if nodes come and go"
    )


def test_a_node_lost_during_actor_startup_does_not_end_the_job(scorers, parts):
    """Three processes are lost, each of which was started once."""
    scorers.lost_starts = ACTORS
    assert len(score(scorers, parts)) == len(parts)
    # Much later in the same session, the next node dies.
    scorers.close()
    scorers.lost_starts = ACTORS
    assert len(score(scorers, parts)) == len(parts)


def test_restarts_of_failing_actors_are_limited(scorers, parts):
    """Each place is tried once, and then max_failures more times."""
    scorers.lost_starts = 1000
    with pytest.raises(
        TrainingError, match=r"^scorer 1 of 3: its process was lost before it was ready, 3 times in a row"
    ):
        score(scorers, parts)
    assert 1000 - scorers.lost_starts <= ACTORS * (MAX_FAILURES + 1)
