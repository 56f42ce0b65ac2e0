"""The predictions that the classify stage computes from its table of features, and the table that stores them.

One table of predictions has both ways to test: `zero-shot`, fitted on the run's own valid documents and tested on its
test documents and on every other corpus; `within`, cross-validation in each corpus with each learner in one fold.

    corpus, way, classifier, document, fold (-1 for zero-shot), probability_LEVEL …
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raysweep.classification.classifier_names import OWN
from raysweep.classification.level_metrics import judge_predictions
from raysweep.classification.scored_texts import ScoredTexts, models_of, read_scored_texts
from raysweep.statistics.loss_table import Floats, Ints

FIT, TEST = "valid", "test"
"""The splits of the run's own documents on which classifiers are fitted and tested."""
ZERO_SHOT, WITHIN = "zero-shot", "within"
_PROBABILITY = "probability_"
NO_FOLD = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Predicted:
    """The predictions for one corpus in one of the two ways."""

    corpus: str
    way: str
    rows: pd.DataFrame
    """The corpus's rows of the table of features."""
    fold_D: Ints  # noqa: N815
    """The fold of each row; `NO_FOLD` for zero-shot."""
    probabilities: Mapping[str, Floats]
    """Classifier → (D, K)"""

    def table(self, levels: Sequence[str]) -> pd.DataFrame:
        """Build its rows of the table of predictions."""
        parts = []
        for classifier, probabilities_DK in self.probabilities.items():
            columns = {f"{_PROBABILITY}{level}": probabilities_DK[:, k] for k, level in enumerate(levels)}
            known = {"corpus": self.corpus, "way": self.way, "classifier": classifier}
            parts.append(
                pd.DataFrame({**known, "document": self.rows["document"].to_numpy(), "fold": self.fold_D, **columns})
            )
        return pd.concat(parts, ignore_index=True)

    def judge(self, levels: Sequence[str], **settings: Any) -> dict[str, Any]:
        """Compute the metrics of every classifier; `settings` are those of `judge_predictions`."""
        texts = scored_rows(self.rows, levels)
        return judge_predictions(texts.levels, texts.groups, self.probabilities, **settings)


def scored_rows(rows: pd.DataFrame, levels: Sequence[str], texts: Sequence[str] | None = None) -> ScoredTexts:
    """Convert rows of the table of features to scored texts, whose texts are empty unless they are given."""
    lengths = rows[["characters", "words"]].to_numpy(dtype=np.int64)
    return read_scored_texts(rows.reset_index(drop=True), levels, lengths=lengths, texts=texts)


def read_predictions(features: pd.DataFrame, predictions: pd.DataFrame, levels: Sequence[str]) -> Iterator[Predicted]:
    """Read the predictions, by corpus and way in the file's order; raises ValueError if the tables do not match."""
    for (corpus, way), part in predictions.groupby(["corpus", "way"], sort=False):
        of_corpus = features[features["corpus"] == corpus].set_index("document")
        by_classifier = {str(name): rows for name, rows in part.groupby("classifier", sort=False)}
        first = next(iter(by_classifier.values()))
        documents = first["document"].to_numpy()
        for name, rows in by_classifier.items():
            if not np.array_equal(rows["document"], documents) or not np.array_equal(rows["fold"], first["fold"]):
                raise ValueError(f"predictions of {name!r:.40} on {corpus!r:.40} are of other documents than the rest")
        if not of_corpus.index.is_unique or not set(documents.tolist()) <= set(of_corpus.index):
            raise ValueError(f"predictions on {corpus!r:.40} are of documents that have no features")
        columns = [f"{_PROBABILITY}{level}" for level in levels]
        yield Predicted(
            corpus=str(corpus),
            way=str(way),
            rows=of_corpus.loc[documents].reset_index(),
            fold_D=first["fold"].to_numpy(dtype=np.int64),
            probabilities={name: rows[columns].to_numpy(dtype=np.float64) for name, rows in by_classifier.items()},
        )


def fit_rows(features: pd.DataFrame) -> pd.DataFrame:
    """Select the rows on which zero-shot classifiers are fitted."""
    return features[(features["corpus"] == OWN) & (features["split"] == FIT)]


def feature_models(features: pd.DataFrame) -> tuple[str, ...]:
    """Return the models whose perplexities are features, in the order of the columns."""
    return models_of(features.columns)
