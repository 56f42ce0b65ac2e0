"""Computes losses in nats per label from hidden states, with their gradients, for training.

About one position in eight is padding or never predicted, and the output layer is most of a small model: with GPT-2's
vocabulary there are 50,264 logits per position.  Therefore the hidden states that predict a label are gathered first,
and the output layer runs over them in chunks.  The full table of logits never exists.

`token_losses` computes the losses and their gradients in one pass; without gradients see `label_losses`.

Axes: B examples, T tokens, N labels, D width, V vocabulary, C labels in a chunk.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from raysweep.masking.vocabulary import TargetType
from raysweep.model.cpu_products import is_onednn_training
from raysweep.model.gpt2 import hidden_states
from raysweep.model.onednn_output_layer import losses_and_gradients_in_blocks

PARTS: tuple[str, ...] = ("context", "infill", "infill_textonly")
"""The scores: text of the context, answers with their end tokens, and answers without them."""

CONTEXT, INFILL_END, INFILL_TEXT = 0, 1, 2
"""Classes of labels; `part_sums` adds them up to `PARTS`."""
IGNORED = 3
"""The class of padding labels, which are not counted; they give micro-batches the same number of labels."""

_CLASS_OF_TYPE = np.full(256, 255, dtype=np.uint8)
_CLASS_OF_TYPE[[TargetType.CONTEXT, TargetType.INFILL_SPECIAL, TargetType.INFILL]] = CONTEXT, INFILL_END, INFILL_TEXT

_CHUNK_LABELS = {"cpu": 128, "cuda": 4096}
"""Labels per chunk: 25 MB of float32 logits fit into a CPU's cache; 800 MB keep a GPU busy."""
_CHUNK_LABELS_BF16 = {"cpu": 256}
"""Larger chunks save passes over the float32 gradient of the output layer, which take longer than bfloat16 products."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """The tokens to be predicted in a batch, and the positions that predict them."""

    positions_N: npt.NDArray[np.int64]  # noqa: N815
    """Index into (B × T) of the position *before* the label, which predicts it."""
    ids_N: npt.NDArray[np.int64]  # noqa: N815
    classes_N: npt.NDArray[np.uint8]  # noqa: N815
    """CONTEXT, INFILL_END or INFILL_TEXT."""

    def counts(self) -> npt.NDArray[np.int64]:
        """Count the labels of each of the three classes."""
        return np.bincount(self.classes_N, minlength=len(PARTS))


def find_labels(
    ids_BT: npt.NDArray[np.int32],
    types_BT: npt.NDArray[np.uint8],
    *,
    context: bool | npt.NDArray[np.bool_] = True,
    infill: bool = True,
) -> Labels:
    """Find the labels of a batch in reading order: its inputs shifted by one.

    The first token of an example, blanks and the start token are never predicted.

    Args:
        context: whether context tokens are labels; one value for all examples, or one per example as a column (B, 1).
        infill: whether the tokens of answers are labels.
    """
    classes_BT = _CLASS_OF_TYPE[types_BT[:, 1:]]
    wanted_BT = ((classes_BT == CONTEXT) & context) | (
        ((classes_BT == INFILL_END) | (classes_BT == INFILL_TEXT)) & infill
    )
    rows, columns = np.nonzero(wanted_BT)
    return Labels(
        positions_N=rows * ids_BT.shape[1] + columns,
        ids_N=ids_BT[rows, columns + 1].astype(np.int64),
        classes_N=classes_BT[rows, columns],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """Rows on the device, with their labels."""

    ids_BT: Tensor  # noqa: N815
    positions_N: Tensor  # noqa: N815
    """The columns of `Labels`, all int64, as `index_select` and `index_add_` require."""
    labels_N: Tensor  # noqa: N815
    classes_N: Tensor  # noqa: N815
    places_BT: Tensor | None = None  # noqa: N815
    """`places_BT` and `owners_BT` are for packed rows, see `hidden_states`."""
    owners_BT: Tensor | None = None  # noqa: N815


CrossEntropyGradient = Callable[[Tensor, Tensor, torch.dtype], tuple[Tensor, Tensor]]
"""See `cross_entropy_gradient`."""


def cross_entropy_gradient(logits_CV: Tensor, labels_C1: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Compute each label's loss in nats (C,), and its gradient with respect to the logits (C, V), rounded to `dtype`.

    Overwrites the logits, because on a CPU allocating memory of their size takes longer than the arithmetic.
    """
    label_logits_C1 = logits_CV.gather(1, labels_C1)
    highest_C1 = logits_CV.amax(1, keepdim=True)
    probabilities_CV = torch.softmax(logits_CV, 1, out=logits_CV)
    # log of the normaliser = highest logit − log of its probability, which is at least 1 / V and cannot underflow.
    losses_C1 = highest_C1 - probabilities_CV.amax(1, keepdim=True).log() - label_logits_C1
    errors_CV = probabilities_CV.scatter_add_(1, labels_C1, torch.full_like(label_logits_C1, -1.0))
    return losses_C1.squeeze(1), errors_CV.to(dtype)


def cross_entropy_gradient_on_gpu(logits_CV: Tensor, labels_C1: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Compute `cross_entropy_gradient` in the fewest passes over the logits; on a GPU exponentials cost nothing."""
    logs_CV = torch.log_softmax(logits_CV, 1, out=logits_CV)
    label_logs_C1 = logs_CV.gather(1, labels_C1)
    errors_CV = torch.empty_like(logs_CV, dtype=dtype)
    torch.exp(logs_CV, out=errors_CV)
    return -label_logs_C1.squeeze(1), errors_CV.scatter_(1, labels_C1, label_logs_C1.expm1().to(dtype))


def cross_entropy_gradient_to_compile(
    logits_CV: Tensor, labels_C1: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Compute `cross_entropy_gradient` in operations that a compiler can fuse into fewer passes over the logits."""
    highest_C1 = logits_CV.amax(1, keepdim=True)
    powers_CV = torch.exp(logits_CV - highest_C1)
    sums_C1 = powers_CV.sum(1, keepdim=True)
    losses_C1 = sums_C1.log() + highest_C1 - logits_CV.gather(1, labels_C1)
    is_label_CV = torch.arange(logits_CV.shape[1], device=logits_CV.device) == labels_C1
    return losses_C1.squeeze(1), (powers_CV / sums_C1 - is_label_CV.float()).to(dtype)


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernels:
    """The parts of a training step that may be compiled."""

    forward: Callable[..., Tensor] = hidden_states
    cross_entropy: CrossEntropyGradient = cross_entropy_gradient


PLAIN = Kernels()
"""Nothing is compiled."""


def token_losses(
    model: GPT2LMHeadModel, batch: MicroBatch, weights_N: Tensor, kernels: Kernels = PLAIN
) -> tuple[Tensor, Tensor]:
    """Compute the weighted sum of the labels' losses, which can be differentiated, and each label's loss in nats.

    Inside `torch.autocast` the output layer's products are computed in the autocast type, the softmax in float32.
    """
    states_ND = label_states(model, batch, kernels)
    total, losses_N = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        states_ND, model.lm_head.weight, batch.labels_N, weights_N, kernels.cross_entropy
    )
    return total, losses_N


def label_states(
    model: GPT2LMHeadModel, batch: MicroBatch, kernels: Kernels, embedded_BTD: Tensor | None = None
) -> Tensor:
    """Compute the inputs of the output layer that predict a label (N, D); `embedded_BTD` as in `hidden_states`."""
    states_BTD = kernels.forward(model, batch.ids_BT, batch.places_BT, batch.owners_BT, embedded_BTD)
    return states_BTD.flatten(0, 1).index_select(0, batch.positions_N)


@contextmanager
def full_precision() -> Iterator[None]:
    """Disable TF32 and gradients inside the block; TF32 keeps only about three digits of a logit."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def part_sums(losses_N: Tensor, classes_N: Tensor) -> Tensor:
    """Sum the nats of each of `PARTS` in float64 on the losses' device."""
    by_class = torch.zeros(IGNORED + 1, dtype=torch.float64, device=losses_N.device)
    by_class.index_add_(0, classes_N, losses_N.double())
    return to_parts(by_class)


def to_parts(by_class: Tensor) -> Tensor:
    """Convert sums by class to sums by part; `infill` includes the text and the end tokens of answers."""
    return torch.stack((by_class[CONTEXT], by_class[INFILL_END] + by_class[INFILL_TEXT], by_class[INFILL_TEXT]))


class _LinearCrossEntropy(torch.autograd.Function):
    """The output layer fused with the cross entropy; the forward pass also computes the gradients from the logits."""

    @staticmethod
    def forward(
        ctx: Any,
        states_ND: Tensor,
        weight_VD: Tensor,
        labels_N: Tensor,
        weights_N: Tensor,
        cross_entropy: CrossEntropyGradient,
    ) -> tuple[Tensor, Tensor]:
        weight_gradient_VD = torch.empty_like(weight_VD)
        given = (states_ND, weight_VD, labels_N, weights_N)
        if is_onednn_training():
            losses_N, states_gradient_ND = losses_and_gradients_in_blocks(*given, weight_gradient_VD)
        else:
            losses_N, states_gradient_ND = losses_and_gradients(*given, cross_entropy, weight_gradient_VD, replace=True)
        ctx.save_for_backward(states_gradient_ND, weight_gradient_VD)
        ctx.mark_non_differentiable(losses_N)
        return torch.dot(losses_N, weights_N), losses_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        # In place, because a copy of the output layer's gradient takes 154 MB for GPT-2 base; backward runs only once.
        states_gradient_ND, weight_gradient_VD = ctx.saved_tensors
        return states_gradient_ND.mul_(gradients[0]), weight_gradient_VD.mul_(gradients[0]), None, None, None


@torch.no_grad()
def losses_and_gradients(
    states_ND: Tensor,
    weight_VD: Tensor,
    labels_N: Tensor,
    weights_N: Tensor,
    cross_entropy: CrossEntropyGradient,
    weight_gradient_VD: Tensor,
    *,
    replace: bool,
) -> tuple[Tensor, Tensor]:
    """Compute each label's loss in nats (N,), and the gradient of their weighted sum for the states (N, D).

    Inside `torch.autocast` the products are computed in the autocast type, the softmax in float32.

    Args:
        weight_gradient_VD: output in float32, the gradient for the output layer's weight.
        replace: overwrite `weight_gradient_VD` instead of adding to it.
    """
    device = states_ND.device.type
    dtype = product_type(device)
    states_ND, product_weight_VD = states_ND.to(dtype), weight_VD.to(dtype)
    size, chunk = len(labels_N), _chunk_labels(states_ND)
    losses_N = torch.empty(size, dtype=torch.float32, device=states_ND.device)
    states_gradient_ND = torch.empty_like(states_ND, dtype=torch.float32)
    if replace and not size:
        weight_gradient_VD.zero_()
    # One buffer serves all chunks; on a CPU, allocating memory for each costs 15 % of the time.
    buffer_CV = states_ND.new_empty(min(size, chunk), len(weight_VD)) if dtype == torch.float32 else None
    with torch.autocast(device, enabled=False):
        for start in range(0, size, chunk):
            part = slice(start, start + chunk)
            logits_CV = float32_product(states_ND[part], product_weight_VD.T, buffer_CV)
            losses_N[part], errors_CV = cross_entropy(logits_CV, labels_N[part, None], dtype)
            # Scaling by the labels' weights here touches rows of D numbers; scaling the errors would touch V.
            weights_C1 = weights_N[part, None]
            states_gradient_ND[part] = float32_product(errors_CV, product_weight_VD) * weights_C1
            weighted_CD = (states_ND[part] * weights_C1).to(dtype)
            _put_product(errors_CV.T, weighted_CD, weight_gradient_VD, replace=replace and start == 0)
    return losses_N, states_gradient_ND


def _put_product(left_VC: Tensor, right_CD: Tensor, target_VD: Tensor, *, replace: bool) -> None:
    """Write the product to the float32 target, or add it, with as few passes over the target as possible."""
    if left_VC.dtype == torch.float32:
        torch.mm(left_VC, right_CD, out=target_VD) if replace else target_VD.addmm_(left_VC, right_CD)
    elif left_VC.is_cuda and replace:
        torch.mm(left_VC, right_CD, out_dtype=torch.float32, out=target_VD)
    else:
        # On a CPU the product is rounded to bfloat16 anyway, so it is added without a float32 copy.
        product_VD = left_VC @ right_CD if left_VC.is_cpu else float32_product(left_VC, right_CD)
        target_VD.copy_(product_VD) if replace else target_VD.add_(product_VD)


def _chunk_labels(states_ND: Tensor) -> int:
    device = states_ND.device.type
    chunk = _CHUNK_LABELS.get(device, 1024)
    return chunk if states_ND.dtype == torch.float32 else _CHUNK_LABELS_BF16.get(device, chunk)


def product_type(device: str) -> torch.dtype:
    """Tell the type that `torch.autocast` gives matrix products, float32 outside it."""
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32


def float32_product(left: Tensor, right: Tensor, buffer: Tensor | None = None) -> Tensor:
    """Compute a matrix product in float32 for factors of any type; bfloat16 logits of GPT-2 are off by up to 0.25.

    Args:
        buffer: float32 memory whose first rows may hold the result.
    """
    if left.dtype == torch.float32:
        return left @ right if buffer is None else torch.mm(left, right, out=buffer[: len(left)])
    if left.is_cuda:
        return torch.mm(left, right, out_dtype=torch.float32)
    return (left @ right).float()
