"""Computes metrics of predicted levels from confusion matrices, with bootstrap intervals over learners.

Levels are numbered from the lowest.  Learners are resampled with all of their texts; the same resamples are used for
all classifiers of a corpus, so that their differences are paired.  This module needs no scikit-learn: the report and
`verify` compute these numbers again from the classifiers' probabilities.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from raysweep.classification.classifier_names import BASELINES, LOGISTIC
from raysweep.classification.scored_texts import group_codes
from raysweep.seeding import generator_for
from raysweep.statistics.calibration_of_levels import brier_score, calibration_error
from raysweep.statistics.loss_table import Floats, Ints

METRICS = ("accuracy", "adjacent_accuracy", "macro_f1", "qwk", "rmse")
"""QWK is Cohen's kappa with quadratic weights; adjacent accuracy counts a level off by one as right."""
_WITHOUT = f"{LOGISTIC} without "
_NUMBERS_AT_ONCE = 20_000_000


def ablation_of(model: str) -> str:
    """Return the name of the logistic regression without a model's perplexities."""
    return f"{_WITHOUT}{model}"


def judge_predictions(
    truth_D: Ints,
    groups: Sequence[str],
    probabilities: Mapping[str, Floats],
    *,
    seed: int,
    resamples: int,
    confidence: float,
) -> dict[str, Any]:
    """Compute metrics with intervals, the confusion matrix and the calibration of every classifier.

    Args:
        groups: (D,) the learner of each text.
        probabilities: classifier, including those of `ablation_of` → (D, K) the probability of each level.

    Returns:
        `classifiers`, by name; `without_model`, by model: the accuracy that the logistic regression loses without it.
    """
    names = list(probabilities)
    count = next(iter(probabilities.values())).shape[1]
    predicted_PD = np.stack([probabilities[name].argmax(axis=1) for name in names])
    confusions_PKK = np.stack([confusion_of(truth_D, predicted_D, count) for predicted_D in predicted_PD])
    values = metrics_of(confusions_PKK)
    drawn = bootstrap_metrics(truth_D, predicted_PD, groups, count, resamples=resamples, seed=seed)

    def described(place: int) -> dict[str, Any]:
        probabilities_DK = probabilities[names[place]]
        return {
            "is_baseline": names[place] in BASELINES,
            "metrics": {name: _with_limits(values[name][place], drawn[name][:, place], confidence) for name in METRICS},
            "confusion": confusions_PKK[place].tolist(),
            "calibration_error": calibration_error(probabilities_DK, truth_D),
            "brier": brier_score(probabilities_DK, truth_D),
        }

    places = range(len(names))
    without = {names[place].removeprefix(_WITHOUT): place for place in places if names[place].startswith(_WITHOUT)}
    full = names.index(LOGISTIC)
    right, right_drawn = values["accuracy"], drawn["accuracy"]
    return {
        "classifiers": {names[place]: described(place) for place in places if place not in without.values()},
        "without_model": {
            model: _with_limits(right[full] - right[place], right_drawn[:, full] - right_drawn[:, place], confidence)
            for model, place in without.items()
        },
    }


def confusion_of(truth_D: Ints, predicted_D: Ints, levels: int) -> Ints:
    """Count the texts by true level (row) and predicted level (column), (K, K)."""
    cells = np.bincount(truth_D * levels + predicted_D, minlength=levels**2)
    return cells.reshape(levels, levels).astype(np.int64)


def metrics_of(confusion_RKK: Floats | Ints) -> dict[str, Floats]:
    """Compute each metric of one confusion matrix or of a stack of them; QWK is NaN if all texts are in one cell."""
    counts = np.asarray(confusion_RKK, dtype=np.float64)
    size = counts.shape[-1]
    distance_KK = np.abs(np.arange(size)[:, None] - np.arange(size))
    total = counts.sum(axis=(-2, -1))
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    true, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    is_used = (true + predicted) > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(is_used, 2 * right / (true + predicted), 0.0)
        squares = distance_KK**2
        expected = (true[..., :, None] * predicted[..., None, :] * squares).sum(axis=(-2, -1)) / total
        observed = (counts * squares).sum(axis=(-2, -1))
        return {
            "accuracy": right.sum(axis=-1) / total,
            "adjacent_accuracy": (counts * (distance_KK <= 1)).sum(axis=(-2, -1)) / total,
            "macro_f1": f1.sum(axis=-1) / is_used.sum(axis=-1),
            "qwk": np.where(expected > 0, 1.0 - observed / expected, np.nan),
            "rmse": np.sqrt(observed / total),
        }


def bootstrap_metrics(
    truth_D: Ints, predicted_PD: Ints, groups: Sequence[str], levels: int, *, resamples: int, seed: int
) -> dict[str, Floats]:
    """Compute each metric (R, P) of P classifiers in R resamples of the learners; NaN with fewer than two learners."""
    codes_D = group_codes(groups)
    count, classifiers = int(codes_D.max(initial=-1)) + 1, len(predicted_PD)
    if count < 2:
        return {name: np.full((resamples, classifiers), np.nan) for name in METRICS}
    sums_GPC = np.zeros((count, classifiers, levels**2))
    for place, predicted_D in enumerate(predicted_PD):
        np.add.at(sums_GPC[:, place], (codes_D, truth_D * levels + predicted_D), 1.0)
    parts = [
        metrics_of((weights_RG @ sums_GPC.reshape(count, -1)).reshape(-1, classifiers, levels, levels))
        for weights_RG in _draw(count, resamples, seed, width=max(count, sums_GPC[0].size))
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in METRICS}


def _draw(count: int, resamples: int, seed: int, *, width: int) -> Iterator[Floats]:
    """Yield how often each group was drawn, for some resamples at a time."""
    rng, together = generator_for(seed, "classification"), max(1, _NUMBERS_AT_ONCE // width)
    for start in range(0, resamples, together):
        size = min(together, resamples - start)
        yield rng.multinomial(count, np.full(count, 1.0 / count), size=size).astype(np.float64)


def _with_limits(value: float, drawn_R: Floats, confidence: float) -> dict[str, float | None]:
    """Return the value with its percentile interval; NaN becomes None, because JSON has no NaN."""
    known_R = drawn_R[~np.isnan(drawn_R)]
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(known_R, [tail, 1.0 - tail]).tolist() if len(known_R) else (None, None)
    return {"value": None if np.isnan(value) else float(value), "low": low, "high": high}
