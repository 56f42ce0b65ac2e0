"""A bucket for each test, and the environment in which the usual chain finds its credentials."""

import pytest

from raysweep.staging.bucket import Bucket
from raysweep.staging.bucket_address import parse_bucket_uri
from tests.staging.object_server import ObjectServer


@pytest.fixture(scope="session")
def object_server():
    server = ObjectServer()
    yield server
    server.close()


@pytest.fixture
def server(object_server, monkeypatch, tmp_path):
    """The local S3 in its initial state, and variables that direct clients to it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_server.url)
    monkeypatch.setenv("RAYSWEEP_STAGING", str(tmp_path / "staging"))
    gate = object_server.gate
    gate.is_down = gate.ignores_conditions = gate.lacks_conditions = gate.speaks_gs = False
    gate.refuses, gate.on_request = "", None
    gate.requests.clear()
    return object_server


@pytest.fixture
def gate(server):
    return server.gate


@pytest.fixture
def uri(server):
    """The address of the runs."""
    return f"s3://{server.new_bucket()}/some/folder"


@pytest.fixture
def bucket(uri):
    """The objects of the run 'tiny'."""
    return Bucket(parse_bucket_uri(uri).at("tiny"), patience_s=60.0)
