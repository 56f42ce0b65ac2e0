"""The metrics: which tokens of an example count, what people call them, and perplexity."""

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
"""exp of little more overflows a float; a model this bad is bad enough."""


def perplexity(nats_per_token: float) -> float:
    """exp of a loss, or a ratio of perplexities from a difference of losses; capped at exp(`MOST_NATS`)."""
    return exp(min(nats_per_token, MOST_NATS))
