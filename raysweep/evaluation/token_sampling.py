"""Chooses the next token: the likeliest, or one drawn from the likeliest k or a nucleus.

Axes: B rows, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from raysweep.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How tokens are drawn."""

    temperature: float = 1.0
    """Divisor of the logits; with 0 the likeliest token is taken."""
    top_k: int | None = None
    """Draw from the k likeliest tokens; applied before `top_p`."""
    top_p: float | None = 0.95
    """Draw from the nucleus: the smallest set of likeliest tokens with at least this much probability."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise InputError(
                f"temperature: found {self.temperature:g}; must be 0 (the likeliest token) or a number above"
            )
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k: found {self.top_k}; must be at least 1, or absent")
        if self.top_p is not None and not 0.0 <= self.top_p <= 1.0:
            raise InputError(f"top_p: found {self.top_p:g}; must be between 0 and 1, or absent")


GREEDY = Sampling(temperature=0.0)
_HEAD = 4096
"""Tokens that are ranked at first."""
_GREEDY_BELOW = 1e-9
"""A temperature so near 0 leaves the likeliest token alone; one still nearer would make the quotients infinite."""


def choose_tokens(logits_BV: Tensor, draws_B: Tensor, sampling: Sampling) -> Tensor:
    """One token for each row.

    Tokens of equal probability rank by their ids, and the token that crosses `top_p` is kept, so
    the nucleus is never empty.

    Args:
        logits_BV: −inf where a token is forbidden.
        draws_B: numbers in [0, 1), float64; a row's token depends on its logits and its draw alone.

    Returns:
        (B,) token ids, int64.

    Source: nucleus sampling of Holtzman et al. 2020 (ICLR).
    """
    if sampling.temperature < _GREEDY_BELOW:
        return logits_BV.argmax(dim=-1)
    probabilities_BV = torch.softmax(logits_BV.double() / sampling.temperature, dim=-1)
    if sampling.top_k is not None or sampling.top_p is None or probabilities_BV.shape[1] <= _HEAD:
        return _choose_ranked(*probabilities_BV.sort(dim=-1, descending=True, stable=True), draws_B, sampling)
    # Sorting the whole vocabulary takes most of the time of a small model, and a nucleus is hardly ever that large.
    head_BK, ids_BK = _rank_head(probabilities_BV)
    chosen_B = _choose_ranked(head_BK.clone(), ids_BK, draws_B, sampling)
    large_B = ~_holds_nucleus(head_BK, sampling.top_p)
    if large_B.any():
        ranked = probabilities_BV[large_B].sort(dim=-1, descending=True, stable=True)
        chosen_B[large_B] = _choose_ranked(*ranked, draws_B[large_B], sampling)
    return chosen_B


def _rank_head(probabilities_BV: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest tokens in descending order, those of equal probability by their ids; and their ids."""
    values_BK, ids_BK = probabilities_BV.topk(_HEAD, dim=-1)
    ids_BK, order_BK = ids_BK.sort(dim=-1)
    values_BK, by_value_BK = values_BK.gather(-1, order_BK).sort(dim=-1, descending=True, stable=True)
    return values_BK, ids_BK.gather(-1, by_value_BK)


def _holds_nucleus(head_BK: Tensor, top_p: float) -> Tensor:
    """Whether the nucleus ends within the head, before tokens as likely as those that were left out."""
    before_BK = head_BK.cumsum(dim=-1) - head_BK
    size_B = (before_BK < top_p).sum(dim=-1)
    untied_B = (head_BK > head_BK[:, -1:]).sum(dim=-1)
    # A margin, so that rounding further down cannot matter.
    return (size_B <= untied_B) & (before_BK[:, -1] >= top_p + 1e-9)


def _choose_ranked(ranked_BV: Tensor, ids_BV: Tensor, draws_B: Tensor, sampling: Sampling) -> Tensor:
    """The tokens that the draws choose among tokens in descending order of probability."""
    if sampling.top_k is not None:
        ranked_BV[:, sampling.top_k :] = 0.0
        ranked_BV /= ranked_BV.sum(dim=-1, keepdim=True)
    if sampling.top_p is not None:
        before_BV = ranked_BV.cumsum(dim=-1) - ranked_BV
        before_BV[:, 0] = -1.0  # the likeliest token stays, whatever top_p
        ranked_BV = ranked_BV.masked_fill(before_BV >= sampling.top_p, 0.0)
    cumulative_BV = ranked_BV.cumsum(dim=-1)
    targets_B1 = draws_B[:, None] * cumulative_BV[:, -1:]
    places_B1 = torch.searchsorted(cumulative_BV, targets_B1, right=True)
    last_B1 = (ranked_BV > 0.0).sum(dim=-1, keepdim=True) - 1  # a GPU's parallel sums are not quite ascending
    return ids_BV.gather(-1, torch.minimum(places_B1, last_B1))[:, 0]
