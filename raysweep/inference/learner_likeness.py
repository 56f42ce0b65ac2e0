"""Learner-likeness of generated texts: are they taken for texts of their model's level as that level's own texts are?

A classifier tells the level of each text from its perplexities: the run's own (`classification` in the config), one
that `raysweep classify` fitted on its models' perplexities, or another run's own, which asks that run's models.
The shares of levels that it gives to filled texts are compared with those that it gives to the run's test documents of
the model's level: 1 minus half the sum of the absolute differences (the total variation distance) is 1 if they are told
alike, and 0 if they never are.  From the run's own classifier and from its models these documents are held out; another
classifier may have been fitted on them, which is not checked, and then it tells their levels better than those of new
texts.
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
"""Test documents of a level that another classifier than the run's own is asked about."""
MAY_BE_FITTED_ON = "the run's test documents, which this classifier may have been fitted on (not checked)"
"""What filled texts are compared with under another classifier than the run's own, for a person."""


class LikenessMeter:
    """Counts the levels that a classifier gives to texts, by the model that filled them."""

    def __init__(self, run: LoadedRun, classifier: Path | None = None) -> None:
        """Args: `classifier` is a file of `raysweep classify`, or another run's folder; the run's own if None.

        Raises:
            InputError: there is no such classifier, it reads other models than there are now, or the run has no test
                document.
        """
        self._classifier = _open_classifier(run, classifier)
        self.name = f"of {run.folder.root}" if classifier is None else f"in {classifier}"
        """Which classifier it is, for a person."""
        self.compared_with = "the run's test documents, held out" if classifier is None else MAY_BE_FITTED_ON
        """Which texts filled ones are compared with, for a person."""
        self._compared = "held-out" if classifier is None else "test"
        self._of_level = (
            held_out_shares(run) if classifier is None else shares_by_level(run, self._classifier, _MOST_COMPARED)
        )
        self._found: dict[str, Counter[str]] = {}

    def add(self, model: str, texts: Sequence[str]) -> None:
        """Classify texts that a model filled."""
        self._found.setdefault(model, Counter()).update(self._classifier.predict(texts)["level"])

    def describe(self, model: str, level: str | None) -> dict[str, float]:
        """The share of each level among the model's texts, and how like they are to those of its own level.

        Args:
            level: the one that the model was trained on; None for a model of several.
        """
        found = self._found.get(model, Counter())
        if not found.total():
            return {}
        shares = {each: found[each] / found.total() for each in self._classifier.levels}
        described = {f"taken for {each}": share for each, share in shares.items()}
        if level is None or level not in self._of_level:
            return described
        own = self._of_level[level]
        described |= {f"{self._compared} {level} taken for {each}": share for each, share in own.items()}
        distance = sum(abs(shares[each] - own[each]) for each in shares) / 2
        return {"learner_likeness": 1.0 - distance, **described}


def _open_classifier(run: LoadedRun, classifier: Path | None) -> LevelClassifier:
    if classifier is not None and classifier.is_dir():
        return open_run(classifier, run.device.type).level_classifier()
    return run.level_classifier(classifier)


def shares_by_level(run: LoadedRun, classifier: LevelClassifier, most: int) -> dict[str, dict[str, float]]:
    """By true level: the share of each level among what the classifier takes the run's test documents for.

    Args:
        most: documents of a level that are asked about, drawn by the run's seed.

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
        str(level): {each: float(row.get(each, 0.0)) for each in classifier.levels} for level, row in counts.iterrows()
    }


def held_out_shares(run: LoadedRun) -> dict[str, dict[str, float]]:
    """By true level: the share of each level among what the logistic regression takes the test documents for.

    Raises:
        InputError: no test document was classified.
    """
    levels = run.config.data.levels
    predicted = read_predictions(*read_classification(run.folder), levels)
    own = next((each for each in predicted if (each.corpus, each.way) == (OWN, ZERO_SHOT)), None)
    if own is None:
        raise InputError(
            f"{ClassificationFolder.of(run.folder).predictions}: found no test document of the run's own, with which "
            "filled texts are compared; raise data.split.test, and do "
            f"{run_command(run.folder, '--force', 'prepare')}"
        )
    taken = pd.Series(own.probabilities[LOGISTIC].argmax(axis=1)).map(dict(enumerate(levels)))
    counts = pd.crosstab(own.rows["level"].to_numpy(), taken, normalize="index")
    return {str(level): {each: float(row.get(each, 0.0)) for each in levels} for level, row in counts.iterrows()}
