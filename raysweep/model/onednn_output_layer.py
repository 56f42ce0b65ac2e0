"""Computes the output layer's losses and gradients in float32 on a CPU, block by block, with products by oneDNN.

Three measures save passes over the logits.  A block of the vocabulary stays in the cache from its product to its
powers.  The division of the softmax is applied to rows of D numbers instead of V: to the gradient of the states, and to
the states before the gradient of the weight is computed from them.  Each power is written once and read once.

Blocks are stored as (K, C), so that the gradient of the weight needs no transposed copy of them.

Axes: N labels, D width, V vocabulary, C labels in a chunk, K tokens in a block of the vocabulary.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from raysweep.model.cpu_products import ROW_MULTIPLE, multiply_transposed

_MOST_LABELS = 1024
"""Labels in a chunk; their powers take 206 MB with GPT-2's vocabulary."""
_TOKENS = 512
"""Tokens in a block of the vocabulary: 2 MB of logits."""
_MOST_SUM = 2.0**60
"""With larger powers, the products with states and weights might overflow float32."""
_LOG2_E = math.log2(math.e)


def losses_and_gradients_in_blocks(
    states_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, weights_N: Tensor, weight_gradient_VD: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute each label's loss in nats (N,), and the gradient of their weighted sum for the states (N, D).

    Args:
        weight_gradient_VD: output, the gradient for the output layer's weight.
    """
    size = len(labels_N)
    count = max(1, -(-size // _MOST_LABELS))
    # All chunks are padded to the same size with labels of weight 0.
    filling = -size % (count * ROW_MULTIPLE)
    chunks = zip(
        pad(states_ND, (0, 0, 0, filling)).chunk(count),
        pad(labels_N, (0, filling)).chunk(count),
        pad(weights_N, (0, filling)).chunk(count),
        strict=True,
    )
    losses: list[Tensor] = []
    gradients: list[Tensor] = []
    for states_CD, labels_C, weights_C in chunks:
        losses_C, gradient_CD = _compute_chunk(
            states_CD, labels_C, weights_C, weight_VD, weight_gradient_VD, is_first=not losses
        )
        losses.append(losses_C)
        gradients.append(gradient_CD)
    return torch.cat(losses)[:size], torch.cat(gradients)[:size]


def _compute_chunk(
    states_CD: Tensor,
    labels_C: Tensor,
    weights_C: Tensor,
    weight_VD: Tensor,
    weight_gradient_VD: Tensor,
    *,
    is_first: bool,
) -> tuple[Tensor, Tensor]:
    """Compute the losses and the states' gradient of a chunk; the gradient of the weight is written for the first chunk
    and added for the others."""
    scaled_CD, label_weight_CD = states_CD * _LOG2_E, weight_VD[labels_C]
    label_bits_C = shifts_C = (scaled_CD * label_weight_CD).sum(1)
    powers, others_C, sums_DC = _powers_of_others(scaled_CD, weight_VD, labels_C, shifts_C)
    if not (others_C < _MOST_SUM).all():
        blocks = (multiply_transposed(block_KD, scaled_CD).amax(0) for block_KD in torch.split(weight_VD, _TOKENS))
        shifts_C = torch.stack(list(blocks)).amax(0)
        powers, others_C, sums_DC = _powers_of_others(scaled_CD, weight_VD, labels_C, shifts_C)
    totals_C = others_C + torch.exp2(label_bits_C - shifts_C)
    losses_C = totals_C.log() + (shifts_C - label_bits_C) / _LOG2_E
    factors_C1 = (weights_C / totals_C)[:, None]
    weighted_CD = states_CD * factors_C1
    write = Tensor.copy_ if is_first else Tensor.add_
    for powers_KC, gradient_KD in zip(powers, torch.split(weight_gradient_VD, _TOKENS), strict=True):
        write(gradient_KD, multiply_transposed(powers_KC, weighted_CD.T))
    # The error at the label itself is its probability − 1, which is minus the sum of the other probabilities.
    weight_gradient_VD.index_add_(0, labels_C, weighted_CD * others_C[:, None], alpha=-1.0)
    return losses_C, (sums_DC.T - label_weight_CD * others_C[:, None]) * factors_C1


def _powers_of_others(
    scaled_CD: Tensor, weight_VD: Tensor, labels_C: Tensor, shifts_C: Tensor
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Compute the powers 2^(logit − shift) by block (K, C), with 0 at the label; their sums (C,); and
    Σ power × weight (D, C)."""
    others_C = torch.zeros_like(shifts_C)
    sums_DC = torch.zeros_like(scaled_CD).T.contiguous()
    powers, blocks_C = [], labels_C // _TOKENS
    for number, block_KD in enumerate(torch.split(weight_VD, _TOKENS)):
        powers_KC = multiply_transposed(block_KD, scaled_CD).sub_(shifts_C).exp2_()
        columns = (blocks_C == number).nonzero().squeeze(1)
        powers_KC[labels_C[columns] % _TOKENS, columns] = 0.0
        others_C += powers_KC.sum(0)
        sums_DC = multiply_transposed(block_KD.T, powers_KC.T, plus_MN=sums_DC)
        powers.append(powers_KC)
    return powers, others_C, sums_DC
