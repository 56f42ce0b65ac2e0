"""Finds the largest micro-batch that fits into GPU memory, before the first step.

The longest examples of the training are tried: first a worker's whole share of a step, then half of it, a
quarter and so on, until a forward and a backward pass leave a tenth of the memory free.  The step stays
the same, because a micro-batch is only a part of it.  A part of a step is run twice: the second pass adds to existing
gradients, which take additional memory.  A shared GPU may still run out of memory later; then
`step.step_gradients` halves the micro-batch again.
"""

import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from raysweep.config.training_settings import TrainingConfig
from raysweep.masking.example_store import Examples
from raysweep.training.hardware import forget_peak, memory_share, wait_for
from raysweep.training.loss import Objective
from raysweep.training.step import Engine, try_examples

logger = logging.getLogger(__name__)

MARGIN = 0.1
"""Fraction of device memory kept free, for fragmentation and for other processes on the GPU."""


def fit_to_memory(
    engine: Engine,
    settings: TrainingConfig,
    examples: Examples,
    lengths: npt.NDArray[np.int32],
    objective: Objective,
) -> None:
    """On a GPU, if `micro_batch` is 'auto', set it to the largest size that fits the memory of every worker.

    Raises:
        MemoryShortageError: a single example does not fit.
    """
    if settings.micro_batch != "auto" or engine.device.type != "cuda":
        return
    share = -(-settings.batch_size * settings.accumulation // engine.group.world_size)
    fit_micro_batch(engine, examples[np.argsort(-lengths, kind="stable")[:share]], objective)
    engine.micro_batch = engine.group.all_reduce_min(engine.micro_batch)


def fit_micro_batch(
    engine: Engine,
    longest: Examples,
    objective: Objective,
    measure: Callable[[torch.device], float] = memory_share,
) -> None:
    """Halve `longest` until it fits the memory, and set `engine.micro_batch` to that size.

    Args:
        longest: as many of the longest examples as a worker gets in a step, at least one.
        measure: returns the peak fraction of memory in use since `forget_peak`.

    Raises:
        MemoryShortageError: a single example does not fit.
    """
    size = len(longest)
    while True:
        share = _measure_peak(engine, longest[:size], objective, measure, passes=1 if size == len(longest) else 2)
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


def _measure_peak(
    engine: Engine,
    examples: Examples,
    objective: Objective,
    measure: Callable[[torch.device], float],
    *,
    passes: int,
) -> float | None:
    """Measure the peak fraction of memory of passes over the examples; None if they do not fit."""
    forget_peak(engine.device)
    try:
        for _ in range(passes):
            try_examples(engine, examples, objective)
        wait_for(engine.device)
        return measure(engine.device)
    except torch.OutOfMemoryError:
        return None
    finally:
        engine.model.zero_grad(set_to_none=True)
