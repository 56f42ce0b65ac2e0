"""What trials need compared with what the cluster has: a problem gives a sentence, otherwise nothing."""

import pytest

from raysweep.config.resource_settings import ResourcesConfig
from raysweep.scheduling.capacity import Capacity, ResourceRequest, find_shortage, gpus_of_trial


@pytest.mark.parametrize(
    ("needs", "capacity", "sentence"),
    [
        ({"A1": ResourceRequest(cpus=1, gpus=0)}, Capacity(cpus=2, gpus=0), ""),
        ({"A1": ResourceRequest(cpus=1, gpus=0.5)}, Capacity(cpus=2, gpus=1), ""),
        (
            {"A1": ResourceRequest(cpus=1, gpus=1), "B1": ResourceRequest(cpus=1, gpus=1)},
            Capacity(cpus=2, gpus=0),
            "2 trials ask for 1 GPU each; the cluster has 0 (2 CPUs). "
            "Start nodes with GPUs, or set resources.gpus_per_trial: 0 and no `gpus:` in trials",
        ),
        (
            {"A1": ResourceRequest(cpus=1, gpus=0), "B1": ResourceRequest(cpus=1, gpus=4)},
            Capacity(cpus=8, gpus=2),
            "1 trial asks for 4 GPUs each; the cluster has 2 (8 CPUs). "
            "Start nodes with GPUs, or set resources.gpus_per_trial: 0 and no `gpus:` in trials",
        ),
        (
            {"A1": ResourceRequest(cpus=4, gpus=0)},
            Capacity(cpus=2, gpus=0),
            "1 trial asks for 4 CPUs each; the cluster has 2. Start larger nodes, or set resources.cpus_per_trial: 2",
        ),
        (
            {"A1": ResourceRequest(cpus=1, gpus=1.5)},
            Capacity(cpus=8, gpus=2),
            "trials.A1.gpus: found 1.5; must be a share of one GPU (such as 0.5) or a whole number",
        ),
        (
            {"A1": ResourceRequest(cpus=1, gpus=1, kind="H100")},
            Capacity(cpus=8, gpus=3, kinds={"A100": 2, "T4": 1}),
            "trials.A1.accelerator_type: found 'H100', 1 GPU(s); the cluster has A100 2, T4 1. "
            "Use one of these, or leave it out",
        ),
        (
            {"each": ResourceRequest(cpus=3, gpus=0)},
            Capacity(cpus=4, gpus=0, nodes=[Capacity(cpus=2, gpus=0)] * 2),
            "every trial: needs 3 CPUs on one node; the cluster's nodes have 2 CPUs. "
            "Start larger nodes, or set resources.cpus_per_trial or the trial's GPUs lower",
        ),
        (
            {"A1": ResourceRequest(cpus=4, gpus=2)},
            Capacity(cpus=10, gpus=2, nodes=[Capacity(cpus=8, gpus=0), Capacity(cpus=2, gpus=2)]),
            "trials.A1: each of its 2 workers needs 4 CPUs and 1 GPU on one node; the cluster's nodes have 8 CPUs, "
            "2 CPUs and 2 GPUs. Start larger nodes, or set resources.cpus_per_trial or the trial's GPUs lower",
        ),
        (
            {name: ResourceRequest(cpus=cpus, gpus=0) for name, cpus in [("A1", 1), ("A2", 2), ("B1", 2)]},
            Capacity(cpus=2, gpus=0, nodes=[Capacity(cpus=1, gpus=0)] * 2),
            "trials.A2: needs 2 CPUs on one node; the cluster's nodes have 1 CPU (1 more trial fits on none). "
            "Start larger nodes, or set resources.cpus_per_trial or the trial's GPUs lower",
        ),
        (
            {"A1": ResourceRequest(cpus=2, gpus=2), "B1": ResourceRequest(cpus=2, gpus=0.4, kind="T4")},
            Capacity(cpus=4, gpus=2, kinds={"T4": 2}, nodes=[Capacity(cpus=2, gpus=1, kinds={"T4": 1})] * 2),
            "",
        ),
    ],
    ids=[
        "CPU only",
        "half a GPU",
        "no GPU",
        "too few GPUs",
        "too few CPUs",
        "one and a half GPUs",
        "no such kind",
        "two small nodes",
        "GPUs on the node with few CPUs",
        "two of three trials on no node",
        "two nodes with a GPU each",
    ],
)
def test_trials_that_can_never_start_are_reported_with_counts_and_fix(needs, capacity, sentence):
    """The alternative is to wait for ever for a GPU that does not exist."""
    assert find_shortage(needs, capacity) == sentence


@pytest.mark.parametrize(
    ("running", "request_", "fits"),
    [
        ([ResourceRequest(cpus=1, gpus=0)], ResourceRequest(cpus=1, gpus=0), True),
        ([ResourceRequest(cpus=2, gpus=0)], ResourceRequest(cpus=1, gpus=0), False),
        ([ResourceRequest(cpus=0, gpus=0.5)], ResourceRequest(cpus=1, gpus=0.5), True),
        ([ResourceRequest(cpus=0, gpus=0.5)], ResourceRequest(cpus=1, gpus=0.7), False),
        ([], ResourceRequest(cpus=1, gpus=2), False),
        ([ResourceRequest(cpus=1, gpus=0)], ResourceRequest(cpus=2, gpus=1), False),
    ],
    ids=["a core left", "no core left", "the other half", "over half", "two on one", "a GPU but no core"],
)
def test_a_trial_fits_if_both_cpus_and_gpus_are_left(running, request_, fits):
    """Otherwise Ray would start its driver and let its worker wait, in an order of Ray's own."""
    assert Capacity(cpus=2, gpus=1).fits([*running, request_]) is fits


def test_every_whole_gpu_has_a_worker_with_its_own_cpus():
    """Two GPUs need two processes, which share the steps of one training."""
    assert ResourceRequest(cpus=3, gpus=2).workers == 2
    assert Capacity(cpus=6, gpus=2).fits([ResourceRequest(cpus=3, gpus=2)])
    assert not Capacity(cpus=5, gpus=2).fits([ResourceRequest(cpus=3, gpus=2)])


def test_a_trial_that_requires_a_gpu_type_waits_for_that_type():
    """Started while only another kind is free, it would wait within Ray, in an order of Ray's own."""
    capacity = Capacity(cpus=8, gpus=3, kinds={"A100": 1, "T4": 2})
    a100, t4 = ResourceRequest(cpus=1, gpus=1, kind="A100"), ResourceRequest(cpus=1, gpus=1, kind="T4")
    assert not capacity.fits([a100, a100])
    assert capacity.fits([a100, t4])
    assert capacity.fits([a100, ResourceRequest(cpus=1, gpus=0.5)])


@pytest.mark.parametrize(
    ("resources", "own", "gpus", "expected"),
    [
        ({}, None, 0, 0.0),
        ({}, None, 4, 1.0),
        ({}, 2.0, 4, 2.0),
        ({"gpus_per_trial": 0.5}, None, 1, 0.5),
        ({"gpus_per_trial": 0}, None, 4, 0.0),
        ({"trials_per_gpu": 4}, None, 2, 0.25),
        ({"trials_per_gpu": 4}, None, 0, 0.0),
        ({"trials_per_gpu": 4, "gpus_per_trial": 0.5}, None, 2, 0.5),
    ],
    ids=["no GPU", "GPUs", "its own", "half of one", "CPU on a GPU machine", "shared", "none to share", "both set"],
)
def test_a_trials_gpus_come_from_its_own_setting_or_the_resources(resources, own, gpus, expected):
    """The plan, the sweep and the report use the same rule; the same config runs locally and in the cloud."""
    assert gpus_of_trial(ResourcesConfig(**resources), own, gpus=gpus) == expected


def test_time_is_counted_in_gpus_or_without_gpus_in_cores():
    """Trials that share a GPU add up to it; without a GPU, cores count."""
    assert (ResourceRequest(cpus=2, gpus=0.4).unit, ResourceRequest(cpus=2, gpus=0.4).slots) == ("gpu", 0.5)
    assert (ResourceRequest(cpus=2, gpus=4).unit, ResourceRequest(cpus=2, gpus=4).slots) == ("gpu", 4.0)
    assert (ResourceRequest(cpus=2, gpus=0).unit, ResourceRequest(cpus=2, gpus=0).slots) == ("cpu", 2.0)
