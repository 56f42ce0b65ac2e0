"""What trials ask for against what the cluster has: facts in, a sentence or nothing out."""

import pytest

from raysweep.config.resource_settings import ResourcesConfig
from raysweep.pipeline.capacity import Capacity, ResourceRequest, find_shortage


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
            "Take one of these, or leave it out",
        ),
    ],
    ids=["CPU only", "half a GPU", "no GPU", "too few GPUs", "too few CPUs", "one and a half GPUs", "no such kind"],
)
def test_what_can_never_start_is_told_with_counts_and_the_fix(needs, capacity, sentence):
    """Waiting for ever for a GPU that does not exist is the worst way to find out."""
    assert find_shortage(needs, capacity) == sentence


@pytest.mark.parametrize(
    ("need", "cpus_in_use", "gpus_in_use", "fits"),
    [
        (ResourceRequest(cpus=1, gpus=0), 1, 0, True),
        (ResourceRequest(cpus=1, gpus=0), 2, 0, False),
        (ResourceRequest(cpus=1, gpus=0.5), 0, 0.5, True),
        (ResourceRequest(cpus=1, gpus=0.7), 0, 0.5, False),
        (ResourceRequest(cpus=1, gpus=2), 0, 0, False),
        (ResourceRequest(cpus=2, gpus=1), 1, 0, False),
    ],
    ids=["a core left", "no core left", "the other half", "a bit too much", "two on one", "a GPU but no core"],
)
def test_a_trial_fits_if_both_cpus_and_gpus_are_left(need, cpus_in_use, gpus_in_use, fits):
    """Ray would start its driver and let its worker wait, in an order of its own."""
    assert Capacity(cpus=2, gpus=1).fits(need, Capacity(cpus=cpus_in_use, gpus=gpus_in_use)) is fits


def test_every_whole_gpu_has_a_worker_with_its_own_cpus():
    """Two GPUs are two processes that share the steps of one training."""
    assert ResourceRequest(cpus=3, gpus=2).workers == 2
    assert Capacity(cpus=6, gpus=2).fits(ResourceRequest(cpus=3, gpus=2), Capacity(cpus=0, gpus=0))
    assert not Capacity(cpus=5, gpus=2).fits(ResourceRequest(cpus=3, gpus=2), Capacity(cpus=0, gpus=0))


def test_a_trial_that_wants_a_kind_of_gpu_waits_for_that_kind():
    """Another kind may be free; started on the wrong one it would wait within Ray, in an order of its own."""
    capacity = Capacity(cpus=8, gpus=3, kinds={"A100": 1, "T4": 2})
    a100, t4 = ResourceRequest(cpus=1, gpus=1, kind="A100"), ResourceRequest(cpus=1, gpus=1, kind="T4")
    in_use = Capacity(cpus=1, gpus=1, kinds={"A100": 1})
    assert not capacity.fits(a100, in_use)
    assert capacity.fits(t4, in_use)
    assert capacity.fits(ResourceRequest(cpus=1, gpus=0.5), in_use)


@pytest.mark.parametrize(
    ("resources", "capacity", "need", "cpus"),
    [
        ({"trials_per_gpu": 4}, Capacity(cpus=8, gpus=2), ResourceRequest(cpus=1, gpus=0.25), 8),
        ({"trials_per_gpu": "auto"}, Capacity(cpus=8, gpus=2), ResourceRequest(cpus=1, gpus=1.0), 8),
        ({"trials_per_gpu": 4, "gpus_per_trial": 0.5}, Capacity(cpus=8, gpus=2), ResourceRequest(cpus=1, gpus=0.5), 8),
        ({"trials_per_gpu": 2, "cpus_per_trial": 3}, Capacity(cpus=16, gpus=0), ResourceRequest(cpus=3, gpus=0.0), 6),
    ],
    ids=["four on a GPU", "not settled: one", "its own share goes first", "two at a time on a CPU"],
)
def test_packing_is_a_share_of_a_gpu_or_a_part_of_the_cores(resources, capacity, need, cpus):
    """The accounts are the same as for shares asked for by hand."""
    from raysweep.cluster.session import Session

    session = Session(resources=ResourcesConfig(**resources), dashboard="", capacity=capacity, declares_trial_gpu=False)
    assert session.need() == need
    assert session.training_capacity.cpus == cpus


def test_time_is_counted_in_gpus_or_in_cores():
    """Trials that share a GPU add up to it; without one the cores count."""
    assert (ResourceRequest(cpus=2, gpus=0.4).unit, ResourceRequest(cpus=2, gpus=0.4).slots) == ("gpu", 0.5)
    assert (ResourceRequest(cpus=2, gpus=4).unit, ResourceRequest(cpus=2, gpus=4).slots) == ("gpu", 4.0)
    assert (ResourceRequest(cpus=2, gpus=0).unit, ResourceRequest(cpus=2, gpus=0).slots) == ("cpu", 2.0)


@pytest.mark.parametrize(
    ("asked", "address", "gpus", "shares"),
    [
        ("auto", None, 0, True),
        ("auto", None, 0.5, False),
        ("shared", None, 0.5, True),
        ("auto", "auto", 1, False),
        ("own", None, 1, False),
        ("shared", "auto", 1, True),
        ("shared", None, 2, False),
    ],
)
def test_trainings_share_a_process_on_one_machine_s_cpus_unless_told_otherwise(asked, address, gpus, shares):
    """A cluster loses nodes, a GPU's memory is to be empty, and several GPUs need a process each."""
    from raysweep.cluster.session import Session
    from raysweep.config.resource_settings import ResourcesConfig

    resources = ResourcesConfig(train_workers=asked, address=address)
    session = Session(resources=resources, dashboard="", capacity=Capacity(cpus=8, gpus=4), declares_trial_gpu=False)
    assert session.shares_workers(ResourceRequest(cpus=1, gpus=gpus)) is shares


def test_what_ray_says_of_a_lost_worker_is_cut_to_a_line():
    """Its causes fill a paragraph."""
    from raysweep.cluster.functions import first_line

    assert first_line("\n  The actor died. \nmore") == "The actor died."
    assert len(first_line("word " * 100)) <= 160
    assert first_line("") == "no reason given"
