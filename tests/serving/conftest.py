"""The finished run, served: in this process for the API, by a real server for what needs one."""

import contextlib
import shutil
import socket
import threading
import time

import pytest
import torch
import uvicorn
from fastapi.testclient import TestClient

import raysweep
from raysweep.serving.served_run import serve_run
from raysweep.serving.web_app import make_app


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Matrices this small only wait for a second thread, badly so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def run(finished_storage):
    return raysweep.load(finished_storage / "tiny", device="cpu")


@pytest.fixture
def own_run(finished_storage, tmp_path):
    """The finished run in a folder of the test's own."""
    shutil.copytree(finished_storage / "tiny", tmp_path / "tiny")
    return raysweep.load(tmp_path / "tiny", device="cpu")


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
    """The address of a server that answers on the loopback interface."""
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
