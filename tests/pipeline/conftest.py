"""A run small enough for every test: two levels, three trials, two-layer models, a few steps."""

import functools
import shutil

import pytest

from raysweep.config.loading import parse_config
from raysweep.pipeline.inline_executor import InlineExecutor
from raysweep.pipeline.run import Run
from raysweep.storage.run_folder import RunFolder
from tests.sweep_tasks import RecordingListener

TINY = {
    "data": {"levels": ["A1", "C1"], "sample": {"rows": 120, "level_shares": {"A1": 1, "C1": 1}}},
    "masking": {"examples_per_document": 2, "shard_documents": 64},
    "training": {"steps": 4, "batch_size": 4, "learning_rate": 1e-3, "evaluate_every": 2, "valid_examples": 8},
    "trials": {
        "A1": {"levels": ["A1"]},
        "C1": {"levels": ["C1"]},
        "all": {"levels": ["A1", "C1"]},
        "all-C1": {"from": "all", "levels": ["C1"], "steps": 2},
    },
    "evaluation": {"examples_per_document": 1, "generation_documents": 0, "speed_repeats": 0},
    "report": {"resamples": 100},
}


@pytest.fixture
def tiny_trials():
    return TINY["trials"]


def make_run(storage, changes=None, forced=(), executor=None, extended=()):
    return Run(
        config=parse_config({**TINY, **(changes or {})}),
        profile="tiny",
        folder=RunFolder(storage / "tiny"),
        executor=executor or InlineExecutor(),
        listener=RecordingListener(),
        command=["raysweep", "run"],
        forced=forced,
        extended=extended,
    )


@pytest.fixture
def tiny_run(tmp_path):
    """Make a run in the test's own folder."""
    return functools.partial(make_run, tmp_path / "runs")


CONTROLS = ("size_matched", "step_matched", "placebo", "compute_matched", "exposure_matched")


@pytest.fixture(scope="session")
def run_with_controls(finished_storage, tmp_path_factory):
    """The finished run, configured for control trials afterwards.  For reading only."""
    storage = tmp_path_factory.mktemp("controls") / "runs"
    shutil.copytree(finished_storage, storage)
    run = make_run(storage, {"controls": dict.fromkeys(CONTROLS, True) | {"placebo_draws": 2}})
    assert run.do() == []
    return run


@pytest.fixture
def done_run(finished_storage, tmp_path, tiny_run):
    """The finished run, in the test's own folder."""
    shutil.copytree(finished_storage, tmp_path / "runs")
    return tiny_run()
