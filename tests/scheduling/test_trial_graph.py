"""Which trial may start when: the planned graph, with starts and ends reported in many orders."""

import random

import pytest

from raysweep.scheduling.records import State
from raysweep.scheduling.trial_graph import Node, TrialGraph


@pytest.fixture
def graph_of_six():
    return TrialGraph(
        [
            Node(name="A1", cost=11),
            Node(name="all", cost=15),
            Node(name="all-A1", cost=5, needs=("all",)),
            Node(name="all-B1", cost=3, needs=("all",)),
            Node(name="all-A1-B1", cost=2, needs=("all-A1",)),
            Node(name="B1", cost=7),
        ]
    )


def test_children_wait_and_the_longest_path_is_offered_first(graph_of_six):
    """The general model, which others wait for, is offered before longer trials that no other waits for."""
    assert graph_of_six.ready() == ["all", "A1", "B1"]


def test_children_of_a_finished_trial_are_ready_at_once(graph_of_six):
    """A child does not wait for its parent's siblings."""
    graph_of_six.start("A1")
    graph_of_six.start("all")
    graph_of_six.end("all", State.DONE)
    assert graph_of_six.ready() == ["all-A1", "B1", "all-B1"]


def test_children_of_a_failed_trial_are_blocked_and_others_go_on(graph_of_six):
    """One bad model costs only its own fine-tunes."""
    graph_of_six.start("all")
    blocked = graph_of_six.fail("all")
    assert list(blocked.items()) == [
        ("all-A1", "its parent all failed"),
        ("all-B1", "its parent all failed"),
        ("all-A1-B1", "its parent all-A1 is blocked"),
    ]
    assert graph_of_six.ready() == ["A1", "B1"]


def test_an_ordering_dependency_is_satisfied_by_a_failed_trial():
    """A round of a search waits for the round before, but continues even if a sample of it failed."""
    releases = TrialGraph([Node(name="first", cost=1), Node(name="second", cost=1, after=("first",))])
    assert releases.ready() == ["first"]
    releases.start("first")
    assert releases.fail("first") == {}
    assert releases.ready() == ["second"]


def test_a_parent_outside_the_sweep_counts_as_finished():
    """A later run is given only the remaining trials."""
    assert TrialGraph([Node(name="all-A1", cost=1, needs=("all",))]).ready() == ["all-A1"]


def naive_ready(graph, nodes):
    """Return what is ready, computed from the states alone."""
    ended = (State.DONE, State.FAILED, State.BLOCKED, State.STOPPED)
    ready = [
        node.name
        for node in nodes
        if graph.state(node.name) is State.PENDING
        and all(graph.state(name) is State.DONE for name in node.needs)
        and all(graph.state(name) in ended for name in node.after)
    ]

    def length(node):
        return node.cost + max(
            (length(dependent) for dependent in nodes if node.name in (*dependent.needs, *dependent.after)), default=0
        )

    lengths = {node.name: length(node) for node in nodes}
    return sorted(ready, key=lambda name: -lengths[name])


@pytest.mark.parametrize("seed", range(10))
def test_incremental_readiness_equals_a_full_recomputation(seed):
    """Starts, ends, failures, new attempts and waiting samples are compared with a computation from all states."""
    rng = random.Random(seed)
    names = [f"t{number}" for number in range(12)]
    nodes = []
    for number, name in enumerate(names):
        others = rng.sample(names[:number], k=min(number, rng.choice([0, 1, 2])))
        nodes.append(Node(name=name, cost=rng.randint(1, 4), needs=tuple(others[:1]), after=tuple(others[1:])))
    graph, paused = TrialGraph(nodes), []
    while not (graph.is_over and not paused):
        action = rng.choice(["start", "done", "fail", "again", "pause", "resume", "drop"])
        running, ready = graph.running(), graph.ready()
        if action == "start" and ready:
            graph.start(rng.choice(ready))
        elif action in ("resume", "drop") and paused:
            getattr(graph, action)(paused.pop())
        elif running and action in ("done", "fail", "again", "pause"):
            name = rng.choice(running)
            match action:
                case "done":
                    graph.end(name, State.DONE)
                case "fail":
                    graph.fail(name)
                case "again":
                    graph.end(name, State.PENDING)
                case "pause":
                    graph.pause(name)
                    paused.append(name)
        assert graph.ready() == [name for name in naive_ready(graph, nodes) if name not in paused]
        assert graph.running() == [name for name in names if graph.state(name) is State.RUNNING]


@pytest.mark.parametrize("seed", range(30))
def test_every_trial_ends_and_none_starts_before_its_parent_is_done(seed):
    """The graphs, the failures and the order of ends are random."""
    rng = random.Random(seed)
    names = [f"t{number}" for number in range(20)]
    needs = {
        name: tuple(rng.sample(names[:number], k=min(number, rng.choice([0, 1, 1, 2]))))
        for number, name in enumerate(names)
    }
    releases = TrialGraph([Node(name=name, cost=rng.random(), needs=needs[name]) for name in names])
    running = []
    while not releases.is_over:
        for name in releases.ready()[: rng.randint(0, 3) if running else 1]:
            assert all(releases.state(parent) is State.DONE for parent in needs[name])
            releases.start(name)
            running.append(name)
        ended = running.pop(rng.randrange(len(running)))
        if rng.random() < 0.2:
            releases.fail(ended)
        else:
            releases.end(ended, State.DONE)
    lost = (State.FAILED, State.BLOCKED)
    for name in names:
        is_blocked = any(releases.state(parent) in lost for parent in needs[name])
        assert (releases.state(name) is State.BLOCKED) == is_blocked
