"""The metrics: the tokens of an example that each counts, their names in reports, and perplexity."""

from math import exp
from typing import Literal, get_args

Metric = Literal["infill", "infill_textonly", "context"]
METRICS: tuple[str, ...] = get_args(Metric)
METRIC_PARTS: dict[str, tuple[str, ...]] = {
    # metric: the parts of an example whose losses are summed
    "infill": ("answer", "end"),
    "infill_textonly": ("answer",),
    "context": ("context",),
}
METRIC_NAMES: dict[str, str] = {
    "infill": "answers, with the token that ends each",
    "infill_textonly": "the text of the answers",
    "context": "the text around the blanks",
}
MOST_NATS = 700.0
"""Losses are capped here, because exp of a slightly larger number overflows a float."""


def perplexity(nats_per_token: float) -> float:
    """Compute a perplexity from a loss, or a ratio of perplexities from a difference of losses, capped at
    exp(`MOST_NATS`)."""
    return exp(min(nats_per_token, MOST_NATS))
