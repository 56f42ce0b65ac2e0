"""Negative log-likelihoods of chosen tokens, in float32, without a table of logits.

The cost of a score is the vocabulary: 50,264 logits for every label.  They are made only where a
label is, and block by block (some rows × some columns), so that a block is summed up while it is
still in the cache.  Precision is float32 throughout, with TF32 off: bf16 keeps less than three
digits of a logit.

Axes: B examples, T positions, C width of the model, N labels, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from raysweep.evaluation.exponentials import add_exponentials
from raysweep.model.gpt2 import hidden_states

_CPU_BLOCK = (1024, 1024)  # 4 MB of logits: as fast as any of 6 sizes, 12,000 labels/s on one core at width 64
_GPU_BLOCK = (4096, 65536)  # 0.8 GB of logits at GPT-2's vocabulary


def label_nats(model: GPT2LMHeadModel, ids_BT: Tensor, chosen_BT: Tensor) -> Tensor:
    """−ln p(token | tokens before it) of the chosen tokens.

    Args:
        model: in eval mode; padding at the right end cannot change a result.
        ids_BT: token ids, int64.
        chosen_BT: which tokens are labels, bool; the first of an example is never one.

    Returns:
        (N,) nats, float32, example by example in text order.
    """
    next_BT = chosen_BT[:, 1:]
    hidden_BTC = hidden_states(model, ids_BT)
    return _cross_entropy(hidden_BTC[:, :-1][next_BT], model.lm_head.weight, ids_BT[:, 1:][next_BT])


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 means float32: TF32 is off inside, and no gradient is kept."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _cross_entropy(hidden_NC: Tensor, weight_VC: Tensor, labels_N: Tensor) -> Tensor:
    rows, columns = _GPU_BLOCK if hidden_NC.is_cuda else _CPU_BLOCK
    blocks = zip(torch.split(hidden_NC, rows), torch.split(labels_N, rows), strict=True)
    return torch.cat([_block_cross_entropy(hidden, weight_VC, labels, columns) for hidden, labels in blocks])


def _block_cross_entropy(hidden_NC: Tensor, weight_VC: Tensor, labels_N: Tensor, columns: int) -> Tensor:
    """ln Σ exp(logit − the label's logit): one pass over the logits, and a sum that is never below 1."""
    label_logits_N = (hidden_NC * weight_VC[labels_N]).sum(dim=-1)
    total_N = torch.zeros_like(label_logits_N)
    for part_VC in torch.split(weight_VC, columns):
        if hidden_NC.is_cuda:
            total_N += torch.addmm(-label_logits_N[:, None], hidden_NC, part_VC.T).exp_().sum(dim=-1)
        else:
            add_exponentials((hidden_NC @ part_VC.T).numpy(), label_logits_N.numpy(), total_N.numpy())
    nats_N = total_N.log()
    is_far_N = ~total_N.isfinite()  # a label 88 nats below another token: the sum is no float32 any more
    if is_far_N.any():
        far = hidden_NC[is_far_N] @ weight_VC.T
        nats_N[is_far_N] = torch.logsumexp(far, dim=-1) - label_logits_N[is_far_N]
    return nats_N
