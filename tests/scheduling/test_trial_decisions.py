"""Which trials are done, which are to do, and when a run must stop and ask: tables of states."""

import pytest

from raysweep.config.fingerprints import fingerprint
from raysweep.config.loading import parse_config
from raysweep.errors import ChangedError
from raysweep.scheduling.records import State, TrialRecord
from raysweep.scheduling.trial_decisions import decide
from raysweep.scheduling.trials import expand_trials


@pytest.fixture
def trials():
    entries = {
        "B2": {"levels": ["B2"]},
        "all": {"levels": ["A1", "B2"]},
        "all-B2": {"from": "all", "levels": ["B2"]},
    }
    return expand_trials(parse_config({"data": {"levels": ["A1", "B2"]}, "trials": entries}))


IDENTITIES = {"B2": {"steps": 400}, "all": {"steps": 400}, "all-B2": {"steps": 40, "parent": "p1"}}
PRINTS = {name: fingerprint(identity) for name, identity in IDENTITIES.items()}


def record(trial, state=State.DONE, identity=None):
    identity = identity or IDENTITIES[trial]
    return TrialRecord(trial=trial, state=state, fingerprint=fingerprint(identity), identity=identity)


def all_done():
    return {name: record(name) for name in IDENTITIES}


def test_what_is_done_with_the_same_config_is_skipped(trials):
    """Running twice does nothing the second time."""
    decisions = decide(trials, all_done(), IDENTITIES, PRINTS)
    assert decisions.todo == ()
    assert decisions.skip == ("B2", "all", "all-B2")


@pytest.mark.parametrize("state", [State.RUNNING, State.FAILED, State.BLOCKED, State.STOPPED, State.PENDING])
def test_what_is_not_done_is_tried_again(trials, state):
    """After a crash, a mended bug or an interruption the same command goes on."""
    decisions = decide(trials, {**all_done(), "B2": record("B2", state)}, IDENTITIES, PRINTS)
    assert decisions.todo == ("B2",)
    assert decisions.fresh == ()


def test_a_changed_config_stops_and_names_the_fields(trials):
    """Hours of training are not thrown away for a typing error."""
    changed = {**all_done(), "all-B2": record("all-B2", identity={"steps": 20, "parent": "p1"})}
    with pytest.raises(ChangedError) as caught:
        decide(trials, changed, IDENTITIES, PRINTS)
    assert str(caught.value) == (
        "trial 'all-B2': its config differs from the one that built it (steps: 20 → 40). "
        "Use --force all-B2, or give it a new name"
    )


def test_a_child_that_changed_only_with_its_parent_is_not_named_beside_it(trials):
    """One change, one line; forcing the parent redoes the child."""
    changed = {
        **all_done(),
        "all": record("all", identity={"steps": 300}),
        "all-B2": record("all-B2", identity={"steps": 40, "parent": "p0"}),
    }
    with pytest.raises(ChangedError) as caught:
        decide(trials, changed, IDENTITIES, PRINTS)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["trial 'all'"]


def test_a_forced_trial_is_done_again_with_what_starts_from_it(trials):
    """A fine-tune of another model is another fine-tune; its siblings stay."""
    changed = {**all_done(), "all": record("all", identity={"steps": 300})}
    decisions = decide(trials, changed, IDENTITIES, PRINTS, forced=["all"])
    assert decisions.todo == decisions.fresh == ("all", "all-B2")
    assert decisions.skip == ("B2",)
