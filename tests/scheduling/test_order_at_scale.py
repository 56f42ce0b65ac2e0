"""The order of trials on a thousand random graphs, on small graphs with known optimum, and for the plan's hours."""

import random
import statistics

import pytest

from raysweep.scheduling.order import lower_bound, simulate
from tests.scheduling.test_order import waits_for

GRAPHS = 1000
HOURS = {"C1": 2.5, "B2": 4.5, "B1": 7.0, "A2": 9.0, "A1": 11.0, "all": 15.0}
"""The middle of each range of V100 hours in the plan, in the order of its table, with fine-tunes of a tenth below."""
PLANNED = {**HOURS, **{f"all-{level}": hours / 10 for level, hours in HOURS.items() if level != "all"}}
PARENTS = {name: "all" if name.startswith("all-") else None for name in PLANNED}


def random_graph(rng, trials):
    """Draw durations from 1 to 20; every second trial starts from an earlier one."""
    names = [f"t{number}" for number in range(trials)]
    durations = {name: float(rng.randint(1, 20)) for name in names}
    parents = {
        name: rng.choice(names[:number]) if number and rng.random() < 0.5 else None for number, name in enumerate(names)
    }
    return durations, parents


@pytest.fixture(scope="module")
def thousand():
    """Return per graph: makespan in our order, makespan first come first served, lower bound, Graham's bound."""
    makespans = []
    for seed in range(GRAPHS):
        rng = random.Random(seed)
        durations, parents = random_graph(rng, trials=rng.randint(6, 24))
        gpus = rng.choice([1, 2, 3, 4, 8])
        ours, first_come = (
            simulate(durations, waits_for(parents), gpus=gpus, order=order).makespan
            for order in ("longest path", "first come")
        )
        makespans.append((ours, first_come, lower_bound(durations, waits_for(parents), gpus=gpus), gpus))
    return makespans


def test_schedules_of_a_thousand_graphs_stay_within_grahams_bound(thousand):
    """The makespan is at most (2 - 1/m) times even the lower bound, max(longest chain, work / m), by Graham's proof."""
    for ours, _, bound, gpus in thousand:
        assert bound - 1e-9 <= ours <= (2 - 1 / gpus) * bound + 1e-9


def test_the_mean_makespan_is_near_the_lower_bound_and_below_first_come_first_served(thousand):
    """It is within 10 % of a bound for all schedules, and shorter than in the file's order."""
    ours = statistics.mean(makespan / bound for makespan, _, bound, _ in thousand)
    first_come = statistics.mean(makespan / bound for _, makespan, bound, _ in thousand)
    assert ours <= 1.10
    assert first_come - ours >= 0.02


def shortest(durations, parents, gpus):
    """Return the optimum by branch and bound over the orders in which trials start, each as early as possible."""
    names = list(durations)
    best = min(
        simulate(durations, waits_for(parents), gpus=gpus, order=order).makespan
        for order in ("longest path", "first come")
    )
    bound = lower_bound(durations, waits_for(parents), gpus=gpus)

    def extend(ends, free):
        nonlocal best
        if best <= bound or max(ends.values(), default=0.0) >= best:
            return
        if len(ends) == len(names):
            best = max(ends.values())
            return
        left = sum(durations[name] for name in names if name not in ends)
        if (sum(free) + left) / gpus >= best:
            return
        for name in names:
            parent = parents[name]
            if name in ends or (parent is not None and parent not in ends):
                continue
            ready = ends[parent] if parent is not None else 0.0
            start = max(min(free), ready)
            # Of the GPUs that are free in time, take the one freed last, so that the others stay free.
            place = max((index for index in range(gpus) if free[index] <= start), key=lambda index: free[index])
            taken = list(free)
            taken[place] = start + durations[name]
            extend({**ends, name: taken[place]}, taken)

    extend({}, [0.0] * gpus)
    return best


@pytest.mark.parametrize("seed", range(25))
def test_schedules_of_eight_trials_are_within_a_third_of_the_optimum(seed):
    """Branch and bound finds the shortest schedule; Graham's own bounds would be 3/2 and 5/3."""
    rng = random.Random(1000 + seed)
    gpus = rng.choice([2, 3])
    durations, parents = random_graph(rng, trials=8)
    ours = simulate(durations, waits_for(parents), gpus=gpus).makespan
    best = shortest(durations, parents, gpus)
    assert best - 1e-9 <= ours <= 4 / 3 * best


@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
def test_the_planned_sweep_is_near_optimal_and_never_worse_than_first_come_first_served(gpus):
    """Fine-tunes take a tenth; the order is that of the plan's table, where the general model comes last."""
    ours = simulate(PLANNED, waits_for(PARENTS), gpus=gpus).makespan
    first_come = simulate(PLANNED, waits_for(PARENTS), gpus=gpus, order="first come").makespan
    assert ours <= 1.05 * lower_bound(PLANNED, waits_for(PARENTS), gpus=gpus)
    assert ours <= first_come
