"""Measures the learner-likeness of generated texts: whether a classifier assigns them levels as it does real texts.

A classifier predicts the level of each text from its perplexities: the run's own classifier (`classification` in the
config), one that `raysweep classify` fitted on its models' perplexities, or another run's own, which uses that run's
models.  The shares of levels that it predicts for filled texts are compared with those for the run's test documents of
the model's level: 1 minus half the sum of the absolute differences (the total variation distance) is 1 if the shares
are equal, and 0 if they are disjoint.  The run's own classifier and its models were not fitted on these documents;
another classifier may have been fitted on them, which is not checked, and then it predicts their levels better than
those of new texts.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from numpy.random import default_rng

from raysweep.classification.classifier_names import LOGISTIC, OWN
from raysweep.classification.predictions import ZERO_SHOT, read_predictions
from raysweep.errors import InputError
from raysweep.evidence.classified_levels import read_classification
from raysweep.inference.level_classifier import LevelClassifier
from raysweep.inference.loaded_run import LoadedRun, open_run
from raysweep.staging.run_command import run_command
from raysweep.storage.classification_files import ClassificationFolder

_MOST_COMPARED = 500
"""Most test documents per level that a classifier other than the run's own classifies."""
MAY_BE_FITTED_ON = "the run's test documents, which this classifier may have been fitted on (not checked)"
"""Describes the documents that filled texts are compared with, for a classifier other than the run's own."""


class LikenessMeter:
    """Counts the levels that a classifier predicts for texts, by the model that filled them."""

    def __init__(self, run: LoadedRun, classifier: Path | None = None) -> None:
        """Load the classifier and classify the run's test documents.

        Args:
            classifier: a file of `raysweep classify`, or another run's folder; the run's own classifier if None.

        Raises:
            InputError: there is no such classifier, it was fitted on other models than there are now, or the run has no
                test document.
        """
        self._classifier = _open_classifier(run, classifier)
        self.name = f"of {run.folder.root}" if classifier is None else f"in {classifier}"
        """Describes the classifier in messages."""
        self.compared_with = "the run's test documents, held out" if classifier is None else MAY_BE_FITTED_ON
        """Describes the documents that filled texts are compared with."""
        self._compared = "held-out" if classifier is None else "test"
        self._of_level = (
            held_out_shares(run) if classifier is None else shares_by_level(run, self._classifier, _MOST_COMPARED)
        )
        self._found: dict[str, Counter[str]] = {}

    def add(self, model: str, texts: Sequence[str]) -> None:
        """Classify and count texts that a model filled, except empty ones, which have no level."""
        kept = [text for text in texts if text.strip()]
        self._found.setdefault(model, Counter()).update(self._classifier.predict(kept)["level"])

    def describe(self, model: str, level: str | None) -> dict[str, float]:
        """Return the share of each level among the model's texts, and their likeness to documents of its level.

        Args:
            level: the level that the model was trained on; None for a model of several levels.
        """
        counts = self._found.get(model, Counter())
        if not counts.total():
            return {}
        shares = {name: counts[name] / counts.total() for name in self._classifier.levels}
        described = {f"taken for {name}": share for name, share in shares.items()}
        if level is None or level not in self._of_level:
            return described
        own = self._of_level[level]
        described |= {f"{self._compared} {level} taken for {name}": share for name, share in own.items()}
        distance = sum(abs(shares[name] - own[name]) for name in shares) / 2
        return {"learner_likeness": 1.0 - distance, **described}


def _open_classifier(run: LoadedRun, classifier: Path | None) -> LevelClassifier:
    if classifier is not None and classifier.is_dir():
        return open_run(classifier, run.device.type).level_classifier()
    return run.level_classifier(classifier)


def shares_by_level(run: LoadedRun, classifier: LevelClassifier, most: int) -> dict[str, dict[str, float]]:
    """Classify up to `most` test documents of each level; returns true level → predicted level → share.

    Raises:
        InputError: there is no test document.
    """
    columns = ["writing_id", "level", "split", "text"]
    documents = pd.read_parquet(run.folder.documents, columns=columns, page_checksum_verification=True)
    shuffled = documents[documents["split"] == "test"].sample(frac=1.0, random_state=default_rng(run.config.seed))
    rows = shuffled.groupby("level").head(most).sort_index()
    if rows.empty:
        raise InputError(
            f"{run.folder.documents}: found no test document, with which filled texts are compared; raise "
            f"data.split.test, and do {run_command(run.folder, '--force', 'prepare')}"
        )
    taken = classifier.predict(rows["text"], ids=rows["writing_id"].astype(str).tolist())["level"].to_numpy()
    counts = pd.crosstab(rows["level"].to_numpy(), taken, normalize="index")
    return {
        str(level): {name: float(row.get(name, 0.0)) for name in classifier.levels} for level, row in counts.iterrows()
    }


def held_out_shares(run: LoadedRun) -> dict[str, dict[str, float]]:
    """Read the run's own predictions as true level → predicted level → share; InputError if there are none."""
    levels = run.config.data.levels
    predicted = read_predictions(*read_classification(run.folder), levels)
    own = next((texts for texts in predicted if (texts.corpus, texts.way) == (OWN, ZERO_SHOT)), None)
    if own is None:
        raise InputError(
            f"{ClassificationFolder.of(run.folder).predictions}: found no test document of the run's own, with which "
            "filled texts are compared; raise data.split.test, and do "
            f"{run_command(run.folder, '--force', 'prepare')}"
        )
    taken = pd.Series(own.probabilities[LOGISTIC].argmax(axis=1)).map(dict(enumerate(levels)))
    counts = pd.crosstab(own.rows["level"].to_numpy(), taken, normalize="index")
    return {str(level): {name: float(row.get(name, 0.0)) for name in levels} for level, row in counts.iterrows()}
