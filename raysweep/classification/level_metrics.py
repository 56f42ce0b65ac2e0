"""Metrics of predicted levels, all of them from the confusion matrix, with bootstrap intervals over learners.

Levels are numbered from the lowest.  Learners are drawn with replacement, each with all of their texts.
"""

from collections.abc import Sequence

import numpy as np

from raysweep.classification.level_classifiers import Floats, Ints
from raysweep.seeding import generator_for

METRICS = ("accuracy", "adjacent_accuracy", "macro_f1", "qwk", "rmse")
"""QWK is Cohen's kappa with quadratic weights; adjacent accuracy counts a level off by one as right."""


def confusion_of(truth_D: Ints, predicted_D: Ints, levels: int) -> Ints:
    """(K, K) texts by true level (row) and predicted level (column)."""
    cells = np.bincount(truth_D * levels + predicted_D, minlength=levels**2)
    return cells.reshape(levels, levels).astype(np.int64)


def metrics_of(confusion_RKK: Floats | Ints) -> dict[str, Floats]:
    """Each metric of one confusion matrix or of a stack of them; QWK is NaN where all texts are in one cell."""
    counts = np.asarray(confusion_RKK, dtype=np.float64)
    size = counts.shape[-1]
    distance_KK = np.abs(np.arange(size)[:, None] - np.arange(size))
    total = counts.sum(axis=(-2, -1))
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    true, found = counts.sum(axis=-1), counts.sum(axis=-2)
    is_used = (true + found) > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(is_used, 2 * right / (true + found), 0.0)
        squares = distance_KK**2
        expected = (true[..., :, None] * found[..., None, :] * squares).sum(axis=(-2, -1)) / total
        observed = (counts * squares).sum(axis=(-2, -1))
        return {
            "accuracy": right.sum(axis=-1) / total,
            "adjacent_accuracy": (counts * (distance_KK <= 1)).sum(axis=(-2, -1)) / total,
            "macro_f1": f1.sum(axis=-1) / is_used.sum(axis=-1),
            "qwk": np.where(expected > 0, 1.0 - observed / expected, np.nan),
            "rmse": np.sqrt(observed / total),
        }


def bootstrap_metrics(
    truth_D: Ints,
    predicted_D: Ints,
    groups: Sequence[str],
    levels: int,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """The percentile interval of each metric; NaN limits with fewer than two learners."""
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    count = int(codes.max(initial=-1)) + 1
    if count < 2:
        return dict.fromkeys(METRICS, (float("nan"), float("nan")))
    of_group = np.zeros((count, levels**2))
    np.add.at(of_group, (codes, truth_D * levels + predicted_D), 1.0)
    weights = generator_for(seed, "classification").multinomial(count, np.full(count, 1.0 / count), size=resamples)
    drawn = metrics_of((weights @ of_group).reshape(resamples, levels, levels))
    tail = (1.0 - confidence) / 2.0
    low_high = {
        name: np.nanquantile(values, [tail, 1.0 - tail]) if not np.isnan(values).all() else (np.nan, np.nan)
        for name, values in drawn.items()
    }
    return {name: (float(limits[0]), float(limits[1])) for name, limits in low_high.items()}
