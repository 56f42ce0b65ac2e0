"""Predicts the level of a text: the probability of each level, from the perplexities under the levels' models.

    p(level k | text) ∝ share of the training documents of k × exp(−nats of the text under model k / T)

T is the temperature of the run's report (`statistics.calibration_of_levels`): without it the probabilities of long
texts are far too confident.  It was fitted on test documents of which the first mask hid a part.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from raysweep.inference.text_tables import read_texts
from raysweep.inference.trained_model import TrainedModel
from raysweep.statistics.level_posterior import log_posterior

if TYPE_CHECKING:
    from raysweep.evaluation.document_sums import Floats
    from raysweep.evidence.robustness_schema import Share


@dataclass(frozen=True, kw_only=True)
class LevelPredictor:
    """The levels' models of one family, with their prior shares and the temperature."""

    family: str
    """'specialised' for the models of a single level, or 'transfer' for the fine-tuned models."""
    models: Mapping[str, TrainedModel]
    """Level → model, lowest level first."""
    shares: Mapping[str, float]
    """Level → number of training documents."""
    temperature: float
    """The temperature; 1 if the run has too few documents to fit it."""
    accuracy: "Share | None"
    """The share of the run's test documents for which the model with the lowest perplexity was that of the right level.

    These documents were read without what a mask hid, and neither `shares` nor `temperature` was used, so the levels of
    `predict` may be right more or less often.  None if it was not measured.
    """

    def predict(self, texts: str | Iterable[str]) -> pd.DataFrame:
        """Compute the probability of each level for each text.

        The table has a row per text, in order: `text` (its number), `level` (the most likely one), and a column per
        level.  For a text of a single token, which is not predicted, only the shares matter.

        Raises:
            InputError: a text is not a string, is empty, or cannot be encoded in UTF-8.
            DamagedError: a model's files are missing or were changed.
        """
        checked = read_texts(texts, may_be_empty=False)
        scores = [model.score_texts(checked.texts, checked.ids, infills=False) for model in self.models.values()]
        probabilities_DK = self.posterior(np.stack([score.nats for score in scores], axis=1))
        levels = np.array(list(self.models))
        table = {"text": np.arange(len(checked.texts)), "level": levels[probabilities_DK.argmax(axis=1)]}
        return pd.DataFrame({**table, **dict(zip(levels.tolist(), probabilities_DK.T, strict=True))})

    def posterior(self, nats_DK: "Floats") -> "Floats":
        """Compute the probabilities (D, K) from the nats of D texts under the levels' models."""
        shares_K = [self.shares[level] for level in self.models]
        probabilities_DK: Floats = np.exp(log_posterior(nats_DK / self.temperature, shares_K))
        return probabilities_DK
