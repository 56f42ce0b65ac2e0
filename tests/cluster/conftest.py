"""One Ray session for all modules, a listener that records calls, and a file for a process's output."""

import os
import sys
from pathlib import Path

import pytest

from raysweep.config.resource_settings import ResourcesConfig
from raysweep.storage.run_folder import RunFolder
from tests.sweep_tasks import RecordingListener

ROOT = str(Path(__file__).parents[2])
# Workers import `tests.cluster.fake_trainings` by name; they inherit the environment.
sys.path.insert(0, ROOT)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="module")
def listener():
    return RecordingListener()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return RunFolder(tmp_path_factory.mktemp("runs") / "run with a space")


@pytest.fixture
def output(tmp_path):
    """Return the file to which a sweep in its own process prints."""
    return tmp_path / "output.txt"


@pytest.fixture(scope="session")
def shared_ray():
    """Hold the session that modules share, once it is open; Ray takes many seconds to start and to end."""
    sessions = []
    yield sessions
    for session in sessions:
        session.close()


@pytest.fixture(scope="module")
def session(shared_ray, tmp_path_factory):
    """Start Ray with two CPUs and two declared GPUs that no machine has; trials use a CPU unless they ask for a GPU."""
    from raysweep.cluster.session import open_session

    if not shared_ray:
        resources = ResourcesConfig(max_failures=1, gpus_per_trial=0)
        shared_ray.append(open_session(resources, scratch=tmp_path_factory.mktemp("ray"), cpus=2, gpus=2))
    return shared_ray[0]
