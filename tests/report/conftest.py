"""The run folder that the report's tests are about."""

from functools import partial

import pytest
import simulated_run

from raysweep.report.writing import write_report


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
