"""What Tune copies for every trial is stored only once; copies for a thousand trials were 11 MB."""

from copy import deepcopy
from pathlib import Path

import pytest

from raysweep.scheduling.capacity import ResourceRequest
from raysweep.storage.run_folder import RunFolder
from tests.sweep_tasks import make_task


@pytest.fixture
def make_work(tmp_path):
    from raysweep.cluster.train_worker import Work

    def make(name, *, gpus=0.0, is_shared=True, cpus=1):
        return Work(
            job=make_task(RunFolder(tmp_path), name).job,
            need=ResourceRequest(cpus=cpus, gpus=gpus),
            storage=Path("storage"),
            evaluations=Path(f"{name}.jsonl"),
            failure=Path(f"{name}.failure"),
            takes_trial_gpu=True,
            is_shared=is_shared,
            check=None,
        )

    return make


def test_a_config_copied_by_tune_shares_the_same_work_object(make_work):
    """It never changes; its paths and settings would otherwise be copied for every trial."""
    config = {"name": "A1", "work": make_work("A1")}
    assert deepcopy(config)["work"] is config["work"]


def test_trials_with_equal_resources_share_one_placement_group_factory(make_work):
    """Trials with other needs have their own."""
    from raysweep.cluster.trial_driver import bundles

    assert bundles(make_work("A1")) is bundles(make_work("A2"))
    reserved = [
        bundles(make_work("A1", **kind)).bundles
        for kind in ({"cpus": 2}, {"gpus": 2.0, "is_shared": False}, {"gpus": 0.5, "is_shared": False})
    ]
    driver = {"node:__internal_head__": 0.001}
    assert reserved == [[{"CPU": 2.0}], [driver, {"trial_gpu": 1.0}, {"trial_gpu": 1.0}], [driver, {"trial_gpu": 0.5}]]
