"""Every score that the losses give: each trained model (all seeds), level and metric.

Three ways to add up the same sums: perplexity over all tokens (a long text counts more), the geometric
mean of the documents' perplexities (every text counts the same), and bits per byte of the text, which
does not depend on how a tokenizer cuts it.  Scores of different levels, or metrics, are of different
texts: they are never ranked against each other.
"""

from collections.abc import Sequence
from math import exp, log
from typing import Any

import numpy as np

from raysweep.evidence.lineup import Entrant
from raysweep.statistics.loss_table import LevelLosses, LossTable

SCORED = ("infill", "infill_textonly", "context")
_OVERFLOW = 700.0

Values = dict[str, Any]


def describe_scores(table: LossTable, entrants: Sequence[Entrant]) -> list[Values]:
    """A row per metric, model and level, in the report's order of models."""
    owners = [(one, seed, model) for one in entrants for seed, model in one.models.items()]
    selected = {metric: table.select(metric) for metric in SCORED}
    return [
        {
            "metric": metric,
            "entry": entrant.name,
            "model": model,
            "seed": seed,
            "role": entrant.role,
            "level": level,
            **_score(losses, table.models.index(model)),
        }
        for metric, by_level in selected.items()
        for entrant, seed, model in owners
        for level, losses in by_level.items()
    ]


def _score(losses: LevelLosses, column: int) -> Values:
    nats_D = losses.nats[:, column]
    nats, tokens = float(nats_D.sum()), int(losses.tokens.sum())
    size = None if losses.bytes is None else int(losses.bytes.sum())
    return {
        "documents": len(losses.documents),
        "tokens": tokens,
        "bytes": size,
        "nats": nats,
        "perplexity": exp(min(nats / tokens, _OVERFLOW)),
        "document_perplexity": exp(min(float(np.mean(nats_D / losses.tokens)), _OVERFLOW)),
        "bits_per_byte": nats / log(2.0) / size if size else None,
    }
