"""Defines the classifiers of levels: the features that each reads, and its scikit-learn pipeline.

Features are the nats per token of a text under every model, for the whole text and for the answers to its masks; a
missing value is replaced by the mean of the training texts.  The baselines use no perplexity, or only that of the
models' common start, and are fitted on the same texts:

    majority          the most frequent level
    length            the logarithms of characters and words
    words, characters TF-IDF of word 1- and 2-grams, of character 2- to 5-grams; logistic regression
    native            nats per token under the common start, which with `gpt2` is the native model
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from raysweep.classification.classifier_names import LOGISTIC
from raysweep.classification.level_metrics import ablation_of
from raysweep.classification.scored_texts import ScoredTexts
from raysweep.scheduling.trials import START_MODEL
from raysweep.statistics.loss_table import Floats, Ints


class OrdinalByThresholds(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Ordinal regression with one logistic regression per threshold: is the level above k?

    p(level = k) is the difference between neighbouring thresholds, at least 0, normalised to add up to 1.

    Source: Frank and Hall 2001 (ECML).
    """

    def fit(self, features_DF: Floats, levels_D: Ints) -> "OrdinalByThresholds":
        self.classes_ = np.unique(levels_D)
        self.thresholds_ = [
            clone(_logistic()).fit(features_DF, levels_D > threshold) for threshold in self.classes_[:-1]
        ]
        return self

    def predict_proba(self, features_DF: Floats) -> Floats:
        """(D, K)"""
        above = [model.predict_proba(features_DF)[:, 1] for model in self.thresholds_]
        bounds_DK1 = np.stack([np.ones(len(features_DF)), *above, np.zeros(len(features_DF))], axis=1)
        differences_DK = np.maximum(-np.diff(bounds_DK1, axis=1), 1e-12)
        return np.asarray(differences_DK / differences_DK.sum(axis=1, keepdims=True))

    def predict(self, features_DF: Floats) -> Ints:
        return np.asarray(self.classes_[self.predict_proba(features_DF).argmax(axis=1)])


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A named classifier: a function that extracts its features, and one that creates its pipeline."""

    name: str
    read: Callable[[ScoredTexts], Any]
    make: Callable[[], Any]
    reads_texts: bool = False


def candidates(models: Sequence[str], seed: int) -> list[Candidate]:
    """List the classifiers by perplexity, the baselines (`native` only if the start was scored) and the ablations."""
    by_perplexity = {
        LOGISTIC: _logistic,
        "ordinal": OrdinalByThresholds,
        "boosting": lambda: HistGradientBoostingClassifier(random_state=seed, max_iter=100),
    }
    listed = [_by_perplexity(name, models, last) for name, last in by_perplexity.items()]
    listed += [
        Candidate(
            name="majority",
            read=lambda texts: np.zeros((len(texts.levels), 1)),
            make=lambda: DummyClassifier(strategy="prior"),
        ),
        Candidate(
            name="length",
            read=lambda texts: np.log1p(texts.lengths),
            make=lambda: perplexity_pipeline(_logistic()),
        ),
        Candidate(
            name="words",
            read=lambda texts: list(texts.texts),
            make=lambda: _tfidf(analyzer="word", ngram_range=(1, 2)),
            reads_texts=True,
        ),
        Candidate(
            name="characters",
            read=lambda texts: list(texts.texts),
            make=lambda: _tfidf(analyzer="char_wb", ngram_range=(2, 5)),
            reads_texts=True,
        ),
    ]
    if START_MODEL in models:
        listed.append(_by_perplexity("native", [START_MODEL], _logistic))
    if len(models) > 1:
        listed += [
            _by_perplexity(ablation_of(model), [other for other in models if other != model], _logistic)
            for model in models
        ]
    return listed


def logistic_of(models: Sequence[str]) -> Candidate:
    """Return the logistic regression, which is saved."""
    return _by_perplexity(LOGISTIC, models, _logistic)


def perplexity_pipeline(last: Any) -> Any:
    """Create a pipeline that imputes missing values by the mean, standardises, and then classifies."""
    return make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), last)


def _by_perplexity(name: str, models: Sequence[str], last: Callable[[], Any]) -> Candidate:
    return Candidate(name=name, read=lambda texts: texts.matrix(models), make=lambda: perplexity_pipeline(last()))


def _logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=2000)


def _tfidf(**options: Any) -> Any:
    return make_pipeline(TfidfVectorizer(sublinear_tf=True, **options), _logistic())
