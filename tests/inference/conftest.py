"""A run that is loaded as a user loads it."""

import shutil

import pytest
import torch

import raysweep


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Matrices this small only wait for a second thread, badly so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def run(finished_storage):
    """The finished run.  For reading only."""
    return raysweep.load(finished_storage / "tiny", device="cpu")


@pytest.fixture
def own_run(finished_storage, tmp_path):
    """The finished run in a folder of the test's own, not yet read."""
    shutil.copytree(finished_storage / "tiny", tmp_path / "tiny")
    return raysweep.load(tmp_path / "tiny", device="cpu")
