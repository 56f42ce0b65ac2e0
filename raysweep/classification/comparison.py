"""Compares classifiers of levels within a corpus (k folds, a learner's texts in one) and on other corpora.

Every classifier, baselines included, is fitted and tested on the same texts.  On another corpus all of it is fitted on
the first corpus alone: zero-shot, as far as that corpus is concerned.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from raysweep.classification.level_classifiers import (
    Candidate,
    Floats,
    Ints,
    ScoredTexts,
    candidates,
    perplexity_pipeline,
)
from raysweep.classification.level_metrics import bootstrap_metrics, confusion_of, metrics_of
from raysweep.errors import InputError
from raysweep.statistics.calibration_of_levels import brier_score, calibration_error


def split_folds(corpus: ScoredTexts, folds: int, seed: int) -> list[tuple[Ints, Ints]]:
    """Rows to fit on and to test on, for each fold; levels are spread, learners are not divided.

    Raises:
        InputError: there are too few texts or learners for so many folds, or a level is in one fold alone.
    """
    learners = len(set(corpus.groups))
    fewest = min(np.unique(corpus.levels, return_counts=True)[1], default=0)
    if len(np.unique(corpus.levels)) < 2 or fewest < folds or learners < folds:
        raise InputError(
            f"--folds: found {folds}, with {fewest:,} texts of the rarest level and {learners:,} learners; "
            "give at least as many of each, and two levels, or fewer folds"
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    splits = list(splitter.split(np.zeros(len(corpus.levels)), corpus.levels, corpus.groups))
    if any(len(np.unique(corpus.levels[fit])) < len(np.unique(corpus.levels)) for fit, _ in splits):
        raise InputError(
            f"--folds: found {folds}; a fold would hold all texts of a level, since they are by too few learners, and "
            "none would be left to fit on; give texts by more learners, or more folds"
        )
    return splits


def compare_within(
    corpus: ScoredTexts, levels: Sequence[str], models: Sequence[str], *, folds: int, **settings: Any
) -> dict[str, Any]:
    """Every classifier tested on each fold in turn, and what is lost without each model's features.

    Args:
        settings: `seed`, `resamples` and `confidence`.
    """
    splits = split_folds(corpus, folds, settings["seed"])
    rows = {}
    for candidate in candidates(models, settings["seed"]):
        probabilities = np.zeros((len(corpus.levels), len(levels)))
        for fit, test in splits:
            probabilities[test] = _fit(candidate, corpus.take(fit), corpus.take(test), len(levels))
        rows[candidate.name] = describe(candidate, corpus, probabilities, **settings)
    full = rows["logistic"]["metrics"]["accuracy"]["value"]
    return {
        "folds": folds,
        "classifiers": rows,
        "without_model": {model: full - _accuracy_without(model, corpus, models, splits) for model in models}
        if len(models) > 1
        else {},
    }


def compare_across(
    first: ScoredTexts, other: ScoredTexts, levels: Sequence[str], models: Sequence[str], **settings: Any
) -> dict[str, Any]:
    """Every classifier fitted on the first corpus and tested on the other.

    `unseen` counts the texts of the other by levels that the first lacks, which no classifier can tell.
    """
    rows = {}
    for candidate in candidates(models, settings["seed"]):
        probabilities = _fit(candidate, first, other, len(levels))
        rows[candidate.name] = describe(candidate, other, probabilities, **settings)
    absent = set(range(len(levels))) - set(first.levels.tolist())
    unseen = {levels[level]: int((other.levels == level).sum()) for level in sorted(absent)}
    return {"classifiers": rows, "unseen": unseen}


def describe(
    candidate: Candidate,
    texts: ScoredTexts,
    probabilities_DK: Floats,
    *,
    seed: int,
    resamples: int,
    confidence: float,
) -> dict[str, Any]:
    """Metrics with intervals, confusion matrix and calibration of one classifier."""
    predicted_D, count = probabilities_DK.argmax(axis=1), probabilities_DK.shape[1]
    confusion = confusion_of(texts.levels, predicted_D, count)
    values = metrics_of(confusion)
    limits = bootstrap_metrics(
        texts.levels, predicted_D, texts.groups, count, resamples=resamples, confidence=confidence, seed=seed
    )
    return {
        "is_baseline": candidate.is_baseline,
        "metrics": {
            name: {"value": _number(float(value)), "low": _number(limits[name][0]), "high": _number(limits[name][1])}
            for name, value in values.items()
        },
        "confusion": confusion.tolist(),
        "calibration_error": calibration_error(probabilities_DK, texts.levels),
        "brier": brier_score(probabilities_DK, texts.levels),
    }


def fit_logistic(corpus: ScoredTexts, models: Sequence[str]) -> Any:
    """The logistic regression on all texts, as it is saved."""
    (candidate,) = [each for each in candidates(models, 0) if each.name == "logistic"]
    return candidate.make().fit(candidate.read(corpus), corpus.levels)


def _fit(candidate: Candidate, train: ScoredTexts, test: ScoredTexts, levels: int) -> Floats:
    """(D, K) probabilities of the test texts; 0 for a level that the training texts lack."""
    fitted = candidate.make().fit(candidate.read(train), train.levels)
    probabilities_DK = np.zeros((len(test.levels), levels))
    probabilities_DK[:, fitted.classes_.astype(np.int64)] = fitted.predict_proba(candidate.read(test))
    return probabilities_DK


def _accuracy_without(
    model: str, corpus: ScoredTexts, models: Sequence[str], splits: Sequence[tuple[Ints, Ints]]
) -> float:
    """Accuracy of the logistic regression in the same folds without a model's features."""
    matrix_DF = corpus.matrix([other for other in models if other != model])
    (candidate,) = [each for each in candidates(models, 0) if each.name == "logistic"]
    right = 0
    for fit, test in splits:
        fitted = perplexity_pipeline(candidate.make()[-1]).fit(matrix_DF[fit], corpus.levels[fit])
        right += int((fitted.predict(matrix_DF[test]) == corpus.levels[test]).sum())
    return right / len(corpus.levels)


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if np.isnan(value) else value
