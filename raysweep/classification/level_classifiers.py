"""Classifiers of levels: what each reads of a text, and its scikit-learn pipeline.

Features are the nats per token of a text under every model, of the whole text and of the answers to its masks; where a
text has no token of a kind, the mean of the training texts stands in.  The baselines see no perplexity, or only that
of the models' common start, and are fitted on the same texts:

    majority          the most frequent level
    length            the logarithms of characters and words
    words, characters TF-IDF of word 1- and 2-grams, of character 2- to 5-grams; logistic regression
    native            nats per token under the common start, which with `gpt2` is the native model
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

START = "start"


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredTexts:
    """D texts of known level with their features."""

    texts: Sequence[str]
    levels: Ints
    """(D,) indices into the known levels, lowest first."""
    groups: Sequence[str]
    """(D,) the learner of each, or the text's own id."""
    features: Mapping[str, Floats]
    """By model: (D, 2) nats per token of the whole text and of the answers to its masks, NaN without a token."""

    def take(self, rows: Ints) -> "ScoredTexts":
        """Some of the texts, in this order."""
        return ScoredTexts(
            texts=[self.texts[row] for row in rows],
            levels=self.levels[rows],
            groups=[self.groups[row] for row in rows],
            features={model: values[rows] for model, values in self.features.items()},
        )

    def matrix(self, models: Sequence[str]) -> Floats:
        """(D, 2 M) the features of these models."""
        return np.concatenate([self.features[model] for model in models], axis=1)


class OrdinalByThresholds(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Ordered levels by one logistic regression for each threshold: is the level above k?

    p(level = k) is the difference of neighbouring thresholds, at least 0, scaled to add up to 1.

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
    """A classifier by name: what it reads, and the pipeline that is fitted."""

    name: str
    is_baseline: bool
    read: Callable[[ScoredTexts], Any]
    make: Callable[[], Any]


def candidates(models: Sequence[str], seed: int) -> list[Candidate]:
    """Classifiers by perplexity, then baselines; `native` only if the start was scored."""
    by_perplexity = {
        "logistic": _logistic,
        "ordinal": OrdinalByThresholds,
        "boosting": lambda: HistGradientBoostingClassifier(random_state=seed, max_iter=100),
    }
    listed = [
        Candidate(
            name=name,
            is_baseline=False,
            read=lambda texts: texts.matrix(models),
            make=lambda last=last: perplexity_pipeline(last()),  # type: ignore[misc]
        )
        for name, last in by_perplexity.items()
    ]
    listed += [
        Candidate(
            name="majority",
            is_baseline=True,
            read=lambda texts: np.zeros((len(texts.texts), 1)),
            make=lambda: DummyClassifier(strategy="prior"),
        ),
        Candidate(name="length", is_baseline=True, read=_lengths, make=lambda: perplexity_pipeline(_logistic())),
        Candidate(
            name="words",
            is_baseline=True,
            read=lambda texts: list(texts.texts),
            make=lambda: _tfidf(analyzer="word", ngram_range=(1, 2)),
        ),
        Candidate(
            name="characters",
            is_baseline=True,
            read=lambda texts: list(texts.texts),
            make=lambda: _tfidf(analyzer="char_wb", ngram_range=(2, 5)),
        ),
    ]
    if START in models:
        listed.append(
            Candidate(
                name="native",
                is_baseline=True,
                read=lambda texts: texts.matrix([START]),
                make=lambda: perplexity_pipeline(_logistic()),
            )
        )
    return listed


def perplexity_pipeline(last: Any) -> Any:
    """Mean for what is missing, unit variance, then the classifier."""
    return make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), last)


def _logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=2000)


def _tfidf(**options: Any) -> Any:
    return make_pipeline(TfidfVectorizer(sublinear_tf=True, **options), _logistic())


def _lengths(texts: ScoredTexts) -> Floats:
    counts = [(len(text), len(text.split())) for text in texts.texts]
    return np.log1p(np.array(counts, dtype=np.float64).reshape(-1, 2))
