"""The loss of a step: the mean over its answer labels plus the mean over its context labels.

Both means are over the whole step, however it is divided into micro-batches or distributed over workers: the weight of
each label is one over the step's number of labels of its part, and everything else is a sum.  A part without labels
contributes nothing.

Source: the objective of Donahue, Lee and Liang 2020 (ACL), with sums in place of a mean of means.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from raysweep.config.training_settings import TrainingConfig
from raysweep.masking.example_store import Batch
from raysweep.model.token_losses import CONTEXT, INFILL_END, INFILL_TEXT, Labels, find_labels

LANGUAGE_MODEL_TASKS = frozenset({"lm", "reverse_lm"})
"""Tasks whose examples consist of the document only, without answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """The parts that are trained on."""

    context: bool
    infill: bool

    @property
    def metric(self) -> str:
        """The part whose validation loss selects the best model."""
        return "infill" if self.infill else "context"


def objective_of(settings: TrainingConfig) -> Objective:
    """Return the objective: language models learn only context; with minimal supervision, only answers are learnt."""
    if settings.task in LANGUAGE_MODEL_TASKS:
        return Objective(context=True, infill=False)
    return Objective(context=not settings.minimal_supervision, infill=True)


def label_weights(counts: Tensor) -> Tensor:
    """Compute the weight of a label of each class (float32; 0 if ignored) from the step's number of labels by class."""
    infill = counts[INFILL_END] + counts[INFILL_TEXT]
    part_counts = torch.stack((counts[CONTEXT], infill, infill, torch.zeros_like(infill)))
    return torch.where(part_counts > 0, 1.0 / part_counts.clamp(min=1), 0.0).float()


def labels_of(batch: Batch, objective: Objective) -> Labels:
    """Find the labels of a batch that the objective trains on."""
    return find_labels(batch.ids_BT, batch.types_BT, context=objective.context, infill=objective.infill)
