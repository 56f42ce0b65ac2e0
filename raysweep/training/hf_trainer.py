"""Times Hugging Face's Trainer, the alternative to `training.loop`, on the benchmark's examples.

It gets everything that makes it fast without a change to the model: examples tokenised in advance, rows padded to the
longest of their batch, no attention mask (padding is on the right, so causal attention needs none), and batches of
similar length.  `transformers` builds these from windows of 50 batches; its own function does so here, for the examples
that are timed.  Differences from our step: the loss is one mean over all labels, whereas ours is the mean over answers
plus the mean over context, and the layers are those of `transformers`.

Axes: B examples, T tokens, D width, V vocabulary.
"""

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import GPT2LMHeadModel, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.modeling_outputs import CausalLMOutput
from transformers.trainer_pt_utils import get_length_grouped_indices

from raysweep.config.training_settings import TrainingConfig
from raysweep.masking.example_store import Examples, ExampleStore
from raysweep.model.gpt2 import quiet_transformers
from raysweep.model.label_losses import score_labels
from raysweep.model.sequence_packing import alone
from raysweep.model.token_losses import find_labels
from raysweep.training.hardware import DeviceStopwatch

IGNORED = -100
"""Label of positions that are not predicted; Hugging Face's models ignore it."""
_WINDOW_BATCHES = 50
"""Batches that `group_by_length` sorts by length together on a corpus of 200 batches or more."""
_LOSS_TOLERANCE = 2e-3
"""Relative tolerance; on a GPU the float32 products use TF32, which keeps three digits of a logit."""

Row = tuple[Tensor, Tensor]
"""Ids and labels of an example, int64, without padding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerWay:
    """A way to use the Trainer."""

    is_grouped: bool
    """Whether batches have examples of similar length; otherwise they are random."""
    is_default: bool = False
    """Whether it uses the defaults of `TrainingArguments`: float32 without TF32, and rows with an attention mask."""
    uses_liger: bool = False
    """Whether it uses Liger's fused output layer and loss instead of the table of all logits."""


WAYS = {
    "hf-trainer": TrainerWay(is_grouped=True),
    "hf-default": TrainerWay(is_grouped=False, is_default=True),
    "hf-liger": TrainerWay(is_grouped=True, uses_liger=True),
}


def time_trainer(
    way: TrainerWay,
    model: GPT2LMHeadModel,
    source: ExampleStore,
    settings: TrainingConfig,
    *,
    warmup: Examples,
    timed: Examples,
    watch: DeviceStopwatch,
    dtype: torch.dtype,
) -> float:
    """Train on the warm-up examples and then on the timed examples, and time the steps of the latter.

    Args:
        model: a model with the layers of `transformers`; it is trained in place.
        warmup, timed: each a multiple of the batch size.
        dtype: type of the matrix products, float32 or bfloat16.

    Returns:
        Mean nats per label of the first timed batch before training, without dropout, in float32.

    Raises:
        AssertionError: the Trainer's loss on the first timed batch differs from ours, so the work is not the same.
    """
    batch, device = settings.batch_size, watch.device
    rows = [_row(source, int(number)) for number in np.concatenate((warmup, timed))]
    lengths = [len(ids) for ids, _ in rows]
    order = [
        first + place
        for first, count in ((0, len(warmup)), (len(warmup), len(timed)))
        for place in _order(lengths[first : first + count], batch, is_grouped=way.is_grouped)
    ]
    clock = _Clock(watch, warmup_steps=len(warmup) // batch)
    collate = _Collator(multiple=1 if way.is_default or device.type == "cpu" else 8, has_mask=way.is_default)
    if way.uses_liger:
        _use_liger(model)
    with tempfile.TemporaryDirectory() as folder, quiet_transformers(), _float32_products(way):
        trainer = _OrderedTrainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder,
                max_steps=len(rows) // batch,
                per_device_train_batch_size=batch,
                learning_rate=settings.learning_rate,
                lr_scheduler_type="constant",
                max_grad_norm=settings.clip_norm,
                weight_decay=settings.weight_decay,
                bf16=dtype == torch.bfloat16 and not way.is_default,
                use_cpu=device.type == "cpu",
                remove_unused_columns=False,
                logging_strategy="no",
                logging_nan_inf_filter=way.is_default,  # would make the host wait for the GPU in each step
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=rows,
            data_collator=collate,
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.order = order
        first_batch = order[len(warmup) : len(warmup) + batch]
        collated = {name: t.to(device) for name, t in collate([rows[place] for place in first_batch]).items()}
        loss, ours = _both_losses(trainer, model, collated, source, np.concatenate((warmup, timed))[first_batch])
        assert math.isclose(loss, ours, rel_tol=_LOSS_TOLERANCE), f"the Trainer's loss is {loss}, ours {ours}"
        trainer.train()
    return loss


class _OrderedTrainer(Trainer):
    """Uses the examples in a given order, so that warm-up and timed examples are not mixed."""

    order: Sequence[int]

    def _get_train_sampler(self, *_: Any) -> Any:
        return self.order


class _Clock(TrainerCallback):
    """Times the steps after the warm-up."""

    def __init__(self, watch: DeviceStopwatch, *, warmup_steps: int) -> None:
        self._watch, self._warmup_steps = watch, warmup_steps

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        if self._warmup_steps == 0:
            self._watch.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 (its protocol)
        if state.global_step == state.max_steps:
            self._watch.stop()
        elif state.global_step == self._warmup_steps:
            self._watch.start()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Collator:
    multiple: int
    has_mask: bool

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        longest = -(-max(len(ids) for ids, _ in rows) // self.multiple) * self.multiple
        lengths_B = torch.tensor([len(ids) for ids, _ in rows])
        batch = {
            "input_ids": _padded([ids for ids, _ in rows], longest, 0),
            "labels": _padded([labels for _, labels in rows], longest, IGNORED),
        }
        if self.has_mask:
            batch["attention_mask"] = (torch.arange(longest) < lengths_B[:, None]).long()
        return batch


def _padded(rows: list[Tensor], longest: int, value: int) -> Tensor:
    padded_BT = pad_sequence(rows, batch_first=True, padding_value=value)
    return torch.nn.functional.pad(padded_BT, (0, longest - padded_BT.shape[1]), value=value)


def _row(source: ExampleStore, number: int) -> Row:
    batch = source.assemble(np.array([number]))
    labels = find_labels(batch.ids_BT, batch.types_BT)
    labels_T = np.full(batch.ids_BT.shape[1], IGNORED, dtype=np.int64)
    labels_T[labels.positions_N + 1] = labels.ids_N
    return torch.from_numpy(batch.ids_BT[0].astype(np.int64)), torch.from_numpy(labels_T)


def _order(lengths: list[int], batch: int, *, is_grouped: bool) -> list[int]:
    generator = torch.Generator().manual_seed(0)
    if not lengths:
        return []
    if is_grouped:
        grouped: Callable[..., list[int]] = get_length_grouped_indices
        return grouped(lengths, batch, mega_batch_mult=_WINDOW_BATCHES, generator=generator)
    return torch.randperm(len(lengths), generator=generator).tolist()


@contextlib.contextmanager
def _float32_products(way: TrainerWay) -> Iterator[None]:
    """Disable TF32 (PyTorch's default) inside the block for the Trainer with default settings."""
    before = torch.get_float32_matmul_precision()
    if way.is_default:
        torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@torch.no_grad()
def _both_losses(
    trainer: Trainer, model: GPT2LMHeadModel, collated: dict[str, Tensor], source: ExampleStore, examples: Examples
) -> tuple[float, float]:
    """Compute the Trainer's loss and ours for the same examples, without dropout."""
    model.train(False)
    loss: Any = trainer.compute_loss(model, collated)
    batch = source.assemble(examples)
    rows = alone(batch.ids_BT, batch.lengths_B, find_labels(batch.ids_BT, batch.types_BT)).to(model.device)
    ours = score_labels(model, rows).mean().item()
    model.train()
    return float(loss), ours


def _use_liger(model: GPT2LMHeadModel) -> None:
    """Make the model use Liger's loss; `use_liger_kernel=True` has no effect, because Liger does not patch GPT-2."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    fused_loss: Callable[..., Tensor] = LigerFusedLinearCrossEntropyLoss(ignore_index=IGNORED)

    def forward(self: GPT2LMHeadModel, input_ids: Tensor, labels: Tensor, **_: Any) -> CausalLMOutput:
        states_BTD = self.transformer(input_ids, use_cache=False).last_hidden_state[:, :-1]
        return CausalLMOutput(loss=fused_loss(self.lm_head.weight, states_BTD.flatten(0, 1), labels[:, 1:].flatten()))

    model.forward = MethodType(forward, model)
