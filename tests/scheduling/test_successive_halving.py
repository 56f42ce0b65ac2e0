"""Stopping poor samples of a search early: rungs, survivors, and independence of the samples' speed."""

import random

import pytest

from raysweep.config.training_settings import AshaConfig, SearchConfig, TrainingConfig
from raysweep.scheduling.successive_halving import Halving, rung_steps, share_of_steps, survivors


@pytest.mark.parametrize(
    ("settings", "rungs"),
    [
        ((100, 1, 2), [10, 20, 40, 80]),
        ((100, 2, 3), [20, 60]),
        ((20, 2, 2), []),
        ((5, 1, 2), []),
    ],
    ids=["doubling", "tripling after two", "the end is no rung", "no evaluation before the end"],
)
def test_rungs_are_at_evaluation_steps(settings, rungs):
    """At every multiple of evaluate_every there is a loss to compare."""
    steps, grace, reduction = settings
    asha = AshaConfig(grace_evaluations=grace, reduction=reduction)
    assert rung_steps(TrainingConfig(steps=steps, evaluate_every=10), asha) == rungs


@pytest.mark.parametrize(
    ("losses", "reduction", "kept"),
    [
        ({0: 3.0, 1: 1.0, 2: 2.0, 3: 4.0}, 2, {1, 2}),
        ({0: 3.0, 1: 1.0, 2: 2.0}, 2, {1, 2}),
        ({0: 1.0, 1: 1.0}, 2, {0}),
        ({5: 9.0}, 4, {5}),
    ],
    ids=["half", "half, rounded up", "a tie goes to the earlier", "the last one goes on"],
)
def test_the_best_samples_continue_from_a_rung(losses, reduction, kept):
    """One of `reduction` continues, and at least one."""
    assert survivors(losses, reduction=reduction) == kept


def run_round(losses, order, *, rungs=2, reduction=2, failing=()):
    """Take a round through its rungs, with an arrival order per rung; return which sample stops where."""
    halving, going, stopped = Halving(list(range(len(losses))), reduction=reduction), list(range(len(losses))), {}
    for rung in range(rungs):
        order.shuffle(going)
        decided = None
        for sample in going:
            assert decided is None, "nobody is judged before all are there"
            if (sample, rung) in failing:
                halving.finish(sample, None)
            else:
                halving.arrive(sample, losses[sample] - 0.1 * rung)
            decided = halving.decide()
        if decided is None:
            return stopped, []
        going, stops = decided
        stopped |= dict.fromkeys(stops, rung)
    return stopped, sorted(going)


@pytest.mark.parametrize("seed", range(20))
def test_the_arrival_order_of_samples_does_not_change_which_ones_stop(seed):
    """With one worker or eight, fast or slow, the same samples are stopped at the same rungs."""
    losses = [random.Random(seed).random() for _ in range(4)]
    outcomes = [run_round(losses, random.Random(other)) for other in range(5)]
    assert all(outcome == outcomes[0] for outcome in outcomes)
    best = min(range(4), key=lambda sample: losses[sample])
    assert outcomes[0][1] == [best]


def test_a_rung_does_not_wait_for_a_failed_sample():
    """The other samples of its round are compared among themselves."""
    assert run_round([1.0, 2.0, 3.0, 4.0], random.Random(0), failing={(0, 0)}) == ({3: 0, 2: 1}, [1])


def test_a_sample_that_finishes_early_is_compared_but_not_waited_for():
    """Its own patience stopped it; its best loss still counts against the others."""
    halving = Halving([0, 1, 2], reduction=3)
    halving.finish(0, 0.5)
    halving.arrive(1, 1.0)
    assert halving.decide() is None
    halving.arrive(2, 2.0)
    assert halving.decide() == ([], [1, 2])


@pytest.mark.parametrize(("samples", "grace", "share"), [(4, 1, 0.5), (8, 1, 0.5), (6, 4, 1.0)])
def test_a_plan_counts_the_steps_of_a_halved_search(samples, grace, share):
    """A round of four over 40 steps with rungs at 10 and 20: 4 × 10 + 2 × 10 + 1 × 20 of 160 steps."""
    settings = TrainingConfig(steps=40, evaluate_every=10)
    space = {"learning_rate": {"low": 1e-4, "high": 1e-2}}
    search = SearchConfig(samples=samples, space=space, asha=AshaConfig(grace_evaluations=grace, reduction=2))
    assert share_of_steps(settings, search) == share
