"""Finished models on Ray: actors that may be lost score parts of a corpus, and replicas serve an app."""

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

import httpx2
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysweep.errors import ConfigError, DamagedError, ResourceError, TrainingError
from raysweep.inference.level_classifier import model_digest_of
from raysweep.inference.text_parts import score_part
from raysweep.pipeline.tasks import TextTask
from raysweep.storage.run_folder import RunFolder
from tests.cluster.listening import exposed_listeners, free_port
from tests.one_thread import one_thread as one_thread
from tests.sweep_tasks import RecordingListener

pytestmark = pytest.mark.ray
FAKE_PART = "tests.cluster.fake_pieces:score_part"


def task(run: Path, model: str, texts: Path, out: Path, tokens_out=None) -> TextTask:
    digest = model_digest_of(RunFolder(run), model)
    return TextTask(run=run, model=model, model_digest=digest, texts=texts, out=out, tokens_out=tokens_out)


def score(session, tasks, function=FAKE_PART, listener=None):
    from raysweep.cluster.scorers import Scorers

    with closing(Scorers(session, score_part=function)) as scorers:
        scorers.warm_up(len(tasks))
        yield from scorers.score_texts(tasks, listener or RecordingListener())


def test_actors_write_the_same_files_as_one_process(session, finished_storage, tmp_path, one_thread):
    """Files are equal to the byte, in any order; each task comes back once with the number of its texts."""
    from raysweep.cluster.scorers import SCORE_PART

    run, texts = finished_storage / "tiny", tmp_path / "texts.parquet"
    pq.write_table(pa.table({"writing_id": ["a", "b"], "text": ["I like apples. He goes.", "x"]}), texts)
    tasks = [task(run, model, texts, tmp_path / f"{model}.parquet", tmp_path / f"{model}.t") for model in ("A1", "C1")]
    results = list(score(session, tasks, SCORE_PART))
    assert sorted((done.model, count) for done, count in results) == [("A1", 2), ("C1", 2)]
    for scored_task in tasks:
        fields = {"model": scored_task.model, "model_digest": scored_task.model_digest, "texts": texts.read_bytes()}
        scores = score_part(run=run, **fields, with_tokens=True, device="cpu")
        assert (scored_task.out.read_bytes(), scored_task.tokens_out.read_bytes()) == (scores.sums, scores.tokens)


def test_a_part_whose_process_is_lost_is_rescheduled(session, tmp_path):
    """Each part comes back once."""
    (tmp_path / "texts").write_bytes(b"texts")
    listener = RecordingListener()
    models = ["A1", "lost", "C1", "C1"]
    tasks = [task(tmp_path, model, tmp_path / "texts", tmp_path / str(n)) for n, model in enumerate(models)]
    results = list(score(session, tasks, listener=listener))
    assert sorted(done.out.name for done, _ in results) == ["0", "1", "2", "3"]
    assert {task.out.read_bytes() for task in tasks} == {b"texts!"}
    assert listener.lines == ["lost the process that scored 'lost'; another scores it"]


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("damaged", DamagedError, "model.safetensors is damaged"),
        ("broken", TrainingError, "model 'broken': ZeroDivisionError"),
    ],
)
def test_a_scoring_error_is_raised_with_its_type(session, tmp_path, model, error, message):
    """The message has the model's name."""
    (tmp_path / "texts").write_bytes(b"")
    with pytest.raises(error) as raised:
        list(score(session, [task(tmp_path, model, tmp_path / "texts", tmp_path / "out")]))
    assert message in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_an_app_is_served_inside_the_context_manager(session, monkeypatch, tmp_path):
    """Only the loopback interface is listened on, more requests than may wait are refused, and everything ends.

    Every replica used to have a server on all interfaces that unpickled whatever anybody sent it.
    """
    from raysweep.cluster import served_app

    monkeypatch.setattr(served_app, "_MOST_ONGOING", 1)
    monkeypatch.setattr(served_app, "_MOST_QUEUED", 1)
    port, gate = free_port(), tmp_path / "gate"
    arguments = {"word": "hello", "gate": str(gate)}
    with served_app.serving(
        session, "tests.cluster.fake_app:make_app", arguments, replicas=1, host="127.0.0.1", port=port
    ) as state:
        assert state() == "RUNNING"
        address = f"http://127.0.0.1:{port}"
        word, replica = httpx2.get(address, timeout=60).text.split()
        assert word == "hello"
        assert exposed_listeners([psutil.Process(int(replica)), *psutil.Process().children(recursive=True)]) == []
        with ThreadPoolExecutor(20) as pool:
            # Send them one at a time: Serve counts a request as queued a moment after it has checked the limit, so of
            # several sent at once, more or fewer than one might wait.
            asked = [pool.submit(httpx2.get, f"{address}/wait", timeout=60)]
            while not wait(asked, timeout=0.5, return_when=FIRST_COMPLETED).done and len(asked) < 20:
                asked.append(pool.submit(httpx2.get, f"{address}/wait", timeout=60))
            refused = [request.result().status_code for request in asked if request.done()]
            gate.touch()
            assert set(refused) == {503}
            assert {request.result().status_code for request in asked} == {200, 503}
        with pytest.raises(
            ConfigError, match=r"serves on this cluster already \(raysweep, 1 proxies\); end that first"
        ):
            served_app.serving(session, "", {}, replicas=1, host="127.0.0.1", port=port).__enter__()
    with pytest.raises(psutil.NoSuchProcess):
        psutil.Process(int(replica)).wait(120)
        psutil.Process(int(replica))
    with pytest.raises(ResourceError, match=r"app 'raysweep' was ended by someone else .* to serve again$"):
        state()  # the command asks every few seconds


def test_a_start_error_is_reported_even_if_serve_lost_the_app(session, monkeypatch):
    """An example is an app that is deleted while it starts: the error that Serve raised is kept."""
    from ray import serve

    from raysweep.cluster import served_app

    def end(*_, **__):
        raise RuntimeError("Deploying application raysweep failed: it was deleted")

    monkeypatch.setattr(serve, "run", end)
    with pytest.raises(TrainingError, match="the app cannot be served: Deploying application raysweep failed: it was"):
        served_app._start(None, "127.0.0.1", free_port())


def test_the_reason_why_replicas_cannot_start_is_reported(monkeypatch):
    """An example is models that were trained again; the reason is the end of Serve's own message, after a traceback."""
    from ray import serve
    from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, DeploymentStatusOverview, ServeStatus

    from raysweep.cluster import served_app

    message = "The deployment failed to start 3 times in a row.\nTraceback:\nInputError: runs/tiny: A1 changed\n"
    states = []
    for status, running in ((ApplicationStatus.UNHEALTHY, 1), (ApplicationStatus.RUNNING, 2)):
        counts = {"RUNNING": running, "STARTING": 2 - running}
        deployment = DeploymentStatusOverview("UNHEALTHY", "REPLICA_STARTUP_FAILED", counts, message)
        overview = ApplicationStatusOverview(status, "", 0.0, {"_Replica": deployment})
        monkeypatch.setattr(
            serve, "status", lambda overview=overview: ServeStatus(applications={served_app.APP: overview})
        )
        states.append(served_app._describe_state(2))
    assert states == ["UNHEALTHY, 1 of 2 replicas answer: InputError: runs/tiny: A1 changed", "RUNNING"]


def test_an_app_that_does_not_fit_is_refused_with_the_reason(session):
    """More replicas than fit would wait for ever."""
    from raysweep.cluster.functions import last_line
    from raysweep.cluster.served_app import serving

    with pytest.raises(ResourceError, match=r"--replicas: found 3; the cluster has room for 2, each with 1 CPUs"):
        serving(session, "", {}, replicas=3, host="127.0.0.1", port=1).__enter__()
    assert last_line("Traceback:\n  File\nValueError: no\n\n") == "ValueError: no"
