"""Which targets are skipped, which are made, and when a run must stop and ask: tables of states."""

import itertools
from pathlib import Path

import pytest

from raysweep.config.fingerprints import fingerprint
from raysweep.errors import ChangedError
from raysweep.pipeline.stages import Recorded, Target, decide

IDENTITIES = {"B2": {"steps": 400}, "all": {"steps": 400}, "all-B2": {"steps": 40, "parent": "p1"}}


NOTHING: dict[str, str] = {}


def target(name, *, is_done=True, made_from=None, is_recorded=True, made_from_then=NOTHING, made_from_now=NOTHING):
    recorded = made_from or IDENTITIES[name]
    return Target(
        name=name,
        identity=IDENTITIES[name],
        record=Recorded(fingerprint(recorded), recorded, made_from_then, {}) if is_recorded else None,
        made_from=made_from_now,
        root=Path(),
        is_done=is_done and is_recorded,
        kind="trial",
        rests_on=("all",) if name == "all-B2" else (),
    )


def targets(**changed):
    """Return three targets, all done with the same identity except those given by keyword ('_' for '-')."""
    return [changed.get(name.replace("-", "_"), target(name)) for name in IDENTITIES]


def names(decided):
    return [decision.name for decision in decided]


def test_a_finished_target_with_the_same_fingerprint_is_skipped():
    """Running twice does nothing the second time."""
    decisions = decide(targets(), may_change=False)
    assert decisions.todo == ()
    assert names(decisions.skip) == ["B2", "all", "all-B2"]


def test_a_target_whose_input_was_remade_is_remade():
    """The user changed no setting, but the examples are different ones now."""
    decisions = decide(
        targets(B2=target("B2", made_from_then={"examples": "1"}, made_from_now={"examples": "2"})), may_change=False
    )
    assert names(decisions.todo) == ["B2"]
    assert decisions.fresh == {"B2"}
    assert decisions.reasons == {"B2": "its examples changed since it was made"}


def test_an_unfinished_target_is_resumed():
    """After a crash, a fixed bug or an interruption the same command continues from the checkpoints."""
    decisions = decide(targets(B2=target("B2", is_done=False)), may_change=False)
    assert names(decisions.todo) == ["B2"]
    assert decisions.fresh == set()


def test_a_changed_fingerprint_stops_the_run_and_names_the_fields():
    """Hours of training are not thrown away because of a typing error."""
    changed = targets(all_B2=target("all-B2", made_from={"steps": 20, "parent": "p1"}))
    with pytest.raises(ChangedError) as caught:
        decide(changed, may_change=False)
    assert str(caught.value) == (
        "trial 'all-B2': its config differs from the one that built it (steps: 20 → 40). "
        "Use --force all-B2, or give it a new name"
    )


def test_a_changed_fingerprint_of_an_unfinished_target_stops_the_run():
    """Its checkpoints are hours of work as well."""
    with pytest.raises(ChangedError, match="trial 'B2'"):
        decide(targets(B2=target("B2", is_done=False, made_from={"steps": 1})), may_change=False)


def test_a_changed_cheap_target_is_remade_with_its_dependants():
    """Scores and report are made again without asking."""
    decisions = decide(targets(all=target("all", made_from={"steps": 300})))
    assert names(decisions.todo) == ["all", "all-B2"]
    assert decisions.fresh == {"all", "all-B2"}


def test_a_child_changed_only_through_its_parent_is_not_listed_separately():
    """One change gives one line; forcing the parent redoes the child."""
    changed = targets(
        all=target("all", made_from={"steps": 300}), all_B2=target("all-B2", made_from={"steps": 40, "parent": "p0"})
    )
    with pytest.raises(ChangedError) as caught:
        decide(changed, may_change=False)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["trial 'all'"]


def test_a_forced_target_is_remade_with_its_dependants():
    """A fine-tune of another model is a different fine-tune; its siblings are kept."""
    decisions = decide(targets(all=target("all", made_from={"steps": 300})), forced=["all"], may_change=False)
    assert names(decisions.todo) == ["all", "all-B2"]
    assert decisions.fresh == {"all", "all-B2"}
    assert names(decisions.skip) == ["B2"]


def test_a_finished_target_is_remade_if_its_input_was_lost():
    """A lost record costs work, but never leaves a model that started from a parent other than the one in place."""
    decisions = decide(targets(all=target("all", is_recorded=False)), may_change=False)
    assert names(decisions.todo) == ["all", "all-B2"]
    assert decisions.fresh == {"all-B2"}


STATES = {
    "done": {},
    "begun": {"is_done": False},
    "absent": {"is_recorded": False},
    "changed": {"made_from": {"steps": 1, "parent": "p9"}},
}


@pytest.mark.parametrize("forced", [set(), {"all"}, {"B2"}, {"all-B2"}])
def test_every_combination_of_states_satisfies_the_invariants(forced):
    """Each target is in one list; only done ones are skipped, and never if what they rest on is made."""
    for states in itertools.product(STATES, repeat=3):
        targets_of_case = [target(name, **STATES[state]) for name, state in zip(IDENTITIES, states, strict=True)]
        decisions = decide(targets_of_case, forced=forced)
        skip, todo = set(names(decisions.skip)), set(names(decisions.todo))
        assert skip | todo == set(IDENTITIES)
        assert not skip & todo
        assert forced <= todo
        assert decisions.fresh <= todo
        for made in decisions.skip:
            assert made.is_done
            assert not made.is_changed
            assert not todo.intersection(made.rests_on)
