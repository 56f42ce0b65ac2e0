"""Measures how reliable the probabilities of a new learner's level are, and fits a temperature that corrects them.

The losses of a text's tokens are added up as if they were independent, so the posterior is overconfident.
With a temperature T the visible text counts 1/T of its nats:

    p(level k | visible) ∝ share of k × exp(−nats of the visible text under model k / T)

T minimises the Brier score, which unlike the log loss cannot be dominated by a few confidently misjudged documents.
It is fitted on valid documents if the models were scored on them; otherwise on one half of the test documents'
learners and applied to the other half, and vice versa, so that no document's probabilities are fitted to its learner.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from raysweep.seeding import generator_for
from raysweep.statistics.level_posterior import ColdStart
from raysweep.statistics.loss_table import Floats, Ints

BINS = 10
LEAST_DOCUMENTS = 20
"""With fewer documents in a half, no temperature is fitted."""
_LOG_RANGE = (0.0, 7.0)
"""Log of the temperature: T from 1 to 1,100.  Documents that are all judged rightly would take any lower T, and so give
probabilities that a few dozen documents cannot support."""
_GRID = 29


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelCalibration:
    """Errors of the probabilities, without and with a temperature fitted on other documents."""

    fitted_on: str
    """'valid documents' or 'other learners'."""
    temperature: float
    """The temperature fitted on valid documents, or the geometric mean of the two halves' temperatures."""
    documents: int
    error: float
    """Expected calibration error: mean absolute difference between accuracy and highest probability, over bins."""
    tempered_error: float
    brier: float
    """Mean squared distance of the probabilities from the truth, 0 to 2."""
    tempered_brier: float
    confidence: float
    """Mean of the highest probability."""
    tempered_confidence: float
    accuracy: float


def calibrate_levels(
    scored: ColdStart, learners: Ints, seed: int, valid: ColdStart | None = None
) -> LevelCalibration | None:
    """Evaluate the posteriors of documents with visible text; None if there are too few.

    Args:
        learners: (D,) number of each document's learner.
        valid: scores of the same models on documents of no test learner.
    """
    seen = np.flatnonzero(scored.is_seen)
    prior_K, nats_DK, truth_D = scored.log_prior, scored.visible_nats[seen], scored.truth[seen]
    tempered_DK, logs = np.empty_like(nats_DK), []
    is_first = _half_of_learners(learners[seen], seed)
    if min(is_first.sum(), (~is_first).sum()) < LEAST_DOCUMENTS:
        return None
    fits = [(half, nats_DK[~half], truth_D[~half]) for half in (is_first, ~is_first)]
    on_valid = valid is not None and valid.is_seen.sum() >= LEAST_DOCUMENTS
    if valid is not None and on_valid:
        fits = [(np.full(len(seen), True), valid.visible_nats[valid.is_seen], valid.truth[valid.is_seen])]
    for judged, nats, truth in fits:
        log_temperature = _fit(prior_K, nats, truth)
        tempered_DK[judged] = _posterior(prior_K, nats_DK[judged], log_temperature)
        logs.append(log_temperature)
    plain_DK = _posterior(prior_K, nats_DK, 0.0)
    return LevelCalibration(
        fitted_on="valid documents" if on_valid else "other learners",
        temperature=float(np.exp(np.mean(logs))),
        documents=len(seen),
        error=calibration_error(plain_DK, truth_D),
        tempered_error=calibration_error(tempered_DK, truth_D),
        brier=brier_score(plain_DK, truth_D),
        tempered_brier=brier_score(tempered_DK, truth_D),
        confidence=float(plain_DK.max(axis=1).mean()),
        tempered_confidence=float(tempered_DK.max(axis=1).mean()),
        accuracy=float((plain_DK.argmax(axis=1) == truth_D).mean()),
    )


def _half_of_learners(learners_D: Ints, seed: int) -> npt.NDArray[np.bool_]:
    """Return a (D,) mask that is true for the documents of a random half of the learners."""
    writers = np.unique(learners_D)
    first = generator_for(seed, "calibration").permutation(writers)[: len(writers) // 2]
    is_first_D: npt.NDArray[np.bool_] = np.isin(learners_D, first)
    return is_first_D


def calibration_error(posterior_DK: Floats, truth_D: Ints) -> float:
    """Expected calibration error of the most likely level, in ten bins of equal width (Guo et al. 2017)."""
    highest_D = posterior_DK.max(axis=1)
    is_right_D: npt.NDArray[np.bool_] = posterior_DK.argmax(axis=1) == truth_D
    bins_D = np.minimum((highest_D * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins_D, is_right_D - highest_D, BINS)
    return float(np.abs(gaps).sum() / len(truth_D))


def brier_score(posterior_DK: Floats, truth_D: Ints) -> float:
    """Mean over documents of the squared distances of all levels' probabilities from 0 or 1."""
    right_DK = truth_D[:, None] == np.arange(posterior_DK.shape[1])
    return float(np.sum((posterior_DK - right_DK) ** 2) / len(truth_D))


def _fit(prior_K: Floats, nats_DK: Floats, truth_D: Ints) -> float:
    """Find the log temperature with the lowest Brier score: the best of a grid, then refined."""

    def score(log_temperature: float) -> float:
        return brier_score(_posterior(prior_K, nats_DK, log_temperature), truth_D)

    grid = np.linspace(*_LOG_RANGE, _GRID)
    best, step = grid[int(np.argmin([score(value) for value in grid]))], grid[1] - grid[0]
    bounds = np.clip((best - step, best + step), *_LOG_RANGE)
    return float(minimize_scalar(score, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)


def _posterior(prior_K: Floats, nats_DK: Floats, log_temperature: float) -> Floats:
    joint_DK = prior_K - nats_DK * np.exp(-log_temperature)
    posterior_DK: Floats = np.exp(joint_DK - logsumexp(joint_DK, axis=1, keepdims=True))
    return posterior_DK
