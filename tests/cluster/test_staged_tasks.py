"""What a worker reports about an error of its disk, and what it fetches of a run to score parts of texts."""

import errno
import socket
from dataclasses import replace

import pytest

from raysweep.cluster.staged_tasks import score_staged_part
from raysweep.errors import StorageError
from raysweep.pipeline.tasks import TextPart
from raysweep.staging.worker_place import WorkerPlace


@pytest.fixture
def part(tmp_path):
    return TextPart(model_digest="", run=tmp_path, model="A1", texts=b"", with_tokens=False, infills=False)


def error_of(monkeypatch, part, error):
    """Return the error that comes back for a part if the disk fails."""

    def fail(_):
        raise error

    monkeypatch.setattr(WorkerPlace, "of", fail)
    refused = score_staged_part("none:none", part, None, None, device="cpu")
    assert isinstance(refused, StorageError)
    return str(refused).removeprefix(f"node {socket.gethostname()}: ")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_reported_as_lack_of_space(monkeypatch, part, code):
    """A full quota has the same effect as a full disk."""
    raised = error_of(monkeypatch, part, OSError(code, "It is full", "/disk/file"))
    assert raised == "its disk: It is full; make room there, or end the node, and the same command goes on"


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/disk/file"), "/disk/file: Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "its disk: Input/output error"),
        (OSError("odd"), "its disk: odd"),
    ],
)
def test_another_disk_error_is_reported_with_the_file(monkeypatch, part, error, place):
    """More room does not help in this case."""
    raised = error_of(monkeypatch, part, error)
    assert raised == f"{place}; mend that on the node, or end the node, and the same command goes on"


class FakePlace:
    """A disk other than the driver's; it records what is fetched, and fails as often as `failures` says."""

    bucket = "a bucket"

    def __init__(self, root):
        self.root, self.fetched, self.failures = root, [], 0

    def localise(self, value):
        return value

    def fetch_records(self, *paths):
        self.fetched += [path.relative_to(self.root).as_posix() for path in paths]

    def fetch(self, *paths):
        if self.failures:
            self.failures -= 1
            raise StorageError("does not answer")
        self.fetch_records(*paths)


@pytest.fixture
def place(monkeypatch, tmp_path):
    """Return a worker's place; the run has 200 trials."""
    place = FakePlace(tmp_path)
    monkeypatch.setattr(WorkerPlace, "of", lambda _: place)
    monkeypatch.setattr("raysweep.cluster.staged_tasks.read_resolved_config", lambda _: None)
    names = ["A1", "B1", *(f"other-{number}" for number in range(198))]
    monkeypatch.setattr("raysweep.cluster.staged_tasks.expand_trials", lambda _: dict.fromkeys(names))
    monkeypatch.setattr("raysweep.cluster.staged_tasks.call_with_fields", lambda *_, **__: "scores")
    return place


@pytest.fixture
def score(place, part, monkeypatch):
    """Score a part under a model in one actor; return the result, and what was fetched for it."""
    from raysweep.cluster.scorers import Scorer

    # The actor sets it for its own process.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    scorer = Scorer(("", ""), None, uses_gpu=False, ticket=None)

    def score_under(model):
        place.fetched.clear()
        return scorer.score_part(replace(part, model=model)), list(place.fetched)

    return score_under


def test_an_actor_fetches_the_runs_records_once(score):
    """200 trainings, 12 models and 16 actors used to take 38,400 requests; a model's own record must be current."""
    outcome, fetched = score("A1")
    assert outcome == "scores"
    assert len(fetched) == len(set(fetched)) == 2 + 200 + 1
    assert score("A1") == ("scores", [])
    own = ["run.json", "config.yaml", "trials/B1/trial.json", "trials/B1/model"]
    assert score("B1") == ("scores", own)


def test_a_model_whose_fetch_failed_is_fetched_again(place, score):
    """Otherwise the next part would be scored with files of an earlier run, or with none."""
    place.failures = 1
    assert isinstance(score("A1")[0], StorageError)
    outcome, fetched = score("A1")
    assert outcome == "scores"
    assert fetched[-1] == "trials/A1/model"
