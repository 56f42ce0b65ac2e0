"""Carries one training to a worker: Tune's trial is a thin driver, Ray Train runs the loop.

The loop's checkpoints are its own files in the trial's folder; a worker that was lost is replaced
by Train and goes on from them.  An error *of the loop* is another matter: trying again would meet
it again, so the worker hands it back as its return value, and the trial fails at once.
"""

import dataclasses
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
from ray import tune
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from raysweep.cluster.functions import describe_error, resolve
from raysweep.cluster.needs import Need
from raysweep.cluster.session import TOKEN
from raysweep.scheduling.stopping import StopWatch
from raysweep.store import TrialFolder, write_text
from raysweep.training.job import Evaluation, TrainingJob

TRAIN = "raysweep.training.loop:train"
"""By name, so that torch is imported where the training runs and nowhere else."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One training as it travels to its driver and its workers."""

    job: TrainingJob
    log: Path
    """Where the worker's log lines go."""
    need: Need
    max_failures: int
    """Times a lost worker is replaced."""
    storage: Path
    """For Train's own notes."""
    evaluations: Path
    """Where its evaluations are noted, a JSON object a line, for whoever watches."""
    failure: Path
    """Where one of several workers notes an error of the loop."""
    takes_token: bool
    train: str = TRAIN


def bundles(work: Work) -> Any:
    """What Tune reserves for the trial: its driver on the head, and a token for each GPU.

    The GPUs and CPUs themselves are asked for by Train's worker group, beside Tune's; had the trial
    reserved them too, trials would wait for each other for ever.  The driver takes no CPU, so that
    as many trials run as there are cores.
    """
    driver = {"CPU": 0, "node:__internal_head__": 0.001}
    tokens = [{TOKEN: min(work.need.gpus, 1.0)}] * work.need.workers if work.takes_token and work.need.gpus else []
    return tune.PlacementGroupFactory([driver, *tokens])


def drive(config: dict[str, Any]) -> None:
    """Tune's trainable: run `config["work"]` under Ray Train and report how it ended.

    Reports `outcome` as JSON, since Tune takes nested values apart: {"result": …}, {"failed":
    message} or {"stopped": reason, "steps": done}.  It raises nothing of its own; what Tune sees as
    an error is a lost driver, which Tune starts again.
    """
    work: Work = config["work"]
    try:
        outcome = _trainer(work).fit().return_value
    except ray.train.TrainingFailedError as error:
        outcome = {"failed": _lost(work, error)}
    tune.report({"outcome": json.dumps(outcome)})


def _trainer(work: Work) -> Any:
    workers, gpus = work.need.workers, work.need.gpus
    per_worker = {"CPU": float(work.need.cpus), **({"GPU": gpus / workers} if gpus else {})}
    notes: list[Any] = [_Note(work.evaluations)]
    settings: dict[str, Any] = {
        "train_loop_config": {"work": work},
        "scaling_config": ray.train.ScalingConfig(
            num_workers=workers, use_gpu=gpus > 0, resources_per_worker=per_worker
        ),
        "run_config": ray.train.RunConfig(
            name=work.job.trial.replace("/", "~"),
            storage_path=str(work.storage),
            callbacks=notes,
            failure_config=ray.train.FailureConfig(max_failures=work.max_failures),
        ),
    }
    if workers == 1:
        # TorchTrainer but for its process group, which one worker has no use for: it would import
        # torch in the driver and the controller too, some 3 s of CPU for every trial.
        return _LeanTrainer(train_on_worker, **settings)
    from ray.train.torch import TorchTrainer

    function: Any = train_on_worker
    return TorchTrainer(function, **settings)


class _LeanTrainer(DataParallelTrainer):
    """Without Train's dataset manager, a process for every trial: batches come from memory-mapped files."""

    def _create_default_callbacks(self) -> list[Any]:
        return [each for each in super()._create_default_callbacks() if not isinstance(each, DatasetsCallback)]


class _Note(ray.train.UserCallback):
    """Notes the evaluations that the worker reports, in the controller's process.

    Ray's own way to Tune (`TuneReportCallback`) is a queue with a process for every trial.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:  # noqa: ARG002 - Ray's names
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics[0]) + "\n")


def train_on_worker(config: dict[str, Any]) -> dict[str, Any]:
    """Run the training loop as one of Train's workers."""
    work: Work = config["work"]
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    if work.failure.exists():
        # A worker of several noted an error before this restart, see below.
        return {"failed": work.failure.read_text(encoding="utf-8")}
    should_stop = StopWatch(TrialFolder(work.job.folder))
    with _logging_to(work.log if rank == 0 else None):
        try:
            result = resolve(work.train)(
                work.job,
                device=_device(work),
                rank=rank,
                world_size=world_size,
                on_evaluation=_report,
                should_stop=should_stop,
            )
        except Exception as error:
            logger.exception("%s: failed", work.job.trial)
            if world_size > 1:
                # The others wait for this worker in a collective, and only its death sets them free;
                # Train then starts them all again, and they read that there is no point.
                write_text(work.failure, describe_error(error))
                raise
            return {"failed": describe_error(error)}
    if result.stopped and result.stopped == should_stop():
        # No finished training: there is a checkpoint and no model, and the next run goes on from there.
        return {"stopped": result.stopped, "steps": result.steps}
    return {"result": dataclasses.asdict(result)}


def _device(work: Work) -> str:
    # Read by torch when it is imported, which it is not yet: the number of threads changes sums on CPU.
    os.environ["OMP_NUM_THREADS"] = str(work.need.cpus)
    if not work.need.gpus:
        # Said outright, since a worker without GPUs on a machine with some would still see them all.
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


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


def _lost(work: Work, error: Exception) -> str:
    failures = getattr(error, "worker_failures", None) or {0: error}
    last = next(iter(failures.values()))
    again = f" {work.max_failures + 1} times" if work.max_failures else ""
    first = next((line for line in str(last).splitlines() if line.strip()), type(last).__name__)
    return f"its worker was lost{again} (resources.max_failures: {work.max_failures}); at last: {first}"
