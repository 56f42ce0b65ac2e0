"""Sums over models are the same to the bit, however many models there are."""

import numpy as np

from raysweep.statistics.weighted_parts import weighted_sum


def test_many_models_are_added_in_the_order_of_few():
    """One after another from the first, whatever the layout of the values in memory."""
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(7, 300)), rng.normal(size=300) * (rng.random(300) < 0.6)
    one_by_one = np.zeros(7)
    for column in np.flatnonzero(weights):
        one_by_one = one_by_one + values[:, column] * weights[column]
    assert weighted_sum(values, weights).tolist() == one_by_one.tolist()
    assert weighted_sum(np.asfortranarray(values), weights).tolist() == one_by_one.tolist()
    assert weighted_sum(values[0], weights) == one_by_one[0]
