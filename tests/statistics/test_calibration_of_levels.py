"""Calibrated probabilities of levels: errors computed by hand, and the temperature on data with a known one."""

from dataclasses import replace

import numpy as np
import pytest

from raysweep.statistics.calibration_of_levels import brier_score, calibrate_levels, calibration_error
from raysweep.statistics.level_posterior import ColdStart

LEVELS = ("A1", "B1", "C1")


def scored(temperature, *, documents=900, learners=300, seed=0):
    """Return documents whose levels were drawn from the posterior at `temperature`; at 1 it is calibrated."""
    rng = np.random.default_rng(seed)
    nats = rng.normal(0.0, 2.0 * temperature, (documents, 3)) + 50.0
    posterior = np.exp(-nats / temperature + 50.0 / temperature)
    posterior /= posterior.sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(3, p=row) for row in posterior])
    ones = np.ones(documents, dtype=np.int64)
    cold = ColdStart(
        levels=LEVELS,
        documents=np.arange(documents),
        truth=truth,
        visible_tokens=ones,
        answer_tokens=ones,
        chosen=np.argmin(nats, axis=1),
        posterior=posterior,
        visible_nats=nats,
        log_prior=np.log(np.full(3, 1 / 3)),
        nats={},
    )
    return cold, rng.integers(0, learners, documents)


def test_calibration_error_equals_a_hand_computed_value():
    """Two documents at 0.95, one right; one at 0.6, right: |1 − 1.9| / 3 + |1 − 0.6| / 3."""
    posterior = np.array([[0.95, 0.05], [0.95, 0.05], [0.4, 0.6]])
    truth = np.array([0, 1, 1])
    assert calibration_error(posterior, truth) == pytest.approx((0.9 + 0.4) / 3)
    assert brier_score(posterior, truth) == pytest.approx((2 * 0.05**2 + 2 * 0.95**2 + 2 * 0.4**2) / 3)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_the_true_temperature_is_recovered(temperature):
    """Overconfident posteriors become as confident as they are right."""
    calibration = calibrate_levels(*scored(temperature), seed=0)
    assert calibration.temperature == pytest.approx(temperature, rel=0.15)
    assert calibration.tempered_error < 0.06
    assert calibration.tempered_confidence == pytest.approx(calibration.accuracy, abs=0.05)
    if temperature > 1.0:
        assert calibration.confidence > calibration.accuracy + 0.1
        assert calibration.tempered_error < calibration.error / 2
        assert calibration.tempered_brier < calibration.brier


def test_no_temperature_below_1_is_fitted_to_documents_that_are_all_judged_rightly():
    """Without a limit the Brier score falls as the temperature does, and the probabilities go to 1."""
    cold_start, learners = scored(1.0, documents=60)
    nats_DK = np.where(np.arange(3) == cold_start.truth[:, None], 48.0, 50.0)
    calibration = calibrate_levels(replace(cold_start, visible_nats=nats_DK), learners, seed=0)
    assert calibration.accuracy == 1.0
    assert calibration.temperature == pytest.approx(1.0, abs=1e-4)


def test_the_temperature_is_fitted_only_on_valid_documents_if_given():
    """The test documents would give another one; too few valid documents are not used."""
    (cold, learners), (valid, _) = scored(4.0), scored(20.0, documents=600, seed=1)
    calibration = calibrate_levels(cold, learners, 0, valid)
    assert (calibration.fitted_on, calibration.temperature) == ("valid documents", pytest.approx(20.0, rel=0.15))
    assert calibrate_levels(cold, np.arange(len(learners)), 0, valid) == calibration
    few, _ = scored(20.0, documents=10)
    assert calibrate_levels(cold, learners, 0, few) == calibrate_levels(cold, learners, 0)
    assert calibrate_levels(cold, learners, 0).fitted_on == "other learners"


def test_cross_fitting_never_uses_a_learners_own_documents():
    """Changing one learner's levels changes only the other half's temperature."""
    cold, learners = scored(4.0)
    before = calibrate_levels(cold, learners, seed=0)
    shuffled = calibrate_levels(cold, np.zeros(len(learners), dtype=np.int64), seed=0)
    assert before is not None
    assert shuffled is None  # one learner cannot be in both halves


def test_too_few_documents_give_no_temperature():
    """Ten documents in a half are not enough."""
    assert calibrate_levels(*scored(4.0, documents=20), seed=0) is None
