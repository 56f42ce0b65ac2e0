"""A cloud for a module's tests, where there can be one."""

import subprocess
import sys

import pytest

from tests.cluster_lab.cloud import Cloud, prepare, why_not


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """What nodes install, fetched once."""
    if reason := why_not():
        pytest.skip(f"no cluster can be made on this machine: {reason}")
    folder = tmp_path_factory.mktemp("shared")
    # Nodes' users read it, and pytest's folders are for this user alone.
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)
    if reason := prepare(folder):
        pytest.skip(f"no cluster can be made on this machine: {reason}")
    return folder


@pytest.fixture
def cloud(shared, tmp_path):
    """A cloud without machines, and the user's own machine beside it."""
    for parent in (tmp_path, tmp_path.parent):
        parent.chmod(0o755)
    folder = tmp_path / f"lab{tmp_path.parent.name[-6:]}".replace("-", "")
    folder.mkdir()
    with Cloud(folder, shared) as cloud:
        yield cloud


@pytest.fixture
def alone(tmp_path):
    """The same run on one machine without Ray, in a process beside the test: its folder, and the process."""
    from tests.cluster_lab.cloud import HERE, ROOT

    words = ["run", "--config", HERE / "sweep.yaml", "--name", "sweep", "--storage", tmp_path / "alone", "--inline"]
    with (tmp_path / "alone.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "raysweep", *words], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
        )
    yield tmp_path / "alone" / "sweep", process
    process.kill()
    process.wait()
