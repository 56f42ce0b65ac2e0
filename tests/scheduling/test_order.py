"""Which trial starts first, compared with bounds and with the best possible schedule."""

import itertools
import random
from itertools import pairwise

import pytest

from raysweep.scheduling.order import (
    lower_bound,
    remaining_path,
    share_of_gpus,
    simulate,
)

HOURS = {"all": 15.0, "A1": 11.0, "A2": 9.0, "B1": 7.0, "B2": 4.5, "C1": 2.5}
"""Of the planned experiment: the middle of each range of V100 hours."""
SWEEP = {**HOURS, **{f"all-{level}": hours for level, hours in HOURS.items() if level != "all"}}
PARENTS = {name: "all" if name.startswith("all-") else None for name in SWEEP}


def waits_for(parents):
    """Return what each trial waits for, as lists."""
    return {name: [] if parent is None else [parent] for name, parent in parents.items()}


def random_graph(rng, trials):
    names = [f"t{number}" for number in range(trials)]
    durations = {name: float(rng.randint(1, 9)) for name in names}
    parents = {name: rng.choice([None, *names[:number]]) for number, name in enumerate(names)}
    return durations, parents


def shortest_possible(durations, parents, gpus):
    """Return the optimum over all orders, with each trial placed at its earliest possible time.

    Some order yields an optimal schedule in this way (serial generation, for any regular objective).
    """
    best = float("inf")
    for order in itertools.permutations(durations):
        ends, free = {}, [0.0] * gpus
        for name in order:
            parent = parents[name]
            if parent is not None and parent not in ends:
                break
            gpu = min(range(gpus), key=lambda index: free[index])
            start = max(free[gpu], ends[parent] if parent is not None else 0.0)
            # Take the GPU that is free in time at the latest, so that earlier ones stay free for others.
            fitting = [index for index in range(gpus) if free[index] <= start]
            gpu = max(fitting, key=lambda index: free[index])
            ends[name] = free[gpu] = start + durations[name]
        else:
            best = min(best, max(ends.values()))
    return best


def test_path_lengths_are_computed_for_chains_of_any_length():
    """It used to be found by recursion, which Python limits to a thousand levels."""
    names = [f"t{number}" for number in range(3000)]
    chain = {name: [before] for before, name in pairwise(names)}
    lengths = remaining_path(dict.fromkeys(names, 1.0), chain)
    assert (lengths["t0"], lengths["t2999"]) == (3000.0, 1.0)


def test_a_trials_remaining_path_is_its_cost_plus_the_longest_chain_after_it():
    """It is the remaining time if the trial starts now and there are enough GPUs."""
    costs = {"all": 10.0, "all-A1": 3.0, "all-B1": 5.0, "A1": 12.0, "all-B1-B2": 1.0}
    parents = {"all-A1": ["all"], "all-B1": ["all"], "all-B1-B2": ["all-B1"]}
    assert remaining_path(costs, parents) == {"all": 16.0, "all-A1": 3.0, "all-B1": 6.0, "A1": 12.0, "all-B1-B2": 1.0}


def test_a_finished_parent_does_not_count_in_the_path():
    """A later run has only the rest of the graph."""
    assert remaining_path({"all-A1": 3.0}, {"all-A1": ["all"]}) == {"all-A1": 3.0}


def test_the_longest_remaining_path_is_first_and_ties_keep_their_order():
    """The order depends only on which trials are ready."""
    start = simulate({"B1": 5.0, "A1": 12.0, "B2": 5.0, "all": 20.0}, {}, gpus=1).start
    assert sorted(start, key=start.__getitem__) == ["all", "A1", "B1", "B2"]


def test_a_smaller_trial_starts_before_one_that_does_not_fit():
    """No GPU idles while there is a trial that fits."""
    durations, needs = {"first": 2.0, "large": 9.0, "half": 1.0}, {"first": 0.5, "large": 1.0, "half": 0.5}
    schedule = simulate(durations, {"large": ["first"]}, gpus=1, needs=needs)
    assert schedule.start == {"first": 0.0, "half": 0.0, "large": 2.0}
    schedule = simulate({"large": 2.0, "wide": 9.0, "half": 1.0}, {}, gpus=1.5, needs={**needs, "wide": 1.0})
    assert schedule.start == {"wide": 0.0, "half": 0.0, "large": 9.0}


@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
def test_the_planned_sweep_ends_within_5_percent_of_the_lower_bound(gpus):
    """Six trainings and five fine-tunes take about 83 V100 hours, on any usual number of GPUs."""
    schedule = simulate(SWEEP, waits_for(PARENTS), gpus=gpus)
    assert schedule.makespan <= 1.05 * lower_bound(SWEEP, waits_for(PARENTS), gpus=gpus)


def test_scheduling_the_general_model_first_on_four_gpus_saves_seven_hours():
    """Smallest first, the order of the seed's table, starts the trial that five others wait for last."""
    smallest_first = dict(sorted(SWEEP.items(), key=lambda item: item[1]))
    ours = simulate(smallest_first, waits_for(PARENTS), gpus=4).makespan
    first_come = simulate(smallest_first, waits_for(PARENTS), gpus=4, order="first come").makespan
    assert (ours, first_come) == (26.0, 33.0)


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_stay_within_grahams_bound(seed):
    """A list schedule takes at most (2 - 1/m) times the optimum, and no less than the lower bound."""
    rng = random.Random(seed)
    durations, parents = random_graph(rng, trials=rng.randint(1, 30))
    for gpus in (1, 2, 3, 7):
        bound = lower_bound(durations, waits_for(parents), gpus=gpus)
        chain = lower_bound(durations, waits_for(parents), gpus=10**9)
        # From Graham's proof of 1966: whenever a GPU idles, the longest chain gets shorter.
        graham = sum(durations.values()) / gpus + (1 - 1 / gpus) * chain
        for order in ("longest path", "first come"):
            makespan = simulate(durations, waits_for(parents), gpus=gpus, order=order).makespan
            assert bound - 1e-9 <= makespan <= graham + 1e-9


@pytest.mark.parametrize("seed", range(12))
def test_schedules_of_small_graphs_are_close_to_the_optimum(seed):
    """Every order of six trials is tried: never above Graham's 3/2 on two GPUs, and never below the optimum."""
    durations, parents = random_graph(random.Random(seed), trials=6)
    best = shortest_possible(durations, parents, gpus=2)
    assert best <= simulate(durations, waits_for(parents), gpus=2).makespan <= 1.5 * best


@pytest.mark.parametrize("seed", range(20))
def test_a_schedule_respects_parents_and_gpu_capacity(seed):
    """No trial starts before its parent's end, and never more GPUs are in use than exist, shares included."""
    rng = random.Random(seed)
    durations, parents = random_graph(rng, trials=15)
    needs = {name: rng.choice([0.25, 0.5, 1.0, 2.0]) for name in durations}
    schedule = simulate(durations, waits_for(parents), gpus=3, needs=needs)
    for name, parent in parents.items():
        assert schedule.end[name] == schedule.start[name] + durations[name]
        assert parent is None or schedule.start[name] >= schedule.end[parent]
    for moment in schedule.start.values():
        running = [name for name in durations if schedule.start[name] <= moment < schedule.end[name]]
        assert sum(needs[name] for name in running) <= 3 + 1e-9


@pytest.mark.parametrize(("gpus", "share"), [(0.0, 0.0), (0.25, 0.25), (0.4, 0.5), (0.7, 1.0), (1 / 3, 1 / 3), (2, 2)])
def test_a_gpu_share_counts_as_much_as_it_keeps_other_trials_from_using(gpus, share):
    """A GPU holds two trials of 0.4, so each counts as a half; full use of a cluster then adds up to its GPUs."""
    assert share_of_gpus(gpus) == pytest.approx(share)
