"""`trials.plan` says in three lines what eleven trials are; single trials are changed, added and dropped beside it."""

from pathlib import Path

import pytest
import yaml

from raysweep.config.fingerprints import fingerprint
from raysweep.config.loading import dump_config, load_config, parse_config
from raysweep.errors import ConfigError
from raysweep.scheduling.trials import expand_trials, training_settings

ROOT = Path(__file__).parents[2]
LISTED = {
    "local": """
A1: {levels: [A1], steps: 150}
A2: {levels: [A2], steps: 150}
B1: {levels: [B1], steps: 150}
B2: {levels: [B2], steps: 150}
C1: {levels: [C1], steps: 150}
all: {levels: [A1, A2, B1, B2, C1], steps: 150}
all-A1: {from: all, levels: [A1], steps: 10}
all-A2: {from: all, levels: [A2], steps: 10}
all-B1: {from: all, levels: [B1], steps: 10}
all-B2: {from: all, levels: [B2], steps: 10}
all-C1: {from: all, levels: [C1], steps: 10}
""",
    "efcamdat": """
C1: {levels: [C1], steps: 10000}
B2: {levels: [B2], steps: 20000}
B1: {levels: [B1], steps: 30000}
A2: {levels: [A2], steps: 40000}
A1: {levels: [A1], steps: 50000}
all: {levels: [A1, A2, B1, B2, C1], steps: 60000}
all-C1: {from: all, levels: [C1], steps: 1000}
all-B2: {from: all, levels: [B2], steps: 2000}
all-B1: {from: all, levels: [B1], steps: 3000}
all-A2: {from: all, levels: [A2], steps: 4000}
all-A1: {from: all, levels: [A1], steps: 5000}
""",
}
"""The shipped profiles' trials, one by one."""
PLAN = {"specialised": {"steps": 50}, "general": {"steps": 100}, "transfer": {"steps": 10}}


def planned(*, data=None, plan=None, set_paths=(), **trials):
    return parse_config({"data": data or {}, "trials": {"plan": plan or PLAN, **trials}}, set_paths=set_paths)


def problems_of(**values):
    with pytest.raises(ConfigError) as caught:
        planned(**values)
    return list(caught.value.problems)


@pytest.mark.parametrize("profile", LISTED)
def test_the_shipped_plans_keep_their_trial_names_and_fingerprints(profile):
    """Whoever has trained them one by one need not train them again: same names, same fingerprints."""
    values = yaml.safe_load((ROOT / "experiments.yaml").read_text(encoding="utf-8").replace("4e-3", "0.004"))
    values = values["profiles"][profile]
    values["training"]["learning_rate"] = float(values["training"]["learning_rate"])
    listed = parse_config({**values, "trials": yaml.safe_load(LISTED[profile])})
    _, config = load_config(ROOT / "experiments.yaml", profile)
    assert config == listed
    before, now = expand_trials(listed), expand_trials(config)
    assert {name: fingerprint(training_settings(trial)) for name, trial in now.items()} == {
        name: fingerprint(training_settings(trial)) for name, trial in before.items()
    }
    assert {name: trial.parent for name, trial in now.items()} == {name: trial.parent for name, trial in before.items()}


def test_the_plan_follows_the_levels_of_the_corpus():
    """Other levels need one setting, not eleven trials."""
    config = planned(data={"levels": ["low", "mid", "high"]})
    assert list(config.trials) == ["low", "mid", "high", "all", "all-low", "all-mid", "all-high"]
    assert config.trials["all"].levels == ("low", "mid", "high")
    assert (config.trials["all-mid"].parent, config.trials["all-mid"].levels) == ("all", ("mid",))
    assert [config.trials[name].steps for name in ("low", "all", "all-low")] == [50, 100, 10]


def test_plan_trials_inherit_from_plan_and_plan_from_training():
    """The more specific setting takes precedence."""
    values = {
        "training": {"batch_size": 4, "learning_rate": 0.1},
        "trials": {"plan": {**PLAN, "transfer": {"steps": 10, "batch_size": 2}}, "all-A1": {"learning_rate": 0.5}},
    }
    trials = parse_config(values).trials
    assert (trials["A1"].batch_size, trials["A1"].learning_rate) == (4, 0.1)
    assert (trials["all-A2"].batch_size, trials["all-A2"].learning_rate) == (2, 0.1)
    assert (trials["all-A1"].batch_size, trials["all-A1"].learning_rate, trials["all-A1"].steps) == (2, 0.5, 10)


def test_entries_beside_the_plan_change_add_and_drop_trials():
    """Only the differences are written."""
    config = planned(A1={"steps": 7}, B2=None, extra={"levels": ["A1", "A2"], "steps": 3})
    assert (config.trials["A1"].steps, config.trials["A1"].levels) == (7, ("A1",))
    assert "B2" not in config.trials
    assert "all-B2" in config.trials
    assert list(config.trials)[-1] == "extra"


@pytest.mark.parametrize("profile", LISTED)
def test_set_changes_and_drops_trials_of_the_shipped_config(profile):
    """The command line accepts the same as the file."""
    overrides = ["trials.A1=null", "trials.all-A2.steps=6", "trials.plan.specialised.batch_size=2"]
    _, config = load_config(ROOT / "experiments.yaml", profile, overrides)
    assert len(config.trials) == 10
    assert config.trials["all-A2"].steps == 6
    assert (config.trials["A2"].batch_size, config.trials["all"].batch_size) == (2, 8)


def test_set_drops_a_trial_of_a_list(tmp_path):
    """A list is written out, but on the command line a trial is dropped in the same words."""
    file = tmp_path / "e.yaml"
    file.write_text("default: a\nprofiles: {a: {trials: {A1: {levels: [A1]}, A2: {levels: [A2]}}}}")
    _, config = load_config(file, None, ["trials.A1=null"])
    assert list(config.trials) == ["A2"]


def test_dropping_an_unknown_trial_is_refused(tmp_path):
    """A name that is misspelt would drop nothing, and nobody would be told."""
    file = tmp_path / "e.yaml"
    file.write_text("default: a\nprofiles: {a: {trials: {A1: {levels: [A1]}, A2: {levels: [A2]}}}}")
    with pytest.raises(ConfigError) as caught:
        load_config(file, None, ["trials.A11=null"])
    message = "--set trials.A11=null: null drops a trial, and there is no 'A11'; did you mean 'A1'?"
    assert str(caught.value) == message


def test_an_empty_entry_of_a_trial_list_is_refused():
    """Only an explicit null drops a trial of a plan."""
    with pytest.raises(ConfigError, match=r"trials\.A1: found null; must be a mapping"):
        parse_config({"trials": {"A1": None, "A2": {"levels": ["A2"]}}})


def test_controls_and_seeds_apply_to_plan_trials():
    """They are settings of trials like any other."""
    plan = {**PLAN, "specialised": {"steps": 50, "seeds": [0, 1]}}
    config = parse_config({"trials": {"plan": plan}, "controls": {"placebo": True}})
    names = list(expand_trials(config))
    assert {"A1-seed0", "A1-seed1", "control-placebo-A1-seed1", "all"} <= {*names}


def test_the_resolved_config_lists_trials_instead_of_the_plan():
    """config.yaml in the run folder needs no plan, and reads back as itself."""
    config = planned(A1={"steps": 7})
    assert parse_config(yaml.safe_load(dump_config(config))) == config


def test_sample_settings_are_ignored_if_a_corpus_is_given():
    """The default profile's sample has its own levels; they need not be those of the user's corpus."""
    levels, sample = ["low", "high"], {"level_shares": {"A1": 1, "B2": 1}}
    assert planned(data={"csv": "texts.csv", "levels": levels, "sample": sample}).data.levels == ("low", "high")
    assert problems_of(data={"levels": levels, "sample": sample}) == [
        "config: data.sample.level_shares.A1: no such level in data.levels",
        "config: data.sample.level_shares.B2: no such level in data.levels",
    ]


WRONG = {
    "unknown part": (
        {"plan": {"specialized": {"steps": 5}}},
        ["config: trials.plan: unknown field 'specialized'; did you mean 'specialised'?"],
    ),
    "unknown setting": (
        {"plan": {**PLAN, "general": {"step": 5}}},
        ["config: trials.plan.general: unknown field 'step'; did you mean 'steps'?"],
    ),
    "wrong value": (
        {"plan": {**PLAN, "general": {"steps": 0}}},
        ["config: trials.plan.general.steps: found 0; must be at least 1 (optimiser steps)"],
    ),
    "wrong steps": (
        {"plan": {**PLAN, "specialised": {"steps": "many"}}},
        [
            "config: trials.plan.specialised.steps: found 'many'; must be a whole number or a mapping "
            "(optimiser steps; a number for all levels, or one for each, such as {A1: 5000, A2: 4000})"
        ],
    ),
    "steps of some levels": (
        {"plan": {"specialised": {"steps": {"A1": 5, "A2": 5}}}, "data": {"levels": ["A1", "A2", "C2"]}},
        ["config: trials.plan.specialised.steps: no steps for level C2; add them, or give one number for all levels"],
    ),
    "no plan": (
        {"plan": [1]},
        ["config: trials.plan: found [1]; must be a mapping"],
    ),
    "empty": (
        {"plan": {"general": None}},
        [
            'config: trials.plan: found {"general": null}; must have specialised, general or transfer',
        ],
    ),
    "nothing to start from": (
        {"all": None},
        [
            "config: trials.plan.transfer: needs the trial 'all' to start from; "
            "give trials.plan.general, or set trials.plan.transfer to null"
        ],
    ),
    "one level": (
        {"data": {"levels": ["A1"]}},
        ["config: trials.plan: compares levels, and data.levels has only A1; list at least two"],
    ),
    "a level named as a trial": (
        {"data": {"levels": ["A1", "all"]}},
        [
            "config: data.levels: the level 'all' gives the name of another trial of the plan; "
            "give it another name in data.level_aliases"
        ],
    ),
    "misspelt": (
        {"A11": {"steps": 5}},
        ["config: trials.A11: must give its levels, since the plan has no 'A11'; did you mean 'A1'?"],
    ),
    "misspelt drop": (
        {"A11": None},
        ["config: trials.A11: null drops a trial of the plan, which has no 'A11'; did you mean 'A1'?"],
    ),
    "wrong levels": (
        {"data": {"levels": "A1"}},
        ["config: data.levels: found 'A1'; must be a list (known levels, lowest first)"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_plan_is_reported_once_at_its_place(case):
    """It is not reported again for each trial that the plan gives."""
    values, expected = WRONG[case]
    assert problems_of(**values) == expected


def test_steps_for_levels_outside_the_corpus_are_accepted():
    """The profile's table of steps serves a corpus with fewer levels."""
    config = planned(data={"levels": ["A1", "A2"]}, plan={"specialised": {"steps": {"A1": 5, "A2": 4, "B1": 3}}})
    assert {name: trial.steps for name, trial in config.trials.items()} == {"A1": 5, "A2": 4}


def test_a_level_missing_from_the_step_table_may_set_its_own_steps():
    """The table of steps is optional."""
    plan = {"specialised": {"steps": {"A1": 5, "A2": 4}}}
    config = planned(data={"levels": ["A1", "A2", "C2"]}, plan=plan, C2={"steps": 9})
    assert config.trials["C2"].steps == 9
