"""Fits and tests all classifiers on a table of features: zero-shot from valid documents, and within each corpus."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raysweep.classification.classifier_names import BASELINES, LOGISTIC
from raysweep.classification.comparison import fit_logistic, predict_across, predict_within, split_folds
from raysweep.classification.level_metrics import confusion_of, metrics_of
from raysweep.classification.predictions import (
    FIT,
    NO_FOLD,
    WITHIN,
    ZERO_SHOT,
    Predicted,
    feature_models,
    fit_rows,
    scored_rows,
)
from raysweep.errors import InputError
from raysweep.statistics.loss_table import Ints


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifiedCorpora:
    """All predictions, and the logistic regression that was fitted on the valid documents."""

    predicted: tuple[Predicted, ...]
    fitted: Any
    sentences: tuple[str, ...]
    """A summary of the results, with notes on corpora that could not be divided into folds."""


def classify_corpora(
    features: pd.DataFrame, texts: Sequence[str], levels: Sequence[str], *, folds: int, seed: int
) -> ClassifiedCorpora:
    """Fit and test all classifiers.

    Args:
        features: a row per document, with the name of its corpus.
        texts: the text of each row.

    Raises:
        InputError: the texts to fit on have fewer than two levels.
    """
    models, written = feature_models(features), np.array(texts, dtype=object)
    is_fit = features.index.isin(fit_rows(features).index)
    first = scored_rows(features[is_fit], levels, written[is_fit].tolist())
    if len(np.unique(first.levels)) < 2:
        raise InputError(
            f"classification: the {FIT} documents have {len(np.unique(first.levels))} level; at least two are needed"
        )
    places = {str(name): np.flatnonzero(~is_fit & (features["corpus"] == name)) for name in features["corpus"].unique()}
    places = {name: rows for name, rows in places.items() if len(rows)}
    others = [scored_rows(features.iloc[rows], levels, written[rows].tolist()) for rows in places.values()]
    predicted: list[Predicted] = []
    sentences: list[str] = []
    for (name, rows), probabilities in zip(
        places.items(), predict_across(first, others, len(levels), models, seed), strict=True
    ):
        fold_D: Ints = np.full(len(rows), NO_FOLD, dtype=np.int64)
        predicted.append(
            Predicted(corpus=name, way=ZERO_SHOT, rows=features.iloc[rows], fold_D=fold_D, probabilities=probabilities)
        )
        sentences += _describe(predicted[-1], levels)
    for (name, rows), other in zip(places.items(), others, strict=True):
        try:
            fold_D = split_folds(other, folds, seed)
        except InputError as error:
            sentences.append(f"note: {name}: is not divided into folds ({error})")
            continue
        probabilities = predict_within(other, fold_D, len(levels), models, seed)
        predicted.append(
            Predicted(corpus=name, way=WITHIN, rows=features.iloc[rows], fold_D=fold_D, probabilities=probabilities)
        )
        sentences += _describe(predicted[-1], levels)
    return ClassifiedCorpora(predicted=tuple(predicted), fitted=fit_logistic(first, models), sentences=tuple(sentences))


def _describe(predicted: Predicted, levels: Sequence[str]) -> Iterator[str]:
    """Describe how often the logistic regression and the best baseline are right."""
    truth_D = scored_rows(predicted.rows, levels).levels
    right = {
        name: float(metrics_of(confusion_of(truth_D, probabilities_DK.argmax(axis=1), len(levels)))["accuracy"])
        for name, probabilities_DK in predicted.probabilities.items()
        if name == LOGISTIC or name in BASELINES
    }
    best = max((name for name in right if name != LOGISTIC), key=right.__getitem__)
    yield (
        f"{predicted.corpus}, {predicted.way}: from perplexities, the level of {right[LOGISTIC]:.1%} of "
        f"{len(truth_D):,} texts is found, and of {right[best]:.1%} by the best baseline ({best})"
    )
