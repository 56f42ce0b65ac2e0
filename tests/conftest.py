"""What holds for every test."""

import signal
from functools import partial

import pytest

from raysweep.report.writing import write_report
from tests import simulated_run
from tests.shared_work import FilesTogether, made_once, rank_of

_SIGTERM_BEFORE = signal.getsignal(signal.SIGTERM)


def pytest_collection_modifyitems(items):
    """The longest work begins first, see `tests.shared_work`."""
    items.sort(key=lambda item: rank_of(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `pytest -n 3`, one process runs all tests of a file, which share fixtures."""
    return FilesTogether(config, log)


@pytest.fixture(autouse=True)
def signal_handlers():
    """A test that runs a command in this process leaves no answer of its to SIGTERM to the tests after it."""
    # A fixture of a module may have run one before; and a shell's background jobs ignore Ctrl-C.
    signal.signal(signal.SIGTERM, _SIGTERM_BEFORE)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, _SIGTERM_BEFORE)


@pytest.fixture(autouse=True, scope="session")
def isolated_cache(tmp_path_factory):
    """No test reads what the user's own calibration says, nor writes into it, or into what else is kept for a user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYSWEEP_CALIBRATION", str(tmp_path_factory.mktemp("calibration") / "calibration.json"))
        patch.setattr("raysweep.model.remembered_digests.user_cache", lambda: tmp_path_factory.getbasetemp() / "cache")
        yield


@pytest.fixture(autouse=True, scope="session")
def skip_fsync():
    """No test cuts the power: what is renamed into place need not have reached the disk, which takes milliseconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@pytest.fixture
def make_run(tmp_path):
    """Writes a whole run folder; gives it with its config and trials, as `write_report` takes them."""
    return partial(simulated_run.make_run, tmp_path)


@pytest.fixture(scope="session")
def reported(tmp_path_factory):
    """The plan's experiment with its report written: the run folder and the evidence.  For reading only."""
    folder, config, trials = simulated_run.make_run(tmp_path_factory.mktemp("reported"))
    return folder, write_report(folder, config, trials)


@pytest.fixture
def evidence(reported):
    return reported[1]


@pytest.fixture(scope="session")
def finished_storage(tmp_path_factory):
    """A real run that went through, named 'tiny' (see `tests.pipeline.conftest`).  For reading only."""
    from tests.pipeline.conftest import make_run as make_tiny_run  # torch, which most tests need not wait for

    def make(storage):
        assert make_tiny_run(storage).do() == []

    return made_once(tmp_path_factory, "finished", make)
