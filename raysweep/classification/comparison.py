"""Predicts levels with every classifier, by cross-validation within a corpus and zero-shot on other corpora.

In cross-validation all texts of a learner are in one fold.  Every classifier, including the baselines, is fitted and
tested on the same texts.  For another corpus the classifiers are fitted on the first corpus only.  Fitting uses one
thread, so that the same texts give the same probabilities on any number of cores.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from raysweep.classification.level_classifiers import Candidate, candidates, logistic_of
from raysweep.classification.scored_texts import ScoredTexts, group_codes
from raysweep.errors import InputError
from raysweep.statistics.loss_table import Floats, Ints


def split_folds(corpus: ScoredTexts, folds: int, seed: int) -> Ints:
    """Choose the fold (D,) in which each text is tested; stratified by level, with each learner in one fold.

    Raises:
        InputError: there are too few texts or learners for so many folds, or all texts of a level are in one fold.
    """
    codes_D = group_codes(corpus.groups)
    learners = len(set(codes_D.tolist()))
    fewest = min(np.unique(corpus.levels, return_counts=True)[1], default=0)
    if len(np.unique(corpus.levels)) < 2 or fewest < folds or learners < folds:
        raise InputError(
            f"folds: found {folds}, with {fewest:,} texts of the rarest level and {learners:,} learners; "
            "give at least as many of each, and two levels, or fewer folds"
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    fold_D = np.empty(len(codes_D), dtype=np.int64)
    for fold, (_, test) in enumerate(splitter.split(np.zeros(len(codes_D)), corpus.levels, codes_D)):
        fold_D[test] = fold
    count = len(np.unique(corpus.levels))
    if any(len(np.unique(corpus.levels[fold_D != fold])) < count for fold in range(folds)):
        raise InputError(
            f"folds: found {folds}; a fold would hold all texts of a level, since they are by too few learners, and "
            "none would be left to fit on; give texts by more learners, or more folds"
        )
    return fold_D


def predict_within(
    corpus: ScoredTexts, fold_D: Ints, levels: int, models: Sequence[str], seed: int, *, reads_texts: bool = True
) -> dict[str, Floats]:
    """Predict by cross-validation; returns the probabilities (D, K) by classifier."""
    probabilities: dict[str, Floats] = {}
    with _one_thread():
        for candidate in _chosen(models, seed, reads_texts=reads_texts):
            probabilities[candidate.name] = np.zeros((len(corpus.levels), levels))
            for fold in np.unique(fold_D):
                fit, test = np.flatnonzero(fold_D != fold), np.flatnonzero(fold_D == fold)
                fitted = _fit(candidate, corpus.take(fit))
                probabilities[candidate.name][test] = _predict(candidate, fitted, corpus.take(test), levels)
    return probabilities


def predict_across(
    first: ScoredTexts,
    others: Sequence[ScoredTexts],
    levels: int,
    models: Sequence[str],
    seed: int,
    *,
    reads_texts: bool = True,
) -> list[dict[str, Floats]]:
    """Fit on the first corpus, and return the probabilities (D, K) by classifier for each of the other corpora."""
    probabilities: list[dict[str, Floats]] = [{} for _ in others]
    with _one_thread():
        for candidate in _chosen(models, seed, reads_texts=reads_texts):
            fitted = _fit(candidate, first)
            for other, of_other in zip(others, probabilities, strict=True):
                of_other[candidate.name] = _predict(candidate, fitted, other, levels)
    return probabilities


def fit_logistic(corpus: ScoredTexts, models: Sequence[str]) -> Any:
    with _one_thread():
        return _fit(logistic_of(models), corpus)


def count_unseen(first: ScoredTexts, other: ScoredTexts, levels: Sequence[str]) -> dict[str, int]:
    """Count the texts of the other corpus with levels that the first lacks, which no classifier can predict."""
    absent = sorted(set(range(len(levels))) - set(first.levels.tolist()))
    return {levels[level]: int((other.levels == level).sum()) for level in absent}


def _chosen(models: Sequence[str], seed: int, *, reads_texts: bool) -> list[Candidate]:
    return [candidate for candidate in candidates(models, seed) if reads_texts or not candidate.reads_texts]


def _fit(candidate: Candidate, texts: ScoredTexts) -> Any:
    return candidate.make().fit(candidate.read(texts), texts.levels)


def _predict(candidate: Candidate, fitted: Any, texts: ScoredTexts, levels: int) -> Floats:
    """Predict the probabilities (D, K); 0 for a level that does not occur in the texts fitted on."""
    probabilities_DK = np.zeros((len(texts.levels), levels))
    probabilities_DK[:, fitted.classes_.astype(np.int64)] = fitted.predict_proba(candidate.read(texts))
    return probabilities_DK


@contextmanager
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield
