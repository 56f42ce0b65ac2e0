"""Finished models on Ray: a corpus scored by a pool of actors as in one process, and an app served by replicas."""

import socket
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path

import httpx2
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysweep.cluster.text_scorers import score_parts
from raysweep.errors import ConfigError, DamagedError, ResourceError, TrainingError
from raysweep.inference.text_parts import score_part
from raysweep.pipeline.tasks import TextTask
from tests.cluster.listening import exposed_listeners

pytestmark = [
    pytest.mark.ray,
    # Ray Data warns of its own deprecated fields when it makes its own context.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
    # Ray Serve's own fields.
    pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`:DeprecationWarning"),
]
HERE = "tests.cluster.test_text_scorers"


def fake_part(*, run, model, texts, out, tokens_out, infills, device):
    """Instead of scoring; imported by name in the workers."""
    if model == "damaged":
        raise DamagedError("model.safetensors is damaged; train it again with --force damaged")
    if model == "broken":
        raise ZeroDivisionError("no such thing")
    return 3


def task(run: Path, model: str, texts: Path, out: Path) -> TextTask:
    return TextTask(run=run, model=model, texts=texts, out=out, tokens_out=None)


def test_actors_write_what_one_process_writes(session, finished_storage, tmp_path):
    """To the byte, in any order; each task comes back once with the number of its texts."""
    run, texts = finished_storage / "tiny", tmp_path / "texts.parquet"
    pq.write_table(pa.table({"writing_id": ["a", "b"], "text": ["I like apples. He goes.", "x"]}), texts)
    tasks = [task(run, model, texts, tmp_path / f"{model}.parquet") for model in ("A1", "C1")]
    assert sorted((done.model, count) for done, count in score_parts(session, tasks)) == [("A1", 2), ("C1", 2)]
    for model in ("A1", "C1"):
        inline = tmp_path / f"{model}-inline.parquet"
        score_part(run=run, model=model, texts=texts, out=inline, tokens_out=None, device="cpu")
        assert inline.read_bytes() == (tmp_path / f"{model}.parquet").read_bytes()


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("damaged", DamagedError, "model.safetensors is damaged"),
        ("broken", TrainingError, "model 'broken': ZeroDivisionError"),
    ],
)
def test_an_error_comes_back_as_itself(session, tmp_path, model, error, message):
    """Ours as it was raised; another with the model's name."""
    with pytest.raises(error) as raised:
        list(score_parts(session, [task(tmp_path, model, tmp_path, tmp_path)], score=f"{HERE}:fake_part"))
    assert message in str(raised.value)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_an_app_is_served_while_the_block_runs(session, monkeypatch, tmp_path):
    """Nothing but the loopback interface is listened on, more requests than may wait are refused, and all of it ends.

    Every replica had a server on all interfaces that unpickled what anybody sent it.
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
        word, replica = httpx2.get(address).text.split()
        assert word == "hello"
        assert exposed_listeners([psutil.Process(int(replica)), *psutil.Process().children(recursive=True)]) == []
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(httpx2.get, f"{address}/wait", timeout=60) for _ in range(4)]
            refused = [each.result().status_code for each in islice(as_completed(asked), 2)]
            gate.touch()
            assert refused == [503, 503]
            assert sorted(each.result().status_code for each in asked) == [200, 200, 503, 503]
        with pytest.raises(
            ConfigError, match=r"serves on this cluster already \(raysweep, 1 proxies\); end that first"
        ):
            served_app.serving(session, "", {}, replicas=1, host="127.0.0.1", port=port).__enter__()
    with pytest.raises(psutil.NoSuchProcess):
        psutil.Process(int(replica)).wait(20)
        psutil.Process(int(replica))


def test_an_app_that_cannot_be_served_is_refused_with_the_reason(session):
    """More replicas than fit would wait for ever."""
    from raysweep.cluster.served_app import last_line, serving

    with pytest.raises(ResourceError, match=r"--replicas: found 3; the cluster has room for 2, each with 1 CPUs"):
        serving(session, "", {}, replicas=3, host="127.0.0.1", port=1).__enter__()
    assert last_line("Traceback:\n  File\nValueError: no\n\n") == "ValueError: no"
