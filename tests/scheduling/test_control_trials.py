"""Control trials have the level's settings but other documents, and do not affect the config's own trials."""

import pytest

from raysweep.config.loading import parse_config
from raysweep.config.section import NAME
from raysweep.errors import ConfigError
from raysweep.pipeline.identities import trial_identities
from raysweep.scheduling.trials import expand_trials, find_roles

TRIALS = {
    "A1": {"levels": ["A1"], "steps": 40, "learning_rate": 1e-3},
    "B1": {"levels": ["B1"], "steps": 60, "seeds": [0, 1]},
    "all": {"levels": ["A1", "B1"], "steps": 200, "batch_size": 16},
    "all-A1": {"from": "all", "levels": ["A1"], "steps": 10},
}


def config_of(trials=None, **controls):
    values = {"seed": 3, "data": {"levels": ["A1", "B1"]}, "trials": trials or TRIALS}
    return parse_config({**values, "controls": controls} if controls else values)


def test_trials_without_controls_keep_their_fingerprints():
    """Users pay only for what they asked for, and no finished training is repeated."""
    plain, off = config_of(), config_of(size_matched=False, step_matched=False, placebo=False)
    assert expand_trials(plain) == expand_trials(off)
    identities, prints = trial_identities(plain, expand_trials(plain))
    assert all("documents" not in identity for identity in identities.values())
    asked = config_of(size_matched=True, step_matched=True, placebo=True)
    with_controls = trial_identities(asked, expand_trials(asked))[1]
    assert {name: with_controls[name] for name in prints} == prints


def test_every_level_and_seed_gets_each_configured_control():
    """Names are folder names that describe the control."""
    trials = expand_trials(config_of(size_matched=True, step_matched=True, placebo=True, placebo_draws=1))
    names = [name for name in trials if trials[name].control]
    assert names == [
        "control-size-A1",
        "control-size-B1-seed0",
        "control-size-B1-seed1",
        "control-steps-A1",
        "control-steps-B1-seed0",
        "control-steps-B1-seed1",
        "control-placebo-A1",
        "control-placebo-B1-seed0",
        "control-placebo-B1-seed1",
    ]
    assert all(NAME.match(name) for name in names)
    assert list(trials)[-9:] == names
    only = expand_trials(config_of(placebo=True, placebo_draws=1))
    assert [name for name in only if name.startswith("control")] == names[-3:]


def test_a_placebo_is_drawn_several_times():
    """The first draw keeps its name and group; three draws show how much results vary by chance."""
    single_draw, three_draws = (expand_trials(config_of(placebo=True, **more)) for more in ({"placebo_draws": 1}, {}))
    assert {name: trial for name, trial in three_draws.items() if name in single_draw} == single_draw
    assert sorted(set(three_draws) - set(single_draw)) == [
        f"control-placebo-{draw}-{entry}" for draw in (2, 3) for entry in ("A1", "B1-seed0", "B1-seed1")
    ]
    groups = {
        trial.settings.documents.seed for name, trial in three_draws.items() if name.endswith("A1") and trial.control
    }
    assert groups == {3, 4, 5}


def test_compute_and_exposure_controls_see_as_many_examples_as_all_level_models():
    """A1 sees 40 × 8 examples and B1 60 × 8, so with batches of 16 a general model takes 50 steps for as many."""
    trials = expand_trials(config_of(compute_matched=True, exposure_matched=True))
    compute, exposure = trials["control-compute"], trials["control-exposure"]
    general = trials["all"].settings
    assert (compute.control.level, compute.settings.steps, exposure.settings.steps) == (None, 50, 50)
    assert compute.settings == general.model_copy(update={"steps": 50})
    assert exposure.settings.examples_per_level == {"A1": 320, "B1": 480}
    assert find_roles(trials, ("A1", "B1")).general == ("all",)


def test_a_control_copies_its_levels_settings_except_the_documents():
    """Differences between the two can then only come from the documents."""
    trials = expand_trials(config_of(size_matched=True, step_matched=True, placebo=True))
    own = trials["A1"].settings.model_dump(exclude={"levels", "documents"})
    for kind in ("size", "steps", "placebo"):
        control = trials[f"control-{kind}-A1"]
        assert control.settings.model_dump(exclude={"levels", "documents"}) == own
        assert control.settings.levels == ("A1", "B1")
        assert control.parent is None
    size, placebo = (trials[f"control-{kind}-A1"].settings.documents for kind in ("size", "placebo"))
    assert trials["control-steps-A1"].settings.documents is None
    assert (size.size_of, size.disjoint, size.seed) == ("A1", False, 3)
    assert (placebo.size_of, placebo.disjoint, placebo.seed) == ("A1", True, 3)


def test_controls_have_no_other_role():
    """`control-steps-A1` sees all levels and starts from scratch, but is not the general model."""
    config = config_of(size_matched=True, step_matched=True, placebo=True)
    roles, without = (find_roles(expand_trials(settings), ("A1", "B1")) for settings in (config, config_of()))
    assert roles.general == without.general == ("all",)
    assert roles.specialised == without.specialised
    assert roles.transfer == without.transfer


def test_a_trial_on_a_subset_of_documents_is_neither_general_nor_specialised():
    """It has seen less than all documents of its levels."""
    part = {"levels": ["A1", "B1"], "documents": {"size_of": "A1"}}
    roles = find_roles(expand_trials(config_of({"part": part, **TRIALS})), ("A1", "B1"))
    assert roles.general == ("all",)
    with pytest.raises(ConfigError, match=r"documents\.size_of: found 'B1'; must be one of the trial's levels \(A1\)"):
        config_of({"x": {"levels": ["A1"], "documents": {"size_of": "B1"}}})


def test_controls_without_a_model_to_control_are_refused():
    """A gain needs a general model and a level's model."""
    with pytest.raises(ConfigError, match=r"controls\.placebo: needs a trial on all levels and one on a single level"):
        config_of({"A1": {"levels": ["A1"]}}, placebo=True)


def test_a_trial_with_a_controls_name_is_refused():
    """Otherwise both would have the same folder."""
    with pytest.raises(ConfigError, match=r"trials\.control-size-A1: the name is raysweep's own"):
        config_of({**TRIALS, "control-size-A1": {"levels": ["A1"]}})
    with pytest.raises(ConfigError, match=r"trials\.control-compute: the name is raysweep's own"):
        config_of({**TRIALS, "control-compute": {"levels": ["A1"]}})


def test_examples_of_a_level_outside_the_trials_levels_are_refused():
    """They could never be drawn."""
    with pytest.raises(ConfigError, match=r"examples_per_level: found 'B1'; must be one of the trial's levels \(A1\)"):
        config_of({"x": {"levels": ["A1"], "examples_per_level": {"B1": 5}}})
