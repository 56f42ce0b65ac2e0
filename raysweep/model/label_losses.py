"""Computes the loss of each label in nats without gradients, for validation and for scores (`scoring_pass`).

A block of logits is added up as soon as it is computed, while it is in the cache.

Axes: N labels, D width, V vocabulary, C labels in a chunk, K columns in a block, F labels far below another token.
"""

import math

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from raysweep.model.cpu_products import multiply_transposed
from raysweep.model.token_losses import PLAIN, MicroBatch, float32_product, label_states, product_type

_BLOCKS = {"cpu": (1024, 512), "cuda": (4096, 65536)}
"""Labels and columns of a block of logits: 2 MB on a CPU, 800 MB on a GPU."""
_NEAR_0 = 40.0
"""Nats.  A sum of powers that includes one of a logit this near to 0 does not underflow in float32."""
_LOG2_E = math.log2(math.e)


def score_labels(model: GPT2LMHeadModel, batch: MicroBatch) -> Tensor:
    """Compute each label's loss in nats (N,), float64, without gradients; in `torch.autocast` as `token_losses`."""
    return losses_of_states(label_states(model, batch, PLAIN), model.lm_head.weight, batch.labels_N)


def losses_of_states(states_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, *, always_shift: bool = True) -> Tensor:
    """Compute each label's loss in nats (N,), float64, from the inputs of the output layer.

    Args:
        always_shift: False saves a pass over float32 logits, which changes the last bits of the losses.
    """
    device = states_ND.device.type
    states_ND, weight_VD = (values.to(product_type(device)) for values in (states_ND, weight_VD))
    rows, columns = _BLOCKS.get(device, _BLOCKS["cpu"])
    with torch.autocast(device, enabled=False):
        chunks = zip(torch.split(states_ND, rows), torch.split(labels_N, rows), strict=True)
        return torch.cat([_chunk_losses(*chunk, weight_VD, columns, always_shift) for chunk in chunks])


def _chunk_losses(states_CD: Tensor, labels_C: Tensor, weight_VD: Tensor, columns: int, always_shift: bool) -> Tensor:
    """Compute ln Σ exp(logit − the label's logit), a sum of at least 1 up to rounding; unshifted, of at least exp(−40).

    The last bits of a label's loss depend on its neighbours in the chunk: they decide about the shift of all.
    Uses powers of 2 instead of e, because `torch.exp2` takes a quarter of the time of `torch.exp` on a CPU.
    """
    label_logits_C1 = (states_CD.float() * weight_VD[labels_C].float()).sum(1, keepdim=True)
    totals_C = torch.zeros(len(labels_C), device=states_CD.device)
    is_exact = states_CD.dtype == torch.float32
    # Scale before the product, D numbers per label instead of V, except in bfloat16, which would be rounded once more.
    scaled_CD = states_CD * _LOG2_E if is_exact else states_CD
    shifts_C1 = label_logits_C1 * _LOG2_E if is_exact else label_logits_C1
    has_shift = always_shift or not is_exact or not bool((label_logits_C1.abs() < _NEAR_0).all())
    for block_KD in torch.split(weight_VD, columns):
        logits_CK = _score_product(scaled_CD, block_KD)
        if has_shift:
            logits_CK.sub_(shifts_C1)
        totals_C += (logits_CK if is_exact else logits_CK.mul_(_LOG2_E)).exp2_().sum(1)
    losses_C = totals_C.double().log()
    if not has_shift:
        losses_C -= label_logits_C1[:, 0]
    # The sum overflows float32 if a token is 88 nats above the label, or without the shift above 0.
    is_far_C = ~totals_C.isfinite()
    if is_far_C.any():
        logits_FV = float32_product(states_CD[is_far_C], weight_VD.T).double()
        losses_C[is_far_C] = logits_FV.logsumexp(1) - label_logits_C1[is_far_C, 0]
    return losses_C


def _score_product(left_CD: Tensor, right_KD: Tensor) -> Tensor:
    is_exact = left_CD.dtype == torch.float32
    return multiply_transposed(left_CD, right_KD) if is_exact else float32_product(left_CD, right_KD.T)
