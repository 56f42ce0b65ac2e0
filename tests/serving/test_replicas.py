"""`raysweep serve` with two replicas: one is killed while clients ask, and a model is trained again meanwhile."""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import psutil
import pytest

from tests.cluster.listening import exposed_listeners, free_port
from tests.inference.conftest import own_run as own_run

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]
CLIENTS = 20
TOKEN = "0123456789abcdef"


@contextmanager
def served(run, printed, **variables):
    """Run the command with two replicas; yield its process and its address once both replicas answer."""
    port = free_port()
    options = ["--name", run.name, "--storage", str(run.parent), "--port", str(port), "--replicas", "2"]
    words = [sys.executable, "-m", "raysweep", "serve", *options]
    environment = os.environ | variables
    with printed.open("w") as output, subprocess.Popen(words, stdout=output, stderr=output, env=environment) as process:
        try:
            wait_for(printed, "ray serve: RUNNING\n", process)
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
        assert process.wait(60) == 0
    assert printed.read_text().endswith("ended\n")


@contextmanager
def node(printed, *options):
    """Start a node with a CPU and no GPU; it runs until the block ends or it is killed."""
    own = ["--num-cpus", "1", "--num-gpus", "0", "--object-store-memory", "100000000", "--block"]
    words = [Path(sys.executable).with_name("ray"), "start", *own, *options]
    environment = os.environ | {"RAY_AUTH_MODE": "token"}
    with (
        printed.open("w") as output,
        subprocess.Popen(words, stdout=output, stderr=output, env=environment, start_new_session=True) as process,
    ):
        try:
            wait_for(printed, "Ray runtime started", process)
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def wait_for(printed, words, process, count=1):
    while printed.read_text().count(words) < count:
        assert process.poll() is None, printed.read_text()
        time.sleep(0.2)


def replicas_of(process):
    return [
        child.pid
        for child in psutil.Process(process.pid).children(recursive=True)
        if child.cmdline()[:1] and child.cmdline()[0].startswith("ray::ServeReplica:raysweep")
    ]


def ask(address, number):
    path, more = ("fill", {"samples": 1, "seed": 1, "temperature": 0}) if number % 4 == 0 else ("read", {})
    body = {"text": f"I have {number % 10} [word]." if path == "fill" else f"I have {number % 10} cats.", **more}
    answer = httpx2.post(f"{address}/api/{path}", json=body, timeout=300)
    return answer.status_code, answer.json()


def ask_all(address, kill):
    """Return the models that answered; all requests must be answered, though a kill happens after a quarter."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        asked = [pool.submit(ask, address, number) for number in range(200)]
        asked[50].result()
        kill()
        answers = [request.result() for request in asked]
    assert {status for status, _ in answers} == {200}, [answer for status, answer in answers if status != 200]
    return {(model["name"], model["digest"]) for _, answer in answers for model in answer["models"]}


def test_a_killed_replica_loses_no_request_and_its_replacement_has_the_same_models(own_run, tmp_path):
    """Its requests go to the other replica; its replacement has the same models, or is refused."""
    run, printed = own_run.folder.root, tmp_path / "printed.txt"
    with served(run, printed) as (process, address):
        answer = httpx2.get(f"{address}/api/run", timeout=60).json()
        models = {(model["name"], model["digest"]) for model in answer["models"]}
        assert len(replicas_of(process)) == 2
        assert ask_all(address, lambda: os.kill(replicas_of(process)[0], signal.SIGKILL)) == models
        wait_for(printed, "1 of 2 replicas answer", process)
        wait_for(printed, "ray serve: RUNNING\n", process, count=2)
        assert httpx2.get(f"{address}/report/report.html", timeout=60).status_code == 200

        shutil.copytree(own_run.folder.trial("C1").root, own_run.folder.trial("A1").root, dirs_exist_ok=True)
        own_run.folder.evidence.write_text("of the new models")
        assert httpx2.get(f"{address}/report/report.html", timeout=60).status_code == 409
        assert ask_all(address, lambda: os.kill(replicas_of(process)[0], signal.SIGKILL)) == models, "none of the new"
        reason = "A1, what tells levels changed since `raysweep serve` began; end it, and give the same command again"
        wait_for(
            printed, f"UNHEALTHY, 1 of 2 replicas answer: raysweep.errors.InputError: run 'tiny': {reason}", process
        )
        assert ask(address, 1)[0] == 200, "the other replica goes on"


def test_a_lost_node_loses_no_request(finished_storage, tmp_path):
    """Each of the two nodes has one replica and no GPU, since finished models need none."""
    address = f"127.0.0.1:{free_port()}"
    ports = {name: str(free_port()) for name in ("--dashboard-port", "--ray-client-server-port")}
    own = ["--port", address.partition(":")[2], *chain.from_iterable(ports.items())]
    with (
        TemporaryDirectory(
            dir="/tmp"
        ) as place,  # a short name, for sockets; and nobody else takes this cluster for theirs
        node(tmp_path / "head.txt", "--head", "--temp-dir", place, *own),
        node(tmp_path / "node.txt", "--address", address) as other,
        served(finished_storage / "tiny", tmp_path / "printed.txt", RAY_ADDRESS=address) as (_, url),
    ):
        assert len(replicas_of(other)) == 1
        ask_all(url, lambda: os.killpg(other.pid, signal.SIGKILL))


def test_ray_serve_answers_like_the_local_app(finished_storage, client, tmp_path):
    """Answers are equal to the digit and need the token; SIGTERM ends every process."""
    port = free_port()
    options = ["--name", "tiny", "--storage", str(finished_storage), "--port", str(port)]
    words = [sys.executable, "-m", "raysweep", "serve", *options]
    printed, environment = tmp_path / "printed.txt", {**os.environ, "RAYSWEEP_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    with printed.open("w") as output, subprocess.Popen(words, stdout=output, stderr=output, env=environment) as process:
        try:
            while "RUNNING" not in printed.read_text():
                assert process.poll() is None, printed.read_text()
                time.sleep(0.2)
            family = psutil.Process(process.pid).children(recursive=True)
            assert exposed_listeners([psutil.Process(process.pid), *family]) == []
            address = f"http://127.0.0.1:{port}"
            assert httpx2.get(f"{address}/api/health", timeout=60).status_code == 401
            known = {"authorization": f"Bearer {TOKEN}"}
            with httpx2.Client(base_url=address, headers=known, timeout=300) as team:
                assert team.get("/api/health").json() == {"status": "ok", "waiting": 0, "most_waiting": 64}
                assert team.get("/-/healthz").text == "success"
                for path, body in (("fill", {"text": "I like [word].", "seed": 4}), ("read", {"text": "I go home."})):
                    assert team.post(f"/api/{path}", json=body).json() == client.post(f"/api/{path}", json=body).json()
                assert team.post("/api/read", json={"text": "a" * 2_000_000}).status_code == 413
                with ThreadPoolExecutor(20) as pool:
                    answers = list(pool.map(lambda _: team.post("/api/read", json={"text": "I go home."}), range(40)))
            assert {answer.status_code for answer in answers} == {200}
        finally:
            process.terminate()
        assert process.wait(60) == 0
        assert psutil.wait_procs(family, timeout=60)[1] == []
    assert printed.read_text().endswith("ended\n")
    assert TOKEN not in printed.read_text()
