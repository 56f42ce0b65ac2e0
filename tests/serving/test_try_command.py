"""`raysweep try` and `raysweep serve` from the command line: where they listen, and what they refuse."""

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import psutil
import pytest
import ray
import uvicorn
from typer.testing import CliRunner

from raysweep.cli.app import app
from raysweep.cli.serve_commands import allowed_hosts, open_socket, shown_address
from raysweep.errors import ConfigError
from tests.cluster.listening import exposed_listeners

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(("host", "names"), [("localhost", 3), ("127.0.0.1", 3), ("127.0.0.9", 4), ("::1", 3)])
def test_on_the_loopback_interface_no_token_is_needed(host, names):
    """The server answers to the names of this machine, and to the address that it was given."""
    assert host in allowed_hosts(host, None)
    assert len(allowed_hosts(host, TOKEN)) == names


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "lab.example"])
def test_others_can_be_let_in_with_a_token_only(host):
    """A short one is none."""
    with pytest.raises(ConfigError, match="others could reach the server; give it a --token"):
        allowed_hosts(host, None)
    for token in ("short", "with spaces and signs!"):
        with pytest.raises(ConfigError, match=f"--token: found one of {len(token)} characters"):
            allowed_hosts(host, token)
    assert allowed_hosts(host, TOKEN) is None


def test_a_port_that_is_taken_is_told():
    """So is an address of another machine."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"--host 127.0.0.1 --port {port}: cannot listen there"):
            open_socket("127.0.0.1", port)
    with pytest.raises(ConfigError, match=r"--host 192.0.2.1 --port 0: cannot listen there"):
        open_socket("192.0.2.1", 0)


@pytest.fixture
def try_run(finished_storage):
    where = ["try", "--name", "tiny", "--storage", str(finished_storage), "--port", "0"]
    return lambda *options: CliRunner().invoke(app, [*where, *options])


def test_the_address_is_told_once_the_models_are_loaded(try_run, monkeypatch):
    """The token is not; Ctrl-C is the usual end."""
    served = []

    def run(server, sockets):
        served.append((server.config.app, sockets[0].getsockname()))
        raise KeyboardInterrupt

    monkeypatch.setattr(uvicorn.Server, "run", run)
    result = try_run("--token", TOKEN)
    assert result.exit_code == 0, result.exception
    ((_, (host, port)),) = served
    assert host == "127.0.0.1"
    assert "loading 3 models: A1, C1, all" in result.stdout
    assert f"open http://localhost:{port}/?token= followed by your token" in result.stdout
    assert TOKEN not in result.stdout
    assert result.stdout.endswith("ended\n")


@pytest.mark.parametrize(("command", "module"), [("try", "uvicorn"), ("serve", "ray.serve")])
def test_without_the_extra_the_command_says_what_to_install(finished_storage, monkeypatch, command, module):
    """Others commands do not need it."""
    monkeypatch.setitem(sys.modules, module, None)
    # `from ray import serve` takes the attribute, if an earlier test has imported it.
    monkeypatch.delattr(ray, "serve", raising=False)
    monkeypatch.delitem(sys.modules, "raysweep.cluster.served_app", raising=False)
    result = CliRunner().invoke(app, [command, "--name", "tiny", "--storage", str(finished_storage)])
    assert f"pip install 'raysweep[{command}]'" in str(result.exception)


def test_a_team_needs_a_token_before_ray_starts():
    """As `try` does; the address is the head's."""
    result = CliRunner().invoke(app, ["serve", "--name", "tiny", "--host", "0.0.0.0"])
    assert "others could reach the server; give it a --token" in str(result.exception)
    assert shown_address("::1", 8642, None) == "http://[::1]:8642/"


def raysweep(*words):
    return [sys.executable, "-m", "raysweep", *words]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_team_is_answered_by_ray_serve_as_by_the_local_app(finished_storage, client, tmp_path):
    """Equal to the digit, with the token alone; SIGTERM ends all of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    words = raysweep("serve", "--name", "tiny", "--storage", str(finished_storage), "--port", str(port))
    printed, environment = tmp_path / "printed.txt", {**os.environ, "RAYSWEEP_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    with printed.open("w") as output, subprocess.Popen(words, stdout=output, stderr=output, env=environment) as process:
        try:
            while "RUNNING" not in printed.read_text():
                assert process.poll() is None, printed.read_text()
                time.sleep(0.2)
            family = psutil.Process(process.pid).children(recursive=True)
            assert exposed_listeners([psutil.Process(process.pid), *family]) == []
            address = f"http://127.0.0.1:{port}"
            assert httpx2.get(f"{address}/api/health").status_code == 401
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
        assert psutil.wait_procs(family, timeout=20)[1] == []
    assert printed.read_text().endswith("ended\n")
    assert TOKEN not in printed.read_text()
