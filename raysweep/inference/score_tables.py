"""Builds the table that `raysweep score` writes: a row per text with its scores under every model, and its level.

The table has sums in addition to perplexities, because only sums can be added up.  A value that does not exist is null,
such as the perplexity of a text without a token to predict, or an unknown level.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysweep.config.scored_metrics import MOST_NATS
from raysweep.inference.level_predictor import LevelPredictor
from raysweep.inference.text_tables import token_rows
from raysweep.masking.vocabulary import Vocabulary

if TYPE_CHECKING:
    from raysweep.evaluation.document_sums import Floats, Ints

Scores = Mapping[str, pa.Table]
"""Model → a row per text with the nats, tokens and bytes of the whole text, and of the answers to its masks."""


def score_table(texts: pa.Table, scores: Scores, predictor: LevelPredictor | None) -> pa.Table:
    """Join texts with their scores.

    Columns: the columns of `texts`; `tokens` and `bytes` (of the predicted tokens), `infill_tokens` and `infill_bytes`;
    for each model `nats_MODEL`, `perplexity_MODEL`, `infill_nats_MODEL` and `infill_perplexity_MODEL`; and, with a
    predictor, `probability_LEVEL` and `likeliest_level`.

    Args:
        texts: the columns `document` (its number), `writing_id`, `level` ('' if unknown), `learner`, `l1` and `prompt`.
    """
    first = next(iter(scores.values()))
    columns: dict[str, pa.Array] = {name: texts[name] for name in texts.column_names if name != "text"}
    columns["level"] = pc.if_else(pc.equal(texts["level"], ""), pa.scalar(None, texts["level"].type), texts["level"])
    columns |= {name: first[name] for name in ("tokens", "bytes", "infill_tokens", "infill_bytes")}
    for model, table in scores.items():
        for kind in ("", "infill_"):
            nats_D, tokens_D = table[f"{kind}nats"].to_numpy(), table[f"{kind}tokens"].to_numpy()
            columns[f"{kind}nats_{model}"] = pa.array(nats_D)
            columns[f"{kind}perplexity_{model}"] = _perplexities(nats_D, tokens_D)
    if predictor is not None:
        experts = {level: scores[model.name] for level, model in predictor.models.items()}
        nats_DK = np.stack([table["nats"].to_numpy() for table in experts.values()], axis=1)
        probabilities_DK = predictor.posterior(nats_DK)
        columns |= {f"probability_{level}": pa.array(probabilities_DK[:, k]) for k, level in enumerate(experts)}
        columns["likeliest_level"] = pa.array(list(experts)).take(pa.array(probabilities_DK.argmax(axis=1)))
    return pa.table(columns)


def token_scores_table(
    texts: pa.Table, nats: Mapping[str, "Floats"], counts_D: "Ints", vocabulary: Vocabulary
) -> pa.Table:
    """Build a table with a row per token: `document`, `writing_id`, `token`, `start`, `stop`, `piece`, `nats_MODEL` ….

    Args:
        nats: model → nats of all tokens of the texts, NaN for the first token of a text.
        counts_D: number of tokens of each text, including the first.
    """
    rows = token_rows(texts["text"].to_pylist(), counts_D, vocabulary)
    places = pa.array(rows.pop("text"))
    return pa.table(
        {
            "document": texts["document"].take(places),
            "writing_id": texts["writing_id"].take(places),
            **rows,
            **{f"nats_{model}": pa.array(values, from_pandas=True) for model, values in nats.items()},
        }
    )


def _perplexities(nats_D: "Floats", tokens_D: "Ints") -> pa.Array:
    is_known_D = tokens_D > 0
    means_D = np.minimum(nats_D / np.maximum(tokens_D, 1), MOST_NATS)
    return pa.array(np.exp(means_D), mask=~is_known_D)
