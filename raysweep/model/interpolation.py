"""Interpolates the weights of two models with the same architecture.

The weights of a fine-tuned model are close to those of the model it started from, so the models on the straight line
between them work too, and are often better than both (WiSE-FT: Wortsman et al. 2022, CVPR).
"""

import torch
from transformers import GPT2LMHeadModel


def interpolate_weights(start: GPT2LMHeadModel, end: GPT2LMHeadModel, weight: float) -> None:
    """Replace the weights of `end` by start + weight · (end − start): 0 gives `start`, 1 keeps `end`.

    Both ends are reproduced to the bit: from a weight of 0.5 on, `torch.lerp` starts from `end`.

    Args:
        weight: in [0, 1].
    """
    with torch.no_grad():
        # `parameters()` yields a shared tensor once; the output layer shares its weight with the embeddings.
        for first, last in zip(start.parameters(), end.parameters(), strict=True):
            last.copy_(torch.lerp(first, last, weight))
