"""Float32 matrix products on a CPU, computed by oneDNN where that is faster.

PyTorch uses MKL for float32 products.  On an AMD EPYC with AVX-512, MKL reaches 97 GFLOP/s per core, and oneDNN, which
PyTorch contains for bfloat16, 190 to 230; Intel was not measured.  The results differ only by the order of summation:
the same row in a small and in a large batch may differ in its last bits.

Without gradients oneDNN is used wherever possible; with gradients only inside `onednn_training`, because a training
with the precision 'fp32' must keep the bits of MKL's products.
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
"""A smaller product takes less time than the overhead of oneDNN (12 µs)."""

ROW_MULTIPLE = 64
"""The rows of a training's products are padded to a multiple of this: oneDNN compiles each new shape, which takes up to
1 ms, and keeps memory for up to 1,024 shapes, and the number of rows changes in almost every step."""

_IS_TRAINING: ContextVar[bool] = ContextVar("is_onednn_training", default=False)


def has_onednn() -> bool:
    """Tell whether float32 products can be computed by oneDNN on this machine."""
    return _onednn_products() is not None


@contextmanager
def onednn_training() -> Iterator[None]:
    """Compute this thread's products with gradients by oneDNN inside the block, in the forward and backward passes.

    The backward pass of a product may run after the block.
    """
    token = _IS_TRAINING.set(True)
    try:
        yield
    finally:
        _IS_TRAINING.reset(token)


def is_onednn_training() -> bool:
    """Tell whether this thread is inside `onednn_training`."""
    return _IS_TRAINING.get()


def multiply_transposed(
    left_MK: Tensor,
    right_NK: Tensor,
    bias_N: Tensor | None = None,
    *,
    plus_MN: Tensor | None = None,
    gelu: bool = False,
) -> Tensor:
    """Compute left × rightᵀ + bias (M, N) without gradients, for any type and device.

    Args:
        plus_MN: added to the result; not allowed together with `gelu`.
        gelu: apply GELU in its tanh approximation.  oneDNN fuses both operations into the product.
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
            return product_MN + plus_MN  # has the wider type: under autocast the product alone is bfloat16
        return torch.nn.functional.gelu(product_MN, approximate="tanh") if gelu else product_MN
    product, product_and_sum = products
    result: Tensor
    if plus_MN is not None:
        result = product_and_sum(left_MK, plus_MN, right_NK, bias_N, "add")
    else:
        result = product(left_MK, right_NK, bias_N, "gelu" if gelu else "none", [], "tanh" if gelu else "")
    return result


def use_fast_products(model: torch.nn.Module) -> None:
    """Make the linear layers of a GPT-2 use `multiply_transposed` when gradients are disabled."""
    for module in model.modules():
        if type(module) is Conv1D:
            module.__class__ = _FastConv1D


class _FastConv1D(Conv1D):
    """GPT-2's linear layer; it replaces the class of an existing layer, which keeps its weights and their names."""

    def forward(self, x: Tensor) -> Tensor:
        # Compiled code is never inside `onednn_training`, and reading a context variable would break its graph.
        if torch.is_grad_enabled() and (torch.compiler.is_compiling() or not is_onednn_training()):
            result: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return result
        rows_MK, shape = x.reshape(-1, x.shape[-1]), (*x.shape[:-1], self.nf)
        if not torch.is_grad_enabled():
            return multiply_transposed(rows_MK, self.weight.T, self.bias).view(shape)
        product: Tensor = _OneDnnLinear.apply(rows_MK, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return product.view(shape)


class _OneDnnLinear(torch.autograd.Function):
    """Computes rows × weight + bias and its gradients; autograd calls both passes with gradients disabled."""

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
    """Pad with rows of zeros to a multiple of `ROW_MULTIPLE` rows, (L, K)."""
    filling = -len(rows_MK) % ROW_MULTIPLE
    return torch.nn.functional.pad(rows_MK, (0, 0, 0, filling)) if filling else rows_MK


@cache
def _onednn_products() -> tuple[Any, Any] | None:
    """Return the operations x · wᵀ + b, and x · wᵀ + b plus a matrix, that PyTorch's compiler uses.

    Returns:
        None without AVX-512, without oneDNN in PyTorch, or if small products show that these private operations take
        other arguments or compute something else in this version.
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
            results = [product(left_MK, right_NK, bias, "none", [], "").item() for bias in (None, bias_N)]
            results.append(product.binary(left_MK, plus_MN, right_NK, bias_N, "add").item())
            near_0 = product(-left_MK, right_NK, bias_N * 2.0, "gelu", [], "tanh").item()
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return None
    # GELU of −1 is −0.1588 in the tanh approximation and −0.1587 exactly.
    return (product, product.binary) if results == [11.0, 16.0, 23.0] and abs(near_0 + 0.15881) < 2e-5 else None
