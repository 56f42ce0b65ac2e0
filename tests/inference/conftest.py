"""A run that is loaded as a user loads it."""

import shutil

import pytest
from typer.testing import CliRunner

import raysweep
from raysweep.cli.app import app
from tests.one_thread import one_thread as one_thread


@pytest.fixture(scope="session")
def run(finished_storage):
    """The finished run.  For reading only."""
    return raysweep.load(finished_storage / "tiny", device="cpu")


@pytest.fixture
def own_run(finished_storage, tmp_path):
    """The finished run in a folder of the test's own, not yet read."""
    shutil.copytree(finished_storage / "tiny", tmp_path / "tiny")
    return raysweep.load(tmp_path / "tiny", device="cpu")


@pytest.fixture
def run_inline(finished_storage, tmp_path, monkeypatch):
    """Runs a command about the finished run in this process, in a folder of its own; errors of ours are raised."""
    monkeypatch.chdir(tmp_path)

    def run_command(*words):
        options = ("--name", "tiny", "--storage", str(finished_storage), "--inline")
        result = CliRunner().invoke(app, [*map(str, words), *options])
        if result.exception is not None:
            raise result.exception
        return result.output

    return run_command
