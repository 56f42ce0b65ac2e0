"""What a session makes of Ray's resources, and of an address."""

import pytest

from raysweep.cluster.session import capacity_of
from raysweep.pipeline.capacity import Capacity

A100 = {"CPU": 8.0, "GPU": 2.0, "accelerator_type:A100": 1.0}
T4 = {"CPU": 4.0, "GPU": 1.0, "accelerator_type:T4": 1.0}


@pytest.mark.parametrize(
    ("available", "nodes", "capacity"),
    [
        ({"CPU": 2.0}, [({"CPU": 2.0}, True)], Capacity(cpus=2, gpus=0)),
        ({"CPU": 12.0, "GPU": 3.0}, [(A100, True), (T4, True)], Capacity(cpus=12, gpus=3, kinds={"A100": 2, "T4": 1})),
        ({"CPU": 8.0, "GPU": 2.0}, [(A100, True), (T4, False)], Capacity(cpus=8, gpus=2, kinds={"A100": 2})),
        (
            {"CPU": 8.0, "max_cpu": 24.0, "max_trial_gpu": 4.0, "max_trial_gpu:T4": 4.0},
            [({"CPU": 8.0}, True)],
            Capacity(cpus=24, gpus=4, kinds={"T4": 4}),
        ),
        (
            {"CPU": 12.0, "GPU": 1.0, "max_cpu": 8.0, "max_trial_gpu": 4.0, "max_trial_gpu:T4": 4.0},
            [({"CPU": 8.0}, True), (T4, True)],
            Capacity(cpus=12, gpus=4, kinds={"T4": 4}),
        ),
    ],
    ids=["no GPU", "two kinds", "a dead node", "workers still to come", "a worker has come"],
)
def test_a_cluster_has_what_its_nodes_have_or_its_head_declares(available, nodes, capacity):
    """A run plans for the GPUs that the autoscaler brings once trials wait for them."""
    listed = [{"Resources": resources, "Alive": is_alive} for resources, is_alive in nodes]
    assert capacity_of(available, listed) == capacity


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:9", r"nothing answers there \(.*refused\)"),
        ("ray://head:10001", "must be auto or host:port"),
        ("head", "must be auto or host:port"),
        (":6379", "must be auto or host:port"),
    ],
)
def test_an_address_where_nothing_listens_is_refused(address, reason, tmp_path):
    """Ray itself would try for minutes."""
    from raysweep.cluster.session import open_session
    from raysweep.config.resource_settings import ResourcesConfig
    from raysweep.errors import ResourceError

    with pytest.raises(ResourceError, match=rf"^resources.address: found '{address}'; {reason}"):
        open_session(ResourcesConfig(address=address), scratch=tmp_path)
