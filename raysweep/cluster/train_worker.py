"""The worker of one training: runs an attempt at it with the device, and the notices, of its Ray Train worker."""

import dataclasses
import gc
import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
from ray.train.v2._internal.execution.context import get_train_context

from raysweep.cluster.functions import resolve
from raysweep.pipeline.capacity import ResourceRequest
from raysweep.pipeline.training_attempt import run_attempt
from raysweep.scheduling.failures import Failure
from raysweep.scheduling.outcomes import Failed, outcome_to_json
from raysweep.storage.atomic_files import write_text
from raysweep.training.job import Evaluation, TrainingJob, TrainingResult

TRAIN = "raysweep.training.loop:train"
"""By name, so that torch is imported where the training runs and nowhere else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One training as it travels to its driver and its workers."""

    job: TrainingJob
    need: ResourceRequest
    storage: Path
    """For Train's own notes."""
    evaluations: Path
    """Where its evaluations are noted, a JSON object a line, for whoever watches."""
    failure: Path
    """Where a worker that must end writes how the loop failed, an `Outcome` as JSON."""
    takes_token: bool
    is_shared: bool
    """Whether it trains in the trial's process, in which others train before and after it."""
    train: str = TRAIN
    pause_at: int | None = None
    """The step of the evaluation after which it stops and waits; see `scheduling.successive_halving`."""


def train_on_worker(config: dict[str, Any]) -> str:
    """Run the training loop as one of Train's workers.

    Returns:
        How it ended: an `Outcome` as JSON.

    Raises:
        RuntimeError: the loop failed, and the process must end: it shares the training with others that wait for it
            in a collective, or trains others after it, which a CUDA error would reach too.
    """
    work: Work = config["work"]
    context = None if work.is_shared else ray.train.get_context()
    rank, world_size = (context.get_world_rank(), context.get_world_size()) if context else (0, 1)
    outcome = run_attempt(
        _train,
        work.job,
        work=work,
        rank=rank,
        world_size=world_size,
        on_evaluation=partial(_note_evaluation, work.evaluations) if work.is_shared else _report,
        pause_at=work.pause_at,
        preempted=None if work.is_shared else _preempted,
    )
    must_end = work.is_shared or world_size > 1
    if must_end and isinstance(outcome, Failed) and outcome.failure is not Failure.PREEMPTED:
        write_text(work.failure, outcome_to_json(outcome))
        raise RuntimeError(outcome.message)
    return outcome_to_json(outcome)


def _train(job: TrainingJob, *, work: Work, **how: Any) -> TrainingResult:
    # Here, so that a device or a training function that cannot be had fails the attempt and not the worker.
    result: TrainingResult = resolve(work.train)(job, device=_device(work), **how)
    return result


def _preempted() -> str | None:
    # Ray's public way to ask is a collective, and only the first of several workers asks here.
    info = get_train_context().preemption_context.preemption_info
    return None if info is None else "its node is being taken away"


def _device(work: Work) -> str:
    # Read by torch when it is imported, which it is not yet: the number of threads changes sums on CPU.
    os.environ["OMP_NUM_THREADS"] = str(work.need.cpus)
    if not work.need.gpus:
        # Said outright, since a worker without GPUs on a machine with some would still see them all.
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    # What an earlier training in this process left is neither this one's peak nor its to hold.
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return "cuda"


def _note_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Without a controller, which would note it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(dataclasses.asdict(evaluation)) + "\n")


def _report(evaluation: Evaluation) -> None:
    ray.train.report(dataclasses.asdict(evaluation))
