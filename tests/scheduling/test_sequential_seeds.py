"""Which seeds are trained: the first two of everything, and then those that open claims need."""

import random

import pytest

from raysweep.config.schema import Config
from raysweep.scheduling.sequential_seeds import OpenClaim, release_seeds
from raysweep.scheduling.trials import expand_trials

LEVELS = ("A1", "B1")
ENTRIES = {
    "A1": {"levels": ("A1",)},
    "B1": {"levels": ("B1",)},
    "all": {"levels": LEVELS},
    "all-A1": {"levels": ("A1",), "from": "all"},
    "all-B1": {"levels": ("B1",), "from": "all"},
}
H1_ON_A1 = OpenClaim(roles=("general", "specialised"), levels=("A1",))
EVERYTHING = OpenClaim(roles=("general", "specialised", "transfer"), levels=LEVELS)


def make_config(entries=ENTRIES, **values):
    sections = {"data": {"levels": LEVELS}, "seeds": {"max": 4, "stop": "sequential"}}
    return Config.model_validate({"trials": entries, **sections, **values})


def released(config, claims=(), done=()):
    return set(release_seeds(config, expand_trials(config), claims, done))


def seeds(*names, of):
    return {name if seed == 0 else f"{name}-seed{seed}" for name in names for seed in of}


def test_the_first_two_seeds_of_every_trial_are_released_at_once():
    """One seed does not show how trainings vary, so there is nothing to test before the second."""
    assert released(make_config()) == seeds(*ENTRIES, of=(0, 1))


def test_fixed_seeds_are_all_released():
    config = make_config(seeds=3)
    assert released(config) == set(expand_trials(config))


def test_an_open_claim_releases_the_next_seed_of_the_models_it_compares():
    """Other levels, and the fine-tuned models that it does not compare, get none."""
    done = seeds(*ENTRIES, of=(0, 1))
    assert released(make_config(), [H1_ON_A1], done) - done == seeds("A1", "all", of=(2,))
    assert released(make_config(), [], done) == done


def test_a_claim_with_fewer_seeds_releases_only_the_missing_ones():
    """The general model has one seed more, for another level's claim."""
    done = seeds(*ENTRIES, of=(0, 1)) | seeds("all", "B1", "all-B1", of=(2,))
    assert released(make_config(), [H1_ON_A1], done) - done == seeds("A1", of=(2,))


def test_the_next_seed_waits_for_a_failed_one():
    """The next seed does not start before it is done."""
    done = seeds(*ENTRIES, of=(0, 1)) - {"A1-seed1"}
    assert released(make_config(), [EVERYTHING], done) == seeds(*ENTRIES, of=(0, 1))


def test_no_seed_is_released_after_the_last_one():
    done = seeds(*ENTRIES, of=range(4))
    assert released(make_config(), [EVERYTHING], done) == done


def test_a_fine_tune_is_released_with_its_parent():
    done = seeds(*ENTRIES, of=(0, 1))
    claim = OpenClaim(roles=("transfer", "specialised"), levels=("A1",))
    assert released(make_config(), [claim], done) - done == seeds("A1", "all-A1", "all", of=(2,))


def test_trials_with_seeds_of_their_own_are_released_at_once():
    config = make_config({**ENTRIES, "B1": {"levels": ("B1",), "seeds": (0, 5, 6)}})
    assert {"B1-seed0", "B1-seed5", "B1-seed6"} <= released(config)


def test_a_control_is_released_with_the_model_that_it_copies():
    config = make_config(controls={"size_matched": True, "compute_matched": True})
    first = released(config)
    assert {"control-size-A1-seed1", "control-compute-seed1"} <= first
    more = released(config, [H1_ON_A1], first) - first
    assert more == {"A1-seed2", "all-seed2", "control-size-A1-seed2", "control-compute-seed2"}


@pytest.mark.parametrize("seed", range(5))
def test_released_seeds_do_not_depend_on_the_order_of_completion(seed):
    """Released trials depend only on what is done, and no release is ever undone."""
    rng = random.Random(seed)
    config = make_config()
    names = list(expand_trials(config))
    done = rng.sample(names, rng.randrange(len(names)))
    shuffled = rng.sample(done, len(done))
    assert release_seeds(config, expand_trials(config), [H1_ON_A1], done) == release_seeds(
        config, expand_trials(config), [H1_ON_A1], shuffled
    )
    assert set(done) <= released(config, [H1_ON_A1], done)
