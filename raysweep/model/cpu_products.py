"""Float32 matrix products on a CPU, computed by oneDNN where that is faster.

torch hands float32 products to MKL.  Measured on an AMD EPYC with AVX-512, MKL reaches 97 GFLOP/s a core, and oneDNN,
which torch brings along for bfloat16, 190 to 230; on Intel not measured.  The sums are the same up to the order in
which they are added: the same row in a small and in a large batch may differ in its last bits.

Without gradients oneDNN is used wherever it can be; with gradients inside `onednn_training` alone, since a training in
the precision 'fp32' keeps the bits of MKL's products.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

_LEAST_MULTIPLICATIONS = 1 << 20
"""A smaller product takes less time than oneDNN needs to begin (12 µs)."""

ROW_MULTIPLE = 64
"""Rows of a training's products are filled up to a multiple: oneDNN compiles each new shape, which takes up to 1 ms and
keeps memory for up to 1,024 of them, and rows have another length in almost every step."""

_IS_TRAINING: ContextVar[bool] = ContextVar("is_onednn_training", default=False)


def has_onednn() -> bool:
    """Whether this machine's torch computes float32 products by oneDNN; it loads nothing that torch has not."""
    return _onednn_products() is not None


@contextmanager
def onednn_training() -> Iterator[None]:
    """Inside the block, products of this thread that have gradients are computed by oneDNN, forward and backward.

    Backward passes may come after the block.
    """
    token = _IS_TRAINING.set(True)
    try:
        yield
    finally:
        _IS_TRAINING.reset(token)


def is_onednn_training() -> bool:
    """Whether this thread is inside `onednn_training`."""
    return _IS_TRAINING.get()


def multiply_transposed(
    left_MK: Tensor,
    right_NK: Tensor,
    bias_N: Tensor | None = None,
    *,
    plus_MN: Tensor | None = None,
    gelu: bool = False,
) -> Tensor:
    """left × rightᵀ + bias (M, N), for any type and device; without gradients.

    Args:
        plus_MN: added to the result; with it no `gelu`.
        gelu: apply GELU, by its approximation with tanh.  oneDNN does both while it has the sums in its registers.
    """
    products = _onednn_products()
    if (
        products is None
        or torch.is_grad_enabled()
        or not left_MK.is_cpu
        or not left_MK.dtype == right_NK.dtype == torch.float32
        or torch.is_autocast_enabled("cpu")
        or left_MK.numel() * len(right_NK) < _LEAST_MULTIPLICATIONS
    ):
        product_MN = left_MK @ right_NK.T if bias_N is None else torch.addmm(bias_N, left_MK, right_NK.T)
        if plus_MN is not None:
            return product_MN + plus_MN  # of the wider type: under autocast the product alone is bfloat16
        return torch.nn.functional.gelu(product_MN, approximate="tanh") if gelu else product_MN
    product, product_and_sum = products
    result: Tensor
    if plus_MN is not None:
        result = product_and_sum(left_MK, plus_MN, right_NK, bias_N, "add")
    else:
        result = product(left_MK, right_NK, bias_N, "gelu" if gelu else "none", [], "tanh" if gelu else "")
    return result


def use_fast_products(model: torch.nn.Module) -> None:
    """Let the linear layers of a GPT-2 use `multiply_transposed` while no gradients are asked for."""
    for module in model.modules():
        if type(module) is Conv1D:
            module.__class__ = _FastConv1D


class _FastConv1D(Conv1D):
    """GPT-2's linear layer; the class of a finished layer is replaced, so its weights and their names stay."""

    def forward(self, x: Tensor) -> Tensor:
        # Compiled code is never inside `onednn_training`, and a context variable would cut it into pieces.
        if torch.is_grad_enabled() and (torch.compiler.is_compiling() or not is_onednn_training()):
            result: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return result
        rows_MK, shape = x.reshape(-1, x.shape[-1]), (*x.shape[:-1], self.nf)
        if not torch.is_grad_enabled():
            return multiply_transposed(rows_MK, self.weight.T, self.bias).view(shape)
        product: Tensor = _OneDnnLinear.apply(rows_MK, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return product.view(shape)


class _OneDnnLinear(torch.autograd.Function):
    """rows × weight + bias, with its gradients; autograd calls both passes with gradients disabled."""

    @staticmethod
    def forward(ctx: Any, rows_MK: Tensor, weight_KN: Tensor, bias_N: Tensor) -> Tensor:
        filled_LK = _fill_rows(rows_MK)
        ctx.save_for_backward(filled_LK, weight_KN)
        return multiply_transposed(filled_LK, weight_KN.T, bias_N)[: len(rows_MK)]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (filled_LK, weight_KN), (gradient_MN,) = ctx.saved_tensors, gradients
        gradient_LN = _fill_rows(gradient_MN)
        rows_gradient_MK = multiply_transposed(gradient_LN, weight_KN)[: len(gradient_MN)]
        return rows_gradient_MK, multiply_transposed(filled_LK.T, gradient_LN.T), gradient_MN.sum(0)


def _fill_rows(rows_MK: Tensor) -> Tensor:
    """With rows of zeros (L, K), up to a multiple of `ROW_MULTIPLE`."""
    filling = -len(rows_MK) % ROW_MULTIPLE
    return torch.nn.functional.pad(rows_MK, (0, 0, 0, filling)) if filling else rows_MK


@cache
def _onednn_products() -> tuple[Any, Any] | None:
    """The operations x · wᵀ + b, and the same plus a matrix, of torch's compiler; measured on an AMD EPYC only.

    Returns:
        None without AVX-512, without oneDNN in torch, or if small products show that this torch's operations, which are
        private, take other arguments or compute something else.
    """
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not has_onednn:
        return None
    try:
        product = torch.ops.mkldnn._linear_pointwise
        with torch.no_grad():
            left_MK, right_NK, bias_N, plus_MN = (
                torch.tensor(values, device="cpu") for values in ([[1.0, 2.0]], [[3.0, 4.0]], [5.0], [[7.0]])
            )
            found = [product(left_MK, right_NK, bias, "none", [], "").item() for bias in (None, bias_N)]
            found.append(product.binary(left_MK, plus_MN, right_NK, bias_N, "add").item())
            near_0 = product(-left_MK, right_NK, bias_N * 2.0, "gelu", [], "tanh").item()
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return None
    # GELU of −1 is −0.1588 by tanh, −0.1587 exactly.
    return (product, product.binary) if found == [11.0, 16.0, 23.0] and abs(near_0 + 0.15881) < 2e-5 else None
