"""The learning rate of each step."""

import itertools

import pytest

from raysweep.config.training_settings import TrainingConfig
from raysweep.training.optimizer import learning_rate


def rates(steps=10, **settings):
    config = TrainingConfig(steps=steps, learning_rate=2.0, **settings)
    return [learning_rate(step, config) for step in range(1, steps + 1)]


def test_the_constant_schedule_stays_at_the_peak():
    """This is the original's schedule, and the default."""
    assert rates() == [2.0] * 10


def test_warm_up_rises_linearly_to_the_peak():
    """The first step is not wasted on a rate of zero."""
    assert rates(warmup_steps=4)[:6] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])


def test_the_linear_schedule_falls_to_zero_after_the_last_step():
    """The last step still learns."""
    assert rates(steps=6, warmup_steps=2, schedule="linear") == pytest.approx([1.0, 2.0, 2.0, 1.5, 1.0, 0.5])


def test_the_cosine_schedule_falls_slowly_fast_and_slowly():
    """The rate is half of the peak in the middle of the decay."""
    values = rates(steps=8, schedule="cosine")
    assert values[0] == 2.0
    assert values[4] == pytest.approx(1.0)
    assert all(later < earlier for earlier, later in itertools.pairwise(values))
    assert 0 < values[-1] < 0.1


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_warm_up_longer_than_the_training_only_rises(schedule):
    """There is no division by zero and no rate above the peak."""
    assert rates(steps=3, warmup_steps=4, schedule=schedule) == pytest.approx([0.5, 1.0, 1.5])
