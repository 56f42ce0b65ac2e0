"""`raysweep try` and `raysweep serve` from the command line: where they listen, and what they refuse."""

import socket
import sys

import pytest
import ray
import uvicorn
from typer.testing import CliRunner

from raysweep.cli.app import app
from raysweep.cli.serve_commands import allowed_hosts, open_socket, shown_address
from raysweep.errors import ConfigError

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(("host", "names"), [("localhost", 3), ("127.0.0.1", 3), ("127.0.0.9", 4), ("::1", 3)])
def test_no_token_is_needed_on_the_loopback_interface(host, names):
    """The server answers to the names of this machine and to the address it was given."""
    assert host in allowed_hosts(host, None)
    assert len(allowed_hosts(host, TOKEN)) == names


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "lab.example"])
def test_other_addresses_require_a_long_token(host):
    """A token that is too short does not count."""
    with pytest.raises(ConfigError, match="others could reach the server; give it a --token"):
        allowed_hosts(host, None)
    for token in ("short", "with spaces and signs!"):
        with pytest.raises(ConfigError, match=f"--token: found one of {len(token)} characters"):
            allowed_hosts(host, token)
    assert allowed_hosts(host, TOKEN) is None


def test_a_port_in_use_is_reported():
    """An address of another machine is reported, too."""
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


def test_the_address_is_printed_after_the_models_are_loaded(try_run, monkeypatch):
    """The token is not printed; Ctrl-C is the normal end."""
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
def test_a_missing_extra_is_reported_with_the_install_command(finished_storage, monkeypatch, command, module):
    """Other commands do not need the extra."""
    monkeypatch.setitem(sys.modules, module, None)
    # `from ray import serve` uses the attribute if an earlier test has imported the module.
    monkeypatch.delattr(ray, "serve", raising=False)
    monkeypatch.delitem(sys.modules, "raysweep.cluster.served_app", raising=False)
    result = CliRunner().invoke(app, [command, "--name", "tiny", "--storage", str(finished_storage)])
    assert f"pip install -c constraints.txt -e '.[{command}]'" in str(result.exception)


def test_serve_requires_a_token_before_ray_starts(finished_storage):
    """`try` requires one, too; the address is the head's."""
    words = ["serve", "--name", "tiny", "--storage", str(finished_storage), "--host", "0.0.0.0"]
    result = CliRunner().invoke(app, words)
    assert "others could reach the server; give it a --token" in str(result.exception)
    assert shown_address("::1", 8642, None) == "http://[::1]:8642/"
