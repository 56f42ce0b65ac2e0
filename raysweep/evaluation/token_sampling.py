"""Chooses the next token: the most likely one, or one drawn from the k most likely tokens or a nucleus.

Axes: B rows, V vocabulary.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raysweep.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """Settings for drawing tokens."""

    temperature: float = 1.0
    """Divisor of the logits; with 0 the most likely token is chosen."""
    top_k: int | None = None
    """Draw from the k most likely tokens; applied before `top_p`."""
    top_p: float | None = 0.95
    """Draw from the nucleus: the smallest set of most likely tokens with at least this probability."""

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
_GREEDY_BELOW = 1e-9
"""At a lower temperature only the most likely token has a chance; near 0 the quotients would become infinite."""


def choose_tokens(logits_BV: Tensor, draws_B: Tensor, sampling: Sampling) -> Tensor:
    """Choose one token for each row.

    Tokens of equal probability rank by their ids, and the token that crosses `top_p` is kept, so
    the nucleus is never empty.

    Args:
        logits_BV: −inf for forbidden tokens.
        draws_B: numbers in [0, 1), float64; the token of a row depends only on its logits and its draw.

    Returns:
        (B,) token ids, int64.

    Source: nucleus sampling of Holtzman et al. 2020 (ICLR).
    """
    if sampling.temperature < _GREEDY_BELOW:
        return logits_BV.argmax(dim=-1)
    probabilities_BV = torch.softmax(logits_BV.double() / sampling.temperature, dim=-1)
    # Sort only values; sorting ids too takes 16 times as long, which was most of the time of a small model.
    ranked_BV = _sort_values(probabilities_BV)
    places_B1 = _choose_places(ranked_BV.clone(), draws_B, sampling)
    chosen_B1 = ranked_BV.gather(-1, places_B1)
    among_equals_B1 = places_B1 - (probabilities_BV > chosen_B1).sum(dim=-1, keepdim=True)
    equals_BV = (probabilities_BV == chosen_B1).cumsum(dim=-1, dtype=torch.int32)
    return (equals_BV > among_equals_B1).to(torch.uint8).argmax(dim=-1)


def _sort_values(values_BV: Tensor) -> Tensor:
    """Sort each row in descending order; NumPy sorts with the CPU's vector instructions, torch does not."""
    if values_BV.is_cuda:
        return values_BV.sort(dim=-1, descending=True).values
    return torch.from_numpy(np.sort(values_BV.numpy(), axis=-1)).flip(-1)


def _choose_places(ranked_BV: Tensor, draws_B: Tensor, sampling: Sampling) -> Tensor:
    """Choose the ranks (B, 1) of the drawn tokens among probabilities in descending order, which are overwritten."""
    if sampling.top_k is not None:
        ranked_BV[:, sampling.top_k :] = 0.0
        ranked_BV /= ranked_BV.sum(dim=-1, keepdim=True)
    if sampling.top_p is not None:
        before_BV = ranked_BV.cumsum(dim=-1) - ranked_BV
        before_BV[:, 0] = -1.0  # the most likely token is always kept
        ranked_BV = ranked_BV.masked_fill(before_BV >= sampling.top_p, 0.0)
    cumulative_BV = ranked_BV.cumsum(dim=-1)
    targets_B1 = draws_B[:, None] * cumulative_BV[:, -1:]
    places_B1 = torch.searchsorted(cumulative_BV, targets_B1, right=True)
    last_B1 = (ranked_BV > 0.0).sum(dim=-1, keepdim=True) - 1  # parallel sums on a GPU are not strictly ascending
    return torch.minimum(places_B1, last_B1)
