"""One Ray session for a module, a listener that remembers, and where a process's output goes."""

import os
import sys
from pathlib import Path

import pytest

from raysweep.config.resource_settings import ResourcesConfig
from raysweep.storage.run_folder import RunFolder
from tests.sweep_tasks import Remembering

ROOT = str(Path(__file__).parents[2])
# Workers import `tests.cluster.fake_trainings` by name; they inherit the environment.
sys.path.insert(0, ROOT)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="module")
def listener():
    return Remembering()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return RunFolder(tmp_path_factory.mktemp("runs") / "run with a space")


@pytest.fixture
def output(tmp_path):
    """The file for what a sweep in a process of its own prints."""
    return tmp_path / "output.txt"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Two CPUs and a GPU that Ray is told of and no machine has; trials run on a CPU unless they ask for it."""
    from raysweep.cluster.session import open_session

    resources = ResourcesConfig(max_failures=1, gpus_per_trial=0)
    with open_session(resources, scratch=tmp_path_factory.mktemp("ray"), cpus=2, gpus=1) as session:
        yield session
