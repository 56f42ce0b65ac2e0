"""A finished run, served in this process for the API and by a real server for tests that need one."""

import contextlib
import socket
import threading
import time

import pytest
import uvicorn
from fastapi.testclient import TestClient

from raysweep.serving.served_run import serve_run
from raysweep.serving.web_app import make_app
from tests.inference.conftest import own_run as own_run
from tests.inference.conftest import run as run
from tests.one_thread import one_thread as one_thread


@pytest.fixture(scope="session")
def served(run):
    served = serve_run(run)
    served.load()
    return served


@pytest.fixture(scope="module")
def client(served):
    with TestClient(make_app(served), base_url="http://localhost") as client:
        yield client


@contextlib.contextmanager
def running(app):
    """Start a server on the loopback interface and yield its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def address(served):
    with running(make_app(served)) as address:
        yield address
