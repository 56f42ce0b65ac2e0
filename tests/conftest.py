"""What holds for every test."""

import signal

import pytest


@pytest.fixture(autouse=True)
def signal_handlers():
    """A test that runs a command in this process leaves no answer of its to SIGTERM to the tests after it."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True, scope="session")
def calibration_of_the_tests(tmp_path_factory):
    """No test reads what the user's own calibration says, nor writes into it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYSWEEP_CALIBRATION", str(tmp_path_factory.mktemp("calibration") / "calibration.json"))
        yield
