"""The forward pass of GPT-2 for scoring: without gradients and dropout, and in the last block only for the labels.

Attention reads the keys and values of every position, but the rest of the last block is needed only for the positions
that predict a label: half of the positions of the default run's test examples.  On a CPU, GELU and the residual sums
are fused into the products (`cpu_products`).  Training and its validation use the forward pass of transformers
(`gpt2.hidden_states`); the results differ in the last bits.

Axes: B examples, T tokens, P their B × T positions, N labels, D width, H heads.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import GPT2LMHeadModel

from raysweep.model.cpu_products import multiply_transposed
from raysweep.model.label_losses import losses_of_states
from raysweep.model.token_losses import MicroBatch


def score_batch(model: GPT2LMHeadModel, batch: MicroBatch) -> Tensor:
    """Compute each label's loss in nats (N,), float64; call it without gradients, and with one example per row."""
    assert batch.owners_BT is None, "packed rows need a mask"
    states_ND = states_of_labels(model, batch.ids_BT, batch.positions_N)
    return losses_of_states(states_ND, model.lm_head.weight, batch.labels_N, always_shift=False)


def states_of_labels(model: GPT2LMHeadModel, ids_BT: Tensor, positions_N: Tensor) -> Tensor:
    """Compute the input of the output layer (N, D) at these positions; padding must be on the right."""
    transformer: Any = model.transformer
    states_BTD = transformer.wte(ids_BT) + transformer.wpe.weight[: ids_BT.shape[1]]
    states_PD = states_BTD.flatten(0, 1)
    for number, block in enumerate(transformer.h, start=1):
        attended_PD = _attend(block.attn, block.ln_1(states_PD), ids_BT.shape)
        if number == len(transformer.h):
            attended_PD, states_PD = (values.index_select(0, positions_N) for values in (attended_PD, states_PD))
        states_PD = _linear(block.attn.c_proj, attended_PD, plus_PD=states_PD)
        states_PD = _linear(block.mlp.c_proj, _inner(block.mlp, block.ln_2(states_PD)), plus_PD=states_PD)
    normalised_ND: Tensor = transformer.ln_f(states_PD)
    return normalised_ND


def _attend(attention: Any, states_PD: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Compute causal self-attention (P, D) without its output projection."""
    queries, keys, values = (
        part_PD.view(*shape, attention.num_heads, attention.head_dim).transpose(1, 2)
        for part_PD in torch.split(_linear(attention.c_attn, states_PD), states_PD.shape[1], dim=1)
    )
    attended_BHTd = scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=attention.scaling)
    return attended_BHTd.transpose(1, 2).reshape(states_PD.shape)


def _inner(mlp: Any, states_PD: Tensor) -> Tensor:
    """Compute the wide layer of a block's MLP and its activation."""
    if isinstance(mlp.act, nn.GELU) and mlp.act.approximate == "tanh":
        return _linear(mlp.c_fc, states_PD, gelu=True)
    activated: Tensor = mlp.act(_linear(mlp.c_fc, states_PD))
    return activated


def _linear(layer: Any, states_PD: Tensor, *, plus_PD: Tensor | None = None, gelu: bool = False) -> Tensor:
    return multiply_transposed(states_PD, layer.weight.T, layer.bias, plus_MN=plus_PD, gelu=gelu)
