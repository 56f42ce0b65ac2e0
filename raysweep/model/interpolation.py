"""Models between two models with the same architecture, by interpolating their weights.

A fine-tuned model lies near the model it starts from, so the models on the straight line between them work too, and
one of them is often better than both (WiSE-FT: Wortsman et al. 2022, CVPR).
"""

import torch
from transformers import GPT2LMHeadModel


def interpolate_weights(start: GPT2LMHeadModel, end: GPT2LMHeadModel, weight: float) -> None:
    """Replace the weights of `end` by those `weight` of the way from `start` to it: 0 gives `start`, 1 keeps `end`.

    Both ends are reproduced to the bit: from one half on, `torch.lerp` goes back from `end`.

    Args:
        weight: in [0, 1].
    """
    with torch.no_grad():
        # A tensor that two layers share (the output layer's is the embeddings') is met once.
        for first, last in zip(start.parameters(), end.parameters(), strict=True):
            last.copy_(torch.lerp(first, last, weight))
