"""How many trainings share a GPU: tables of possible measurements, and the decision."""

import pytest

from raysweep.config.resource_settings import ResourcesConfig
from raysweep.planning.gpu_sharing import choose_gpu_sharing
from raysweep.planning.rates import assumed_rates
from raysweep.scheduling.gpu_specs import GIB

ASSUMED = assumed_rates("cpu", parameters=10**6, layers=2)


def measured(*, need_gib=1.0, has_gib=16.0, slow_down=None):
    rates = assumed_rates("A100", parameters=10**6, layers=2)
    return rates.__class__(
        **{
            **{name: getattr(rates, name) for name in rates.__dataclass_fields__},
            "source": "measured",
            "memory_bytes": int(need_gib * GIB),
            "device_memory_bytes": int(has_gib * GIB),
            "slow_down": slow_down or {},
        }
    )


@pytest.mark.parametrize(
    ("rates", "together"),
    [
        (measured(slow_down={1: 1.0, 2: 1.05, 4: 1.3}), 4),
        (measured(slow_down={1: 1.0, 2: 1.9, 4: 3.9}), 1),
        (measured(slow_down={1: 1.0, 2: 1.2, 4: 2.3}), 2),
        (measured(need_gib=5.0, slow_down={1: 1.0, 2: 1.05, 4: 1.2}), 2),
        (measured(need_gib=7.5, slow_down={1: 1.0, 2: 1.05}), 1),
        (measured(need_gib=30.0, slow_down={1: 1.0}), 1),
        (measured(slow_down={}), 1),
    ],
    ids=[
        "small trainings that hardly notice each other",
        "a GPU that one training fills",
        "four do hardly more than two",
        "four do not fit",
        "two fit, but not with the margin",
        "memory is the larger one's own problem",
        "only one was measured",
    ],
)
def test_as_many_trials_share_a_gpu_as_fit_and_gain_throughput(rates, together):
    """A tenth of the memory stays free, and there are no more trainings than were measured."""
    assert choose_gpu_sharing(ResourcesConfig(), rates, cores=8, on_gpu=True).together == together


def test_trials_do_not_share_a_gpu_without_a_calibration():
    """Running out of memory at night is worse than an idle part of a GPU; the reason says how to measure."""
    sharing = choose_gpu_sharing(
        ResourcesConfig(), assumed_rates("A100", parameters=10**6, layers=2), cores=8, on_gpu=True
    )
    assert sharing.together == 1
    assert "raysweep plan --calibrate" in sharing.reason


@pytest.mark.parametrize(
    ("settings", "together"), [({"trials_per_gpu": 3}, 3), ({"trials_per_gpu": 1}, 1), ({"gpus_per_trial": 0.5}, 1)]
)
def test_configured_gpu_shares_take_precedence_over_measured_ones(settings, together):
    """`gpus_per_trial` already sets a share."""
    rates = measured(slow_down={1: 1.0, 2: 1.05, 4: 1.3})
    assert choose_gpu_sharing(ResourcesConfig(**settings), rates, cores=8, on_gpu=True).together == together


@pytest.mark.parametrize(
    ("settings", "rates", "together"),
    [
        ({}, ASSUMED, 8),
        ({"cpus_per_trial": 3}, ASSUMED, 2),
        ({"cpus_per_trial": 16}, ASSUMED, 1),
        ({"trials_per_gpu": 2}, ASSUMED, 2),
        ({"trials_per_gpu": 20}, ASSUMED, 8),
        ({}, measured(need_gib=5.0, has_gib=16.0), 2),
    ],
    ids=["a core each", "three cores each", "more cores than there are", "asked for", "never over", "memory"],
)
def test_on_a_cpu_trainings_share_cores_and_memory(settings, rates, together):
    """Each has its own threads, so that they do not compete for cores."""
    assert choose_gpu_sharing(ResourcesConfig(**settings), rates, cores=8, on_gpu=False).together == together
