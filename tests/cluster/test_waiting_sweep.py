"""A sweep that is ended while a training waits for another program's CPUs or GPUs."""

import json
import subprocess
import sys

import pytest

from tests.cluster.conftest import ROOT


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_an_interrupted_sweep_leaves_no_request_for_resources(tmp_path):
    """Such a request stays for good: the autoscaler would start and keep a GPU node for it, and no run could use it.

    Ray Train's controller used to repeat its request while it was ended, after Ray had removed those of the job.
    """
    words = [sys.executable, "-m", "tests.cluster.waiting_sweep", str(tmp_path)]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=240, check=True).stdout
    assert json.loads(told.splitlines()[-1]) == {"interrupted": True, "left": []}
