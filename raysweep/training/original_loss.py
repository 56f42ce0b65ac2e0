"""Computes the loss like the original ILM code, as a reference for our loss and our speed.

It uses rows padded to 256 tokens, float32, eager attention, logits at every position, and a cross entropy over
all positions for each of the two parts.  Only the benchmark and the tests use it.

Axes: B examples, T tokens, V vocabulary.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GPT2LMHeadModel
from transformers.activations import ACT2FN

from raysweep.masking.example_store import Batch
from raysweep.masking.vocabulary import TargetType

ROW_TOKENS = 256
_IGNORED = -1


def as_original(model: GPT2LMHeadModel) -> GPT2LMHeadModel:
    """Give the model eager attention and the original activation, in place."""
    model.set_attn_implementation("eager")
    return as_transformers(model)


def as_transformers(model: GPT2LMHeadModel) -> GPT2LMHeadModel:
    """Give the model the activation function of `transformers`, in place."""
    blocks: Any = model.transformer.h
    for block in blocks:
        block.mlp.act = ACT2FN[model.config.activation_function]
    return model


def original_loss(model: GPT2LMHeadModel, batch: Batch, device: torch.device, row_tokens: int = ROW_TOKENS) -> Tensor:
    """Compute the mean over the batch's answer labels plus the mean over its context labels; NaN if a part has none."""
    ids_BT = _full_rows(batch.ids_BT, row_tokens).long().to(device)
    types_BT = _full_rows(batch.types_BT, row_tokens).to(device)
    logits_BTV = model(ids_BT).logits[:, :-1]
    parts = ((TargetType.CONTEXT,), (TargetType.INFILL, TargetType.INFILL_SPECIAL))
    return torch.stack([_part_loss(logits_BTV, ids_BT, types_BT, part) for part in parts]).sum()


def _part_loss(logits_BTV: Tensor, ids_BT: Tensor, types_BT: Tensor, part: tuple[TargetType, ...]) -> Tensor:
    is_label_BT = torch.isin(types_BT, torch.tensor(part, dtype=types_BT.dtype, device=types_BT.device))
    labels_BT = torch.where(is_label_BT, ids_BT, _IGNORED)[:, 1:]
    return cross_entropy(logits_BTV.flatten(0, 1), labels_BT.flatten(), ignore_index=_IGNORED)


def _full_rows(rows_BT: np.ndarray[Any, np.dtype[Any]], tokens: int) -> Tensor:
    return torch.from_numpy(np.pad(rows_BT, ((0, 0), (0, max(0, tokens - rows_BT.shape[1])))))
