"""Texts of known level with their perplexities, on which classifiers are fitted and tested.

The losses come from a table with a row per text: `level`, `learner` (null if unknown), `tokens` and `infill_tokens`,
and for each model `nats_MODEL` and `infill_nats_MODEL`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raysweep.statistics.loss_table import Floats, Ints

_NATS = "nats_"
KINDS = ("", "infill_")
"""Prefixes of the columns: losses of the whole text, and of the answers to its masks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredTexts:
    """D texts of known level with their features."""

    texts: Sequence[str]
    """Empty strings if only the losses are known, as in a bundle; then no classifier that reads texts can be fitted."""
    lengths: Floats
    """(D, 2) numbers of characters and words."""
    levels: Ints
    """(D,) indices into the known levels, lowest first."""
    groups: Sequence[str]
    """(D,) the learner of each text, or a unique name if the learner is unknown."""
    features: Mapping[str, Floats]
    """Model → (D, 2) nats per token of the whole text and of the answers to its masks, NaN without tokens."""

    def take(self, rows: Ints) -> "ScoredTexts":
        """Select texts by index."""
        return ScoredTexts(
            texts=[self.texts[row] for row in rows],
            lengths=self.lengths[rows],
            levels=self.levels[rows],
            groups=[self.groups[row] for row in rows],
            features={model: values[rows] for model, values in self.features.items()},
        )

    def matrix(self, models: Sequence[str]) -> Floats:
        """Concatenate the features of these models, (D, 2 M)."""
        return np.concatenate([self.features[model] for model in models], axis=1)


def models_of(columns: Iterable[Any]) -> tuple[str, ...]:
    """List the models whose losses a table has, in the order of its columns."""
    return tuple(str(name).removeprefix(_NATS) for name in columns if str(name).startswith(_NATS))


def loss_columns(model: str) -> tuple[str, str]:
    """Return the names of a model's columns of losses: for whole texts, and for the answers to masks."""
    return f"{_NATS}{model}", f"infill_{_NATS}{model}"


def measure_lengths(texts: Sequence[str]) -> Ints:
    """Count the characters and words of each text, (D, 2)."""
    return np.array([(len(text), len(text.split())) for text in texts], dtype=np.int64).reshape(-1, 2)


def read_scored_texts(
    table: pd.DataFrame, levels: Sequence[str], *, lengths: Ints, texts: Sequence[str] | None = None
) -> ScoredTexts:
    """Read texts of known level from the table of their losses.

    Args:
        table: a row per text, each of a known level.
        texts: None if only the losses are known.
    """
    learners = _plain(table["learner"])
    return ScoredTexts(
        texts=[""] * len(table) if texts is None else texts,
        lengths=lengths.astype(np.float64),
        levels=np.array([list(levels).index(level) for level in table["level"]], dtype=np.int64),
        groups=[f"text {row}" if learner is None else f"by {learner}" for row, learner in enumerate(learners)],
        features={model: np.stack(list(_per_token(table, model)), axis=1) for model in models_of(table.columns)},
    )


def group_codes(groups: Sequence[str]) -> Ints:
    """Number the group of each text (D,) by first appearance, so that renaming the groups changes nothing."""
    return np.asarray(pd.factorize(np.array(groups, dtype=object))[0], dtype=np.int64)


def _per_token(table: pd.DataFrame, model: str) -> Iterator[Floats]:
    for kind, name in zip(KINDS, loss_columns(model), strict=True):
        tokens_D = table[f"{kind}tokens"].to_numpy(dtype=np.float64)
        nats_D = table[name].to_numpy(dtype=np.float64)
        yield np.where(tokens_D > 0, nats_D / np.maximum(tokens_D, 1.0), np.nan)


def _plain(column: Any) -> list[Any]:
    return [None if pd.isna(value) else value for value in column.tolist()]
