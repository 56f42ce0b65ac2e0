"""What `score` on a cluster and a bucket loses with a worker, its head, its network, its bucket or a disk: time alone.

pytest -s -m cluster tests/cluster_lab/test_score_losses.py        prints a column of the table of BENCHMARKS.md
"""

import os
import subprocess
import sys

import pytest

from tests.cluster_lab.cloud import ROOT
from tests.cluster_lab.lan_bucket import BUCKET, STORAGE
from tests.cluster_lab.namespaces import HERE
from tests.cluster_lab.ray_nodes import _line
from tests.cluster_lab.test_losses import LOSSES, Stage
from tests.cluster_lab.test_losses import finished as finished
from tests.cluster_lab.test_losses import nodes as nodes

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(2400)]
TEXTS = 300
"""A part under each of four models; a mask takes the workers MASK_SECONDS, so a part three quarters of a minute."""
NAME = "scores.parquet"
OUT = f"s3://{BUCKET}/texts/{NAME}"


@pytest.fixture(scope="module")
def corpus(finished):
    """New texts on a path that every node has, and their table as one machine makes it without Ray."""
    from raysweep.corpus.sample import write_sample

    path = finished.with_name("new.csv")
    write_sample(path, rows=TEXTS, seed=7, level_shares={"A1": 50, "A2": 50}, levels=("A1", "A2"))
    out = finished.with_name(NAME)
    words = ["score", path, "--name", finished.name, "--storage", finished.parent, "--out", out, "--inline"]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "raysweep", *words], check=True, cwd=HERE, env=variables, capture_output=True)
    return path, out


class Scoring(Stage):
    """The command, on the head of the nodes."""

    def begin(self):
        # A new head has nothing of the corpus.
        copy = self.nodes.lab.words(self.nodes.head, f"cat > /var/{self.corpus.name}", user="root")
        subprocess.run(copy, input=self.corpus.read_bytes(), check=True)
        command = f"python -m raysweep score /var/{self.corpus.name} --name lab --storage {STORAGE} --out {OUT}"
        line = f"{_line()}cd {HERE} && RAY_ADDRESS=auto {command}"
        words = self.nodes.lab.words(self.nodes.head, line, user="root")
        with self.log.open("a") as file:
            self.command = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT)

    def busy_worker(self):
        parts = [path for path in self.nodes.bucket.list(f"texts/{NAME}.parts/") if path.endswith(".parquet")]
        return self.workers[0] if parts else ""


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_during_scoring_costs_only_time(nodes, finished, corpus, tmp_path, loss):
    """The table has the bytes of the one that a single machine made, and lies in the bucket with its record."""
    path, expected = corpus
    nodes.bucket.upload(finished, "runs/lab")
    scoring = Scoring(nodes, "score", nodes.start(2), tmp_path / "score.log", middle_s=900, end_s=900)
    scoring.corpus = path
    scoring.lose(loss)
    assert nodes.bucket.read(f"texts/{NAME}") == expected.read_bytes()
    left = {path for path in nodes.bucket.list("texts/") if not path.endswith("lease.json")}
    assert left == {f"texts/{NAME}", f"texts/{NAME}.json"}
