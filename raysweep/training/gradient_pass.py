"""Forward and backward passes for GPUs, where a small batch takes no longer than a few passes over all weights.

A GPU computes the products of some hundred tokens in the time in which it reads or writes the float32 weights of GPT-2
base a few times.  Therefore weights and gradients are moved as seldom as possible.  Linear layers use bfloat16 copies
of their weights, made in one operation, and their gradients are converted to float32 in one operation: the results are
those of `torch.autocast`, which does both weight by weight and then needs another pass to add them up.  The gradient of
the output layer is computed in place, and the token embedding, which shares its weight, adds its rows there; autograd
would allocate a table as large as the weight for each of them, and add these.

On a GPU, `index_add_` is atomic and adds the rows of a repeated token in no fixed order, so the last bits of two
trainings with the same seed may differ; on a CPU they are the same.

Axes: B examples, T tokens, N labels, D width, V vocabulary.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from raysweep.model.token_losses import Kernels, MicroBatch, label_states, losses_and_gradients, part_sums


@dataclass(frozen=True, kw_only=True, slots=True)
class _WorkingCopy:
    """A copy of a parameter in the type of the products, and its position in the model."""

    module: nn.Module
    name: str
    original: nn.Parameter
    copy: nn.Parameter


class GradientPass:
    """Adds the gradients of a micro-batch to those of a model; they equal autograd's gradients up to rounding."""

    def __init__(
        self, model: GPT2LMHeadModel, kernels: Kernels, device: torch.device, autocast: torch.dtype | None
    ) -> None:
        """Args: `autocast`: type of the products; None: float32."""
        self._model, self._kernels, self._device, self._autocast = model, kernels, device, autocast
        self._parameters = list(model.parameters())
        self._copies = [] if autocast is None else _working_copies(model, autocast)
        copied = {id(each.original): each.copy for each in self._copies}
        self._leaves = [copied.get(id(parameter), parameter) for parameter in self._parameters]
        """The tensors in which autograd stores the gradients of `_parameters`."""

    def __call__(self, batch: MicroBatch, weights: Tensor, *, replace: bool = False) -> Tensor:
        """Run the pass; returns the nats by part, on the device.

        Args:
            weights: the weight of a label of each class, see `loss.label_weights`.
            replace: overwrite the gradients of the parameters, in the same memory.
        """
        model, output = self._model, self._model.lm_head.weight
        replace = replace or all(parameter.grad is None for parameter in self._parameters)
        targets = [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in self._parameters
        ]
        # Also clear those of the copies, because a pass that ran out of memory leaves gradients there.
        for leaf in (*self._parameters, *self._leaves):
            leaf.grad = None
        output_gradient_VD = next(
            target for parameter, target in zip(self._parameters, targets, strict=True) if parameter is output
        )
        self._refresh_copies()
        is_tied = output is model.transformer.wte.weight
        with torch.autocast(self._device.type, dtype=self._autocast, enabled=self._autocast is not None):
            embedded_BTD = embedding(batch.ids_BT, output.detach()).requires_grad_() if is_tied else None
            with self._copies_in_use():
                states_ND = label_states(model, batch, self._kernels, embedded_BTD)
            losses_N, states_gradient_ND = losses_and_gradients(
                states_ND,
                output,
                batch.labels_N,
                weights[batch.classes_N],
                self._kernels.cross_entropy,
                output_gradient_VD,
                replace=replace,
            )
        states_ND.backward(states_gradient_ND.to(states_ND.dtype))  # type: ignore[no-untyped-call]
        if embedded_BTD is not None:
            assert embedded_BTD.grad is not None
            output_gradient_VD.index_add_(0, batch.ids_BT.flatten(), embedded_BTD.grad.flatten(0, 1))
        self._put_gradients(targets, replace=replace)
        return part_sums(losses_N, batch.classes_N)

    @torch.no_grad()
    def _refresh_copies(self) -> None:
        if self._copies:
            torch._foreach_copy_([each.copy for each in self._copies], [each.original for each in self._copies])

    @contextlib.contextmanager
    def _copies_in_use(self) -> Iterator[None]:
        """Make the model compute with the copies inside the block."""
        try:
            for each in self._copies:
                setattr(each.module, each.name, each.copy)
            yield
        finally:
            for each in self._copies:
                setattr(each.module, each.name, each.original)

    def _put_gradients(self, targets: Sequence[Tensor], *, replace: bool) -> None:
        """Move autograd's gradients to `targets`, and make these the parameters' gradients."""
        moves: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for parameter, leaf, target in zip(self._parameters, self._leaves, targets, strict=True):
            gradient, leaf.grad = leaf.grad, None
            parameter.grad = target
            if gradient is not None:
                targets_of_type, gradients_of_type = moves.setdefault(gradient.dtype, ([], []))
                targets_of_type.append(target)
                gradients_of_type.append(gradient)
            elif replace and parameter is not self._model.lm_head.weight:
                target.zero_()
        for lists in moves.values():
            (torch._foreach_copy_ if replace else torch._foreach_add_)(*lists)


def _working_copies(model: nn.Module, dtype: torch.dtype) -> list[_WorkingCopy]:
    """Copy the weights and biases of the linear layers; everything else is computed in float32."""
    return [
        _WorkingCopy(module=module, name=name, original=weight, copy=nn.Parameter(weight.detach().to(dtype)))
        for module in model.modules()
        if isinstance(module, Conv1D)
        for name, weight in module.named_parameters(recurse=False)
    ]
