"""How many examples go through the model at once, found by a try before the first step.

The longest examples of the training are tried, first a worker's whole share of a step, then a half, a
quarter …, until a forward and a backward pass leave a tenth of the memory free.  The step stays what it
is, since a micro-batch is only a part of it.  A GPU that is shared may still run short later; then
`step.step_gradients` halves again.
"""

import logging
from collections.abc import Callable

import torch

from raysweep.training.batches import Examples
from raysweep.training.hardware import forget_peak, memory_share, wait_for
from raysweep.training.loss import Objective
from raysweep.training.step import Engine, try_examples

logger = logging.getLogger(__name__)

MARGIN = 0.1
"""Share of the memory that stays free: for fragments, and for what others on the GPU take."""


def fit_micro_batch(
    engine: Engine,
    longest: Examples,
    objective: Objective,
    measure: Callable[[torch.device], float] = memory_share,
) -> None:
    """Set `engine.micro_batch` to the largest half of a half … of `longest` that fits the memory.

    Args:
        longest: as many of the longest examples as a worker gets in a step, at least one.
        measure: the share of the memory that was taken since it was last forgotten.

    Raises:
        MemoryShortageError: a single example does not fit.
    """
    size = len(longest)
    while True:
        share = _share_taken(engine, longest[:size], objective, measure)
        if share is not None and (share <= 1.0 - MARGIN or size == 1):
            break
        if size == 1:
            raise engine.shortage("before step 1")
        size = -(-size // 2)
    engine.micro_batch = size
    logger.info(
        "%s: micro-batches of %d: a step has %d examples a worker, and %d of the longest take %.0f %% of %s",
        engine.trial, size, len(longest), size, 100 * share, engine.device,
    )  # fmt: skip


def agree_on_micro_batch(engine: Engine) -> None:
    """Take the smallest of the workers' sizes: what one of them has no room for, the others leave too."""
    engine.micro_batch = engine.group.all_reduce_min(engine.micro_batch)


def _share_taken(
    engine: Engine, examples: Examples, objective: Objective, measure: Callable[[torch.device], float]
) -> float | None:
    """Of the memory, by one pass over the examples; None if they did not fit."""
    forget_peak(engine.device)
    try:
        try_examples(engine, examples, objective)
        wait_for(engine.device)
        return measure(engine.device)
    except torch.OutOfMemoryError:
        return None
    finally:
        engine.model.zero_grad(set_to_none=True)
