"""What a run on a cluster and a bucket loses with a worker, its head, its network, its bucket or a disk: time alone.

pytest -s -m cluster tests/cluster_lab/test_losses.py        prints the table of BENCHMARKS.md
"""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from raysweep.storage.run_files import is_working_file
from tests.cluster_lab.cloud import ROOT, why_not
from tests.cluster_lab.lan_bucket import digests
from tests.cluster_lab.namespaces import HERE
from tests.cluster_lab.ray_nodes import RayNodes

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1200)]
MADE_BY = {
    "mask": ("examples/",),
    "train": ("trials/", "evaluation/", "report/"),
    "evaluate": ("evaluation/", "report/"),
}
"""What a stage and those after it make."""
OUTAGE_S = 60.0
TRAIN_TAB = 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8265/api/train/v2/runs/v1").read().decode())'
"""What the dashboard's Train tab shows."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The same run on one machine without Ray: its folder.  Beside it, `prepared`: as it was before the masks."""
    if reason := why_not():
        pytest.skip(f"no cluster can be made on this machine: {reason}")
    folder = tmp_path_factory.mktemp("alone")
    words = ["--config", HERE / "losses.yaml", "--name", "lab", "--storage", folder]
    how = {"cwd": ROOT, "env": {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}, "capture_output": True}
    subprocess.run([sys.executable, "-m", "raysweep", "prepare", *words], check=True, **how)
    shutil.copytree(folder / "lab", folder / "prepared")
    subprocess.run([sys.executable, "-m", "raysweep", "run", *words, "--inline"], check=True, **how)
    return folder / "lab"


@pytest.fixture
def nodes(tmp_path):
    folder = tmp_path / f"loss{tmp_path.parent.name[-4:]}".replace("-", "")
    folder.mkdir()
    with RayNodes(folder) as nodes:
        yield nodes


@dataclass
class Stage:
    """A stage that runs on the head of the nodes."""

    nodes: RayNodes
    name: str
    workers: list[str]
    log: object
    command: object = None
    middle_s: float = 300
    """The longest wait for its middle, and for its end."""
    end_s: float = 500

    def begin(self):
        self.command = self.nodes.begin(self.name, self.log)

    def busy_worker(self):
        """A worker in the middle of the stage; '' before and after that."""
        if self.name == "train":
            return self.nodes.bucket.host_of("all", "runs/lab")
        under = {"mask": "runs/lab/examples/", "evaluate": "runs/lab/evaluation/cells/"}[self.name]
        is_begun = any(path.endswith(".json") for path in self.nodes.bucket.list(under))
        return self.workers[0] if is_begun else ""

    def wait_for_the_middle(self):
        until = time.monotonic() + self.middle_s
        while not (worker := self.busy_worker()):
            assert self.command.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < until, self.log.read_text()[-3000:]
            time.sleep(0.3)
        return worker

    def end(self):
        try:
            return self.command.wait(self.end_s)
        finally:
            self.command.kill()

    def lose(self, loss):
        """From its start to its end, which must be good, with a loss; returns a row of the table."""
        began = time.monotonic()
        self.begin()
        loss(self)
        code = self.end()
        took = time.monotonic() - began
        assert code == 0, self.log.read_text()[-4000:]
        return f"\n| {self.name} | {loss.__name__.replace('_', ' ')} | {took:.0f} s | load {os.getloadavg()[0]:.0f} |"


def nothing(stage):
    """For comparison."""


def power_cut(stage):
    stage.nodes.lab.cut_power(stage.wait_for_the_middle())


def drain(stage):
    """With notice; sooner than EC2, which gives two minutes."""
    worker = stage.wait_for_the_middle()
    stage.nodes.notice(worker)
    time.sleep(20)
    stage.nodes.lab.cut_power(worker)


def network_cut(stage):
    worker = stage.wait_for_the_middle()
    stage.nodes.lab.set_cable(worker, is_in=False)
    time.sleep(OUTAGE_S)
    stage.nodes.lab.set_cable(worker, is_in=True)


def bucket_down(stage):
    stage.wait_for_the_middle()
    stage.nodes.down.touch()
    time.sleep(OUTAGE_S)
    stage.nodes.down.unlink()


def head_lost(stage):
    """All machines are; others, with empty disks, go on."""
    stage.wait_for_the_middle()
    for name in stage.nodes.lab.nodes():
        stage.nodes.lab.cut_power(name)
    assert stage.end() != 0
    stage.workers = stage.nodes.start(2)
    stage.begin()


def disk_full(stage):
    """The command may end with an error that says so; with room again the same command does the rest."""
    free = stage.nodes.fill_disk(stage.wait_for_the_middle())
    if stage.end():
        text = " ".join(stage.log.read_text().split())
        assert "No space left on device" in text, text[-3000:]
        free()
        stage.begin()


LOSSES = (nothing, power_cut, drain, head_lost, network_cut, bucket_down, disk_full)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", MADE_BY)
def test_a_lost_node_or_process_costs_only_time(nodes, finished, tmp_path, name, loss):
    """The stage ends well, with the bytes of the run on one machine."""
    before = tmp_path / "before"
    shutil.copytree(finished.with_name("prepared") if name == "mask" else finished, before)
    for path in [path for path in before.rglob("*") if path.is_file()]:
        place = path.relative_to(before).as_posix()
        if place.startswith(MADE_BY[name]) or is_working_file(place):
            path.unlink()
    nodes.bucket.upload(before, "runs/lab")
    row = Stage(nodes, name, nodes.start(2), tmp_path / "stage.log").lose(loss)
    nodes.bucket.download("runs/lab", tmp_path / "after")
    expected = {path: digest for path, digest in digests(finished).items() if path.startswith(MADE_BY[name][0])}
    assert expected
    assert {path: digest for path, digest in digests(tmp_path / "after").items() if path in expected} == expected
    print(row)
    if name == "train":
        train_runs = json.loads(nodes.run(nodes.head, f"python -c '{TRAIN_TAB}'"))["train_runs"]
        # Those of this cluster, which after the loss of the head is another.
        assert {run["name"] for run in train_runs} <= {"all", "A1", "A2"}
        assert "A2" in {run["name"] for run in train_runs}
