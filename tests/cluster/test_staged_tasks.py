"""What a worker tells of an error of its disk, and what it fetches of a run for the parts of texts that it scores."""

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
    """What comes back of a part if the disk fails with an error."""

    def fail(_):
        raise error

    monkeypatch.setattr(WorkerPlace, "of", fail)
    refused = score_staged_part("none:none", part, None, None, device="cpu")
    assert isinstance(refused, StorageError)
    return str(refused).removeprefix(f"node {socket.gethostname()}: ")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_needs_room(monkeypatch, part, code):
    """A quota is full as a disk is."""
    told = error_of(monkeypatch, part, OSError(code, "It is full", "/disk/file"))
    assert told == "its disk: It is full; make room there, or end the node, and the same command goes on"


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/disk/file"), "/disk/file: Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "its disk: Input/output error"),
        (OSError("odd"), "its disk: odd"),
    ],
)
def test_another_error_of_a_disk_is_named_with_the_file(monkeypatch, part, error, place):
    """Room does not help then."""
    told = error_of(monkeypatch, part, error)
    assert told == f"{place}; mend that on the node, or end the node, and the same command goes on"


class FakePlace:
    """Another disk than the driver's: notes what is fetched there, and fails as often as `failures` says."""

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
    """The place of a worker; the run has 200 trials."""
    place = FakePlace(tmp_path)
    monkeypatch.setattr(WorkerPlace, "of", lambda _: place)
    monkeypatch.setattr("raysweep.cluster.staged_tasks.read_resolved_config", lambda _: None)
    names = ["A1", "B1", *(f"other-{number}" for number in range(198))]
    monkeypatch.setattr("raysweep.cluster.staged_tasks.expand_trials", lambda _: dict.fromkeys(names))
    monkeypatch.setattr("raysweep.cluster.staged_tasks.call_with_fields", lambda *_, **__: "scores")
    return place


@pytest.fixture
def score(place, part, monkeypatch):
    """Scores a part under a model in one actor; gives what came back, and what was fetched for it."""
    from raysweep.cluster.scorers import Scorer

    # The actor sets it, for its own process.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    scorer = Scorer(("", ""), None, uses_gpu=False, ticket=None)

    def score_under(model):
        place.fetched.clear()
        return scorer.score_part(replace(part, model=model)), list(place.fetched)

    return score_under


def test_an_actor_fetches_the_records_of_the_run_once(score):
    """With 200 trainings, 12 models and 16 actors there were 38,400 requests; a model's own is as it is now."""
    outcome, fetched = score("A1")
    assert outcome == "scores"
    assert len(fetched) == len(set(fetched)) == 2 + 200 + 1
    assert score("A1") == ("scores", [])
    own = ["run.json", "config.yaml", "trials/B1/trial.json", "trials/B1/model"]
    assert score("B1") == ("scores", own)


def test_a_model_that_could_not_be_fetched_is_fetched_again(place, score):
    """Else the next part would be scored with what an earlier run left there, or with nothing."""
    place.failures = 1
    assert isinstance(score("A1")[0], StorageError)
    outcome, fetched = score("A1")
    assert outcome == "scores"
    assert fetched[-1] == "trials/A1/model"
