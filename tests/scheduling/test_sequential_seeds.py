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


def test_the_first_two_seeds_of_everything_are_trained_at_once():
    """One seed does not show how trainings vary, so there is nothing to test before the second."""
    assert released(make_config()) == seeds(*ENTRIES, of=(0, 1))


def test_where_seeds_are_fixed_everything_is_trained():
    config = make_config(seeds=3)
    assert released(config) == set(expand_trials(config))


def test_an_open_claim_gets_the_next_seed_of_what_it_compares():
    """Other levels, and the fine-tuned models that it does not compare, get none."""
    done = seeds(*ENTRIES, of=(0, 1))
    assert released(make_config(), [H1_ON_A1], done) - done == seeds("A1", "all", of=(2,))
    assert released(make_config(), [], done) == done


def test_a_claim_that_falls_behind_trains_what_it_lacks_and_no_further():
    """The general model has one seed more, for another level's claim."""
    done = seeds(*ENTRIES, of=(0, 1)) | seeds("all", "B1", "all-B1", of=(2,))
    assert released(make_config(), [H1_ON_A1], done) - done == seeds("A1", of=(2,))


def test_a_failed_seed_is_what_the_claim_waits_for():
    """The next seed does not start before it is done."""
    done = seeds(*ENTRIES, of=(0, 1)) - {"A1-seed1"}
    assert released(make_config(), [EVERYTHING], done) == seeds(*ENTRIES, of=(0, 1))


def test_after_the_last_seed_there_is_no_more():
    done = seeds(*ENTRIES, of=range(4))
    assert released(make_config(), [EVERYTHING], done) == done


def test_a_fine_tune_comes_with_its_parent():
    done = seeds(*ENTRIES, of=(0, 1))
    claim = OpenClaim(roles=("transfer", "specialised"), levels=("A1",))
    assert released(make_config(), [claim], done) - done == seeds("A1", "all-A1", "all", of=(2,))


def test_entries_with_seeds_of_their_own_are_not_held_back():
    config = make_config({**ENTRIES, "B1": {"levels": ("B1",), "seeds": (0, 5, 6)}})
    assert {"B1-seed0", "B1-seed5", "B1-seed6"} <= released(config)


def test_a_control_gets_the_seeds_of_the_model_that_it_copies():
    config = make_config(controls={"size_matched": True, "compute_matched": True})
    first = released(config)
    assert {"control-size-A1-seed1", "control-compute-seed1"} <= first
    more = released(config, [H1_ON_A1], first) - first
    assert more == {"A1-seed2", "all-seed2", "control-size-A1-seed2", "control-compute-seed2"}


@pytest.mark.parametrize("seed", range(5))
def test_the_order_in_which_trainings_end_does_not_matter(seed):
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
