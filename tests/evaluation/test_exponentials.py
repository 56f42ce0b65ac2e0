"""The hot loop of scoring, against NumPy in float64."""

import numpy as np
import pytest

from raysweep.evaluation.exponentials import add_exponentials


def summed(logits, shift):
    totals = np.zeros(len(logits), dtype=np.float32)
    add_exponentials(np.array(logits, dtype=np.float32), np.array(shift, dtype=np.float32), totals)
    return totals


@pytest.mark.parametrize("spread", [0.01, 1.0, 8.0])
def test_a_sum_is_what_numpy_says(spread):
    """As near as float32 holds the difference of logits."""
    rng = np.random.default_rng(3)
    logits, shift = rng.normal(0, spread, (50, 3000)).astype(np.float32), rng.normal(0, 1, 50).astype(np.float32)
    expected = np.exp(logits.astype(np.float64) - shift[:, None].astype(np.float64)).sum(axis=1)
    np.testing.assert_allclose(summed(logits, shift), expected, rtol=3e-6)


@pytest.mark.parametrize("logit", [-200.0, -88.0, -87.0, -1.0, -0.34657, 0.0, 0.34658, 1.0, 87.0, 88.0])
def test_every_exponential_is_right_by_itself(logit):
    """Also at the ends of float32 and where 2^n changes; below the smallest normal number it is 0."""
    expected = np.exp(np.float64(np.float32(logit)))
    assert summed([[logit]], [0.0])[0] == pytest.approx(expected, rel=1e-6, abs=2e-38)


def test_sums_are_added_to_what_is_there():
    """A row's columns come in blocks."""
    totals = np.array([5.0], dtype=np.float32)
    add_exponentials(np.zeros((1, 3), dtype=np.float32), np.zeros(1, dtype=np.float32), totals)
    assert totals[0] == 8.0


def test_what_is_no_number_stays_none():
    """A diverged model must be found out, not scored; a sum too large is infinite and made in another way."""
    assert np.isnan(summed([[0.0, np.nan]], [0.0])[0])
    assert np.isnan(summed([[0.0, 1.0]], [np.nan])[0])
    assert np.isinf(summed([[0.0, 200.0]], [0.0])[0])
    assert np.isinf(summed([[0.0, np.inf]], [0.0])[0])


def test_a_row_does_not_depend_on_the_rows_beside_it():
    """To the last bit, as scores must not depend on batches."""
    logits = np.random.default_rng(1).normal(0, 2, (7, 1001)).astype(np.float32)
    together = summed(logits, np.zeros(7))
    alone = [summed(logits[row : row + 1], np.zeros(1))[0] for row in range(7)]
    np.testing.assert_array_equal(together, alone)
