"""How a running training is asked to stop, and how that affects other trainings."""

from raysweep.scheduling.records import State
from raysweep.scheduling.stop_requests import LOOK_EVERY_S, StopWatch, forget_stop, request_stop, requested_stop
from raysweep.scheduling.trial_graph import Node, TrialGraph
from raysweep.storage.run_folder import TrialFolder


def test_a_stop_request_reaches_the_training_with_its_reason(tmp_path):
    """The request is a file, which the training finds between two steps."""
    folder, now = TrialFolder(tmp_path / "A1"), [0.0]
    should_stop = StopWatch(folder, clock=lambda: now[0])
    assert should_stop() is None
    request_stop(folder, "budget: 10 of 10 GPU hours are used")
    assert should_stop() is None, "looked at most twice a second"
    now[0] += LOOK_EVERY_S
    assert should_stop() == "budget: 10 of 10 GPU hours are used"


def test_a_new_attempt_ignores_the_old_stop_request(tmp_path):
    """Otherwise the same command could never continue."""
    folder = TrialFolder(tmp_path / "A1")
    forget_stop(folder)
    request_stop(folder, "interrupted")
    forget_stop(folder)
    assert requested_stop(folder) is None


def test_after_a_halt_nothing_starts_and_the_sweep_ends_with_the_running_trials():
    """A stopped trial's child is not blocked: a later run continues with both."""
    releases = TrialGraph(
        [Node(name="all", cost=2), Node(name="all-A1", cost=1, needs=("all",)), Node(name="B1", cost=1)]
    )
    releases.start("all")
    releases.halt()
    assert releases.ready() == []
    assert not releases.is_over
    releases.end("all", State.STOPPED)
    assert releases.is_over
    assert [releases.state(name) for name in ("all", "all-A1", "B1")] == [State.STOPPED, State.PENDING, State.PENDING]


def test_a_sweep_ends_if_only_children_of_a_stopped_trial_remain():
    """Otherwise the sweep would wait for ever."""
    releases = TrialGraph([Node(name="all", cost=2), Node(name="all-A1", cost=1, needs=("all",))])
    releases.start("all")
    releases.end("all", State.STOPPED)
    assert releases.is_over
