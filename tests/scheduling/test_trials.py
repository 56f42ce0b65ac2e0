"""From the entries of `trials:` to trainings with parents, seeds and roles."""

from raysweep.config.loading import parse_config
from raysweep.scheduling.trials import expand_trials, find_roles, remaining_trials, training_settings

LEVELS = ("A1", "B1")


def trials_of(entries):
    return expand_trials(parse_config({"data": {"levels": list(LEVELS)}, "trials": entries}))


def test_parents_are_listed_before_children():
    """Code that iterates over the trials in order can rely on it."""
    names = list(trials_of({"x": {"from": "all", "levels": ["A1"]}, "all": {"levels": ["A1", "B1"]}}))
    assert names == ["all", "x"]


def test_every_seed_is_a_trial_that_starts_from_its_parents_same_seed():
    """Seeds are independent repetitions from start to end."""
    trials = trials_of(
        {
            "all": {"levels": ["A1", "B1"], "seeds": [0, 1]},
            "all-A1": {"from": "all", "levels": ["A1"], "seeds": [0, 1]},
        }
    )
    assert {name: trial.parent for name, trial in trials.items()} == {
        "all-seed0": None,
        "all-seed1": None,
        "all-A1-seed0": "all-seed0",
        "all-A1-seed1": "all-seed1",
    }


def test_profile_wide_seeds_train_every_trial_and_keep_the_name_of_the_first():
    """A run with one seed keeps its models when two more are added; an entry's own seeds do not change."""
    entries = {
        "A1": {"levels": ["A1"]},
        "B1": {"levels": ["B1"], "seeds": [7]},
        "all": {"levels": ["A1", "B1"]},
        "all-A1": {"from": "all", "levels": ["A1"]},
    }
    values = {"data": {"levels": list(LEVELS)}, "trials": entries}
    single_seed, three_seeds = (expand_trials(parse_config({**values, **more})) for more in ({}, {"seeds": 3}))
    assert set(single_seed) == {"A1", "B1", "all", "all-A1"}
    assert set(three_seeds) - set(single_seed) == {
        f"{name}-seed{seed}" for name in ("A1", "all", "all-A1") for seed in (1, 2)
    }
    assert {name: training_settings(three_seeds[name]) for name in single_seed} == {
        name: training_settings(trial) for name, trial in single_seed.items()
    }
    assert three_seeds["all-A1-seed2"].parent == "all-seed2"
    assert [trial.seed for trial in three_seeds.values() if trial.entry == "A1"] == [0, 1, 2]


def test_a_child_with_more_seeds_than_its_parent_starts_from_the_parents_first_seed():
    """Three fine-tunes of one general model are a valid plan."""
    trials = trials_of({"all": {"levels": ["A1"]}, "x": {"from": "all", "levels": ["A1"], "seeds": [7, 8]}})
    assert trials["x-seed7"].parent == trials["x-seed8"].parent == "all"


def test_roles_are_derived_from_levels_and_parents():
    """The config does not have to say which model is the general one."""
    trials = trials_of(
        {
            "A1": {"levels": ["A1"]},
            "B1": {"levels": ["B1"]},
            "all": {"levels": ["B1", "A1"]},
            "all-A1": {"from": "all", "levels": ["A1"]},
            "all-A1-again": {"from": "all-A1", "levels": ["A1"]},
        }
    )
    roles = find_roles(trials, LEVELS)
    assert roles.general == ("all",)
    assert roles.specialised == {"A1": ("A1",), "B1": ("B1",)}
    assert roles.transfer == {"A1": ("all-A1",)}


def test_descendants_of_a_forced_trial_are_retrained():
    """This holds over generations; other finished trials are kept."""
    trials = trials_of(
        {
            "a": {"levels": ["A1"]},
            "b": {"from": "a", "levels": ["A1"]},
            "c": {"from": "b", "levels": ["A1"]},
            "d": {"levels": ["A1"]},
        }
    )
    assert list(remaining_trials(trials, ["a", "b", "c", "d"], ["a"])) == ["a", "b", "c"]
    assert list(remaining_trials(trials, ["a", "c", "d"])) == ["b", "c"]
    assert remaining_trials(trials, list(trials)) == {}
