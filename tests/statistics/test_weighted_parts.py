"""Sums over models are the same to the bit, however many models there are."""

import copy
import pickle

import numpy as np
import pytest

from raysweep.statistics.weighted_parts import Part, SeedModels, weighted_sum


def test_many_models_are_summed_in_the_order_of_few():
    """They are added in order from the first, whatever the memory layout of the values."""
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(7, 300)), rng.normal(size=300) * (rng.random(300) < 0.6)
    one_by_one = np.zeros(7)
    for column in np.flatnonzero(weights):
        one_by_one = one_by_one + values[:, column] * weights[column]
    assert weighted_sum(values, weights).tolist() == one_by_one.tolist()
    assert weighted_sum(np.asfortranarray(values), weights).tolist() == one_by_one.tolist()
    assert weighted_sum(values[0], weights) == one_by_one[0]


def test_contrasts_of_the_same_models_have_equal_keys():
    """Dicts and the order of seeds do not matter; another model, seed, weight or level gives another key."""
    part = Part(weight=1.0, level="B1", models={1: "b", 0: "a"})
    assert (part.seeds, part.names) == ((0, 1), ("a", "b"))
    same = Part(weight=1.0, level="B1", models={0: "a", 1: "b"})
    others = [
        Part(weight=1.0, level="B1", models={0: "b", 1: "a"}),
        Part(weight=1.0, level="B1", models={0: "a", 2: "b"}),
        Part(weight=-1.0, level="B1", models={0: "a", 1: "b"}),
        Part(weight=1.0, level="A1", models={0: "a", 1: "b"}),
    ]
    assert len({part, same}) == 1
    assert len({part, *others}) == 5


@pytest.mark.parametrize(
    "change",
    [
        lambda models: models.__setitem__(2, "c"),
        lambda models: models.__delitem__(0),
        lambda models: models.__ior__({2: "c"}),
        lambda models: models.update({2: "c"}),
        lambda models: models.setdefault(2, "c"),
        lambda models: models.pop(0),
        lambda models: models.popitem(),
        lambda models: models.clear(),
    ],
)
def test_the_models_of_a_key_are_immutable(change):
    """Otherwise the hash under which a contrast is stored would be that of other models."""
    models = SeedModels({0: "a", 1: "b"})
    with pytest.raises(TypeError, match="cannot be changed"):
        change(models)


def test_a_pickled_key_equals_the_original():
    """They are pickled for worker processes."""
    models = SeedModels({0: "a", 1: "b"})
    for same in (copy.copy(models), copy.deepcopy(models), pickle.loads(pickle.dumps(models))):
        assert same == models
        assert type(same) is SeedModels
        assert hash(same) == hash(models)
