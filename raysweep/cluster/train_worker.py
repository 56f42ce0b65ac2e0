"""Runs an attempt at a training in the process that has its GPU or CPUs, as one of Ray Train's workers."""

import dataclasses
import gc
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train

from raysweep.cluster.functions import resolve
from raysweep.cluster.node_check import NodeCheck
from raysweep.cluster.ray_internals import node_is_draining
from raysweep.errors import RaysweepError
from raysweep.pipeline.training_attempt import describe_error, run_attempt
from raysweep.scheduling.capacity import ResourceRequest
from raysweep.scheduling.failures import Failure, failure_of
from raysweep.scheduling.outcomes import Failed, Outcome, outcome_to_json
from raysweep.staging.run_staging import StagingTicket
from raysweep.staging.worker_place import WorkerPlace
from raysweep.storage.atomic_files import write_text
from raysweep.training.job import Evaluation, TrainingJob, TrainingResult

TRAIN = "raysweep.training.loop:train"
OUTCOME_MARK = "outcome as JSON: "
"""Precedes the outcome in the error of a worker that must end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """An attempt at a training, as sent to its driver and its workers."""

    job: TrainingJob
    need: ResourceRequest
    storage: Path
    """Ray Train's folder for its own files, on the driver's disk."""
    evaluations: Path
    """The file that gets a line of JSON for each evaluation, for the process that runs the sweep."""
    failure: Path
    """Where a worker that must end writes how the loop failed, an `Outcome` as JSON."""
    takes_trial_gpu: bool
    """Whether the trial reserves `trial_gpu` for each of its GPUs."""
    is_shared: bool
    """Whether it trains in the trial's process, in which other trainings run before and after it."""
    check: NodeCheck | None
    """What the training process compares with its own state."""
    ticket: StagingTicket | None = None
    """What finds the run in object storage; None if the worker can read the run folder itself."""
    train: str = TRAIN
    """The training function, 'module:function'."""
    pause_at: int | None = None
    """The step of the evaluation after which it stops and waits; see `scheduling.successive_halving`."""

    def __deepcopy__(self, _memo: object) -> "Work":
        """Return this object: it is immutable, and Tune keeps three copies of every trial's config."""
        return self


def train_on_worker(config: dict[str, Any]) -> str:
    """Run the training loop of `config["work"]`.

    Returns:
        How it ended: an `Outcome` as JSON.

    Raises:
        RuntimeError: the loop failed and the process must end: either the training's other workers wait for it
            in a collective, or the process would train other trials, which a CUDA error would affect.
    """
    work: Work = config["work"]
    context = None if work.is_shared else ray.train.get_context()
    rank, world_size = (context.get_world_rank(), context.get_world_size()) if context else (0, 1)

    def on_evaluation(evaluation: Evaluation) -> None:
        values = dataclasses.asdict(evaluation)
        if work.is_shared:
            append_evaluation(work.evaluations, values)
        else:
            ray.train.report(values)

    outcome = _run_staged(
        work,
        rank=rank,
        world_size=world_size,
        on_evaluation=on_evaluation,
        pause_at=work.pause_at,
        preempted=None if work.is_shared else _preempted,
    )
    must_end = work.is_shared or world_size > 1
    if must_end and isinstance(outcome, Failed) and outcome.failure is not Failure.PREEMPTED:
        write_text(work.failure, outcome_to_json(outcome))
        # The driver may not be able to read that file.
        raise RuntimeError(f"{outcome.message}\n{OUTCOME_MARK}{outcome_to_json(outcome)}")
    return outcome_to_json(outcome)


def _run_staged(work: Work, *, rank: int, **how: Any) -> Outcome:
    """Run the attempt on the worker: fetch what it reads, send what it makes; see `staging`."""
    try:
        place = WorkerPlace.of(work.ticket)
        job = place.localise(work.job)
        place.fetch(job.examples, Path(job.start))
        with place.training_in(job.folder, is_main=rank == 0):
            return run_attempt(_train, job, work=work, rank=rank, **how)
    except (RaysweepError, OSError) as error:
        return Failed(message=describe_error(error), failure=failure_of(error))


def append_evaluation(path: Path, values: Mapping[str, Any]) -> None:
    """Append an evaluation to the file that the sweep reads, as a line of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def _train(job: TrainingJob, *, work: Work, **how: Any) -> TrainingResult:
    # Inside the attempt, so that a wrong node, a missing device or function fails the attempt and not the worker.
    if work.check is not None:
        work.check.require()
    device = _device(work)
    result: TrainingResult = resolve(work.train)(job, device=device, **how)
    # Only after success: after an error the process ends, and a CUDA call that failed here would hide the error.
    if device == "cuda" and work.is_shared:
        _free_gpu_memory()
    return result


def _preempted() -> str | None:
    return "its node is being taken away" if node_is_draining() else None


def _device(work: Work) -> str:
    # Set before torch is imported, which reads it: the number of threads changes sums on the CPU.
    os.environ["OMP_NUM_THREADS"] = str(work.need.cpus)
    if not work.need.gpus:
        # Torch is not asked, because a worker without GPUs sees all GPUs of its machine.
        return "cpu"
    from raysweep.model.torch_devices import device_with_gpu

    return device_with_gpu()


def _free_gpu_memory() -> None:
    """Free the GPU's memory for other processes, and reset the peak for the next training in this process."""
    import torch

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
