"""A fixture for the rooms whose tests compute with torch; their conftest.py imports it."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Sums on a CPU depend on the number of threads, and small matrices only wait for a second."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
