"""Arrow's threads hold no Python object when a file has been read."""

import sys

import pytest

from raysweep.readers.arrow_input import arrow_input


@pytest.mark.parametrize("data", [b"", b"id,text\n" * 50_000], ids=["empty", "400 kB"])
def test_a_reader_thread_that_outlives_python_does_not_crash(data):
    """A thread of `read_csv` that dropped the bytes while Python ended aborted `init` with exit code 134."""
    held = sys.getrefcount(data)
    reader = arrow_input(data)
    assert sys.getrefcount(data) == held
    assert reader.read() == data
