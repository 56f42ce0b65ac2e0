"""Predicts the levels of new texts with a fitted classifier, after computing their perplexities."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raysweep.inference.text_tables import read_texts
from raysweep.inference.trained_model import TrainedModel
from raysweep.scheduling.records import read_record
from raysweep.scheduling.trials import START_MODEL
from raysweep.staging.run_command import run_command
from raysweep.storage.digests import read_sealed
from raysweep.storage.run_files import tokenizer_digest
from raysweep.storage.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class LevelClassifier:
    """A classifier of levels; get it from `raysweep.load(run).level_classifier("classification.skops")`."""

    pipeline: Any
    """The fitted scikit-learn pipeline."""
    levels: tuple[str, ...]
    models: Mapping[str, TrainedModel]
    """The models whose perplexities are its features, in the order of the features."""

    def predict(self, texts: str | Iterable[str], *, ids: Sequence[str] | None = None) -> pd.DataFrame:
        """Compute the probability of each level for each text.

        The table has a row per text, in order: `text` (its number), `level` (the most likely one), and a column per
        level.

        Args:
            ids: names of the texts, which determine their masks; see `TrainedModel.score`.

        Raises:
            InputError: a text is not a string, is empty, or cannot be encoded in UTF-8.
        """
        checked = read_texts(texts, ids, may_be_empty=False)
        columns = []
        for model in self.models.values():
            scores = model.score_texts(checked.texts, checked.ids)
            for nats, tokens in ((scores.nats, scores.tokens), (scores.infill_nats, scores.infill_tokens)):
                columns.append(np.where(tokens > 0, nats / np.maximum(tokens, 1), np.nan))
        probabilities_DK = np.zeros((len(checked.texts), len(self.levels)))
        if checked.texts:
            of_classes = self.pipeline.predict_proba(np.stack(columns, axis=1))
            probabilities_DK[:, self.pipeline.classes_.astype(np.int64)] = of_classes
        table = {
            "text": np.arange(len(checked.texts)),
            "level": np.array(self.levels)[probabilities_DK.argmax(axis=1)],
        }
        return pd.DataFrame({**table, **dict(zip(self.levels, probabilities_DK.T, strict=True))})


def model_digest_of(run: RunFolder, name: str) -> str:
    """Read the digest of a trained model from its record; '' if it is not trained.

    For the common start, which is determined by the settings, return the digest of the run's own tokenizer; '' if it
    has none.
    """
    if name != START_MODEL:
        record = read_record(run.trial(name), fix=f"train it again with {run_command(run, '--force', name)}")
        return "" if record is None else record.model_digest
    fix = f"make it again with {run_command(run)}"
    stages = read_sealed(run.record, fix=fix)["stages"] if run.record.exists() else {}
    return tokenizer_digest(stages.get("mask", {}).get("outputs", {}))
