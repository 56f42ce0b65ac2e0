"""The worker of one training: runs the loop, and tells how it ended as a value.

An error *of the loop* must not look like a lost worker, so it is returned and not raised.  Between
two steps the loop asks whether to stop: somebody may have asked, or the node may be about to be
taken away (a spot instance is, with notice); either way it saves a checkpoint first.
"""

import dataclasses
import gc
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
from ray.train.v2._internal.execution.context import get_train_context

from raysweep.cluster.functions import describe_error, resolve
from raysweep.pipeline.capacity import ResourceRequest
from raysweep.scheduling.attempts import kept_seconds, note
from raysweep.scheduling.failures import Failure, failure_of
from raysweep.scheduling.stop_requests import StopWatch
from raysweep.storage.atomic_files import write_json
from raysweep.storage.run_folder import TrialFolder
from raysweep.training.job import Evaluation, TrainingJob

TRAIN = "raysweep.training.loop:train"
"""By name, so that torch is imported where the training runs and nowhere else."""

_TAKEN_AWAY = "its node is being taken away"
_PAUSED = "waits for the other samples of its round"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One training as it travels to its driver and its workers."""

    job: TrainingJob
    log: Path
    """Where the worker's log lines go."""
    need: ResourceRequest
    storage: Path
    """For Train's own notes."""
    evaluations: Path
    """Where its evaluations are noted, a JSON object a line, for whoever watches."""
    failure: Path
    """Where one of several workers notes how the loop failed."""
    takes_token: bool
    is_shared: bool
    """Whether it trains in the trial's process, in which others train before and after it."""
    train: str = TRAIN
    pause_at: int | None = None
    """The step of the evaluation after which it stops and waits; see `scheduling.successive_halving`."""


def train_on_worker(config: dict[str, Any]) -> dict[str, Any]:
    """Run the training loop as one of Train's workers.

    Returns:
        {"result": …}, {"failed": message, "kind": a `Failure`}, {"stopped": reason, "steps": done}, or
        {"paused": steps done}.
    """
    work: Work = config["work"]
    context = None if work.is_shared else ray.train.get_context()
    rank, world_size = (context.get_world_rank(), context.get_world_size()) if context else (0, 1)
    try:
        outcome = _train(work, rank, world_size)
    except Exception as error:
        outcome = {"failed": describe_error(error), "kind": failure_of(error)}
        if world_size > 1:
            # The others wait for this worker in a collective, and only its death sets them free.
            write_json(work.failure, outcome)
            raise
    return outcome


def _train(work: Work, rank: int, world_size: int) -> dict[str, Any]:
    folder = TrialFolder(work.job.folder)
    signs = _StopSigns(folder, heeds_nodes=not work.is_shared, pause_at=work.pause_at)
    tell = partial(_note_evaluation, work.evaluations) if work.is_shared else _report

    def evaluated(evaluation: Evaluation) -> None:
        signs.see(evaluation)
        tell(evaluation)

    with _logging_to(work.log if rank == 0 else None), _noted(folder if rank == 0 else None) as ended:
        try:
            result = resolve(work.train)(
                work.job,
                device=_device(work),
                rank=rank,
                world_size=world_size,
                on_evaluation=evaluated,
                should_stop=signs,
            )
        except Exception:
            logger.exception("%s: failed", work.job.trial)
            raise
        is_stopped = result.stopped != "" and result.stopped == signs.reason
        ended("stopped" if is_stopped else "done", result.seconds)
    if not is_stopped:
        return {"result": dataclasses.asdict(result)}
    # No finished training: there is a checkpoint and no model, and the next attempt goes on from there.
    if signs.reason == _TAKEN_AWAY:
        return {"failed": f"{_TAKEN_AWAY}; saved after step {result.steps:,}", "kind": Failure.PREEMPTED}
    if signs.reason == _PAUSED:
        return {"paused": result.steps}
    return {"stopped": result.stopped, "steps": result.steps}


class _StopSigns:
    """Called between two steps: why to stop, if there is a request, a notice of preemption, or a rung."""

    def __init__(self, folder: TrialFolder, *, heeds_nodes: bool, pause_at: int | None) -> None:
        self._requests = StopWatch(folder)
        self._pause_at, self._is_at_rung = pause_at, False
        self._heeds_nodes = heeds_nodes
        self.reason: str | None = None

    def see(self, evaluation: Evaluation) -> None:
        """The model was evaluated."""
        self._is_at_rung = self._pause_at is not None and evaluation.step >= self._pause_at

    def __call__(self) -> str | None:
        if self.reason is None:
            self.reason = _PAUSED if self._is_at_rung else self._requests()
        # Ray's public way to ask is a collective, and only the first of several workers asks here.
        if (
            self._heeds_nodes
            and self.reason is None
            and get_train_context().preemption_context.preemption_info is not None
        ):
            self.reason = _TAKEN_AWAY
        return self.reason


@contextmanager
def _noted(folder: TrialFolder | None) -> Iterator[Callable[[str, Mapping[str, float]], None]]:
    """Note that an attempt's worker is there, and how it ended: by the function yielded, or by an error."""

    def ended(how: str, kept: Mapping[str, float]) -> None:
        if folder is not None:
            note(folder, "end", how=how, kept=dict(kept))

    if folder is not None:
        note(folder, "start", kept=kept_seconds(folder), host=socket.gethostname(), pid=os.getpid())
    try:
        yield ended
    except Exception as error:
        failure = failure_of(error)
        if folder is not None and failure is not Failure.DISK:
            ended(failure, kept_seconds(folder))
        raise


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


@contextmanager
def _logging_to(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    ours = logging.getLogger("raysweep")
    level = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.setLevel(level)
        ours.removeHandler(handler)
        handler.close()
