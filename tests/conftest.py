"""What holds for every test."""

import signal

import pytest


@pytest.fixture(autouse=True)
def signal_handlers():
    """A test that runs a command in this process leaves no answer of its to SIGTERM to the tests after it."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
