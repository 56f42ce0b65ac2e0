"""Drives one training: Tune's trial is a thin driver, and Ray Train runs the loop.

The loop writes its checkpoints to the trial's folder, and the next attempt resumes from them.  Neither Tune nor
Train retries: the sweep receives the outcome of an attempt, and decides what follows.

Train's worker group takes some 8 s of CPU time to start, in four processes that live for one training.
On a single machine it tolerates no failure that the sweep does not, so Train runs in local mode there: the loop
runs in the trial's own process, which Tune reuses for the next trial, with torch and the GPU's kernels loaded.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.fs
import ray
import ray.train
from ray import tune

from raysweep.cluster.functions import first_line
from raysweep.cluster.ray_internals import is_preempted, make_lean_trainer, propagate_to_train, title_process
from raysweep.cluster.session import TRAIN_VARIABLES, TRIAL_GPU
from raysweep.cluster.train_worker import OUTCOME_MARK, Work, append_evaluation, train_on_worker
from raysweep.scheduling.failures import Failure
from raysweep.scheduling.outcomes import Failed, outcome_to_json


def bundles(work: Work) -> Any:
    """Return what Tune reserves for the trial: all its resources, or a place for its driver and `trial_gpu` per GPU.

    In the second case Train's worker group reserves the GPUs and CPUs themselves; if the trial reserved them
    too, trials would deadlock waiting for each other.  The driver takes no CPU, so that as many trials can run as there
    are cores, and stays on the head, which no cloud reclaims.
    """
    if work.is_shared:
        return _factory(tuple(_worker_resources(work).items()))
    driver = ("CPU", 0.0), ("node:__internal_head__", 0.001)
    has_gpus = work.takes_trial_gpu and work.need.gpus
    trial_gpus = [((TRIAL_GPU, min(work.need.gpus, 1.0)),)] * work.need.workers if has_gpus else []
    return _factory(driver, *trial_gpus)


@cache
def _factory(*reserved: tuple[tuple[str, float], ...]) -> Any:
    """Return one object for all trials with the same request, since Tune keeps each trial's, of 2 kB."""
    return tune.PlacementGroupFactory([dict(bundle) for bundle in reserved])


def drive(config: dict[str, Any]) -> None:
    """Tune's trainable: run `config["work"]` under Ray Train and report how it ended.

    Reports `outcome`, an `Outcome` as JSON text, because Tune takes nested values apart.  To Tune, only a lost process,
    or a shared one whose training failed, is an error, so that Tune does not reuse the process.
    """
    work: Work = config["work"]
    if not work.is_shared:
        # The actor that frees a dead training's GPU uses Ray's State API, which without RAY_ADDRESS asks the
        # cluster that was started last on this machine; the GPU would then never be freed.
        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
        for name, value in TRAIN_VARIABLES.items():
            os.environ.setdefault(name, value)
        for name in ("RAY_ADDRESS", *TRAIN_VARIABLES):
            propagate_to_train(name)
    title_process(f"ray::{'train' if work.is_shared else 'drive'} {work.job.trial}")
    try:
        outcome = _trainer(work).fit().return_value
    except ray.train.TrainingFailedError as error:
        outcome = work.failure.read_text(encoding="utf-8") if work.failure.exists() else outcome_of_error(error)
        if (failed := _failed(error)).failure is Failure.PREEMPTED:
            # A worker whose peer was preempted with its node fails too, and knows less about the cause.
            outcome = outcome_to_json(failed)
    tune.report({"outcome": outcome})


def _trainer(work: Work) -> Any:
    need = work.need
    # The controller too must not retry: when the command ends, Ray cancels the reservation that it waits for, and it
    # would make another, which nobody frees.
    no_retries: dict[str, Any] = {"max_failures": 0, "max_preemption_failures": 0, "controller_failure_limit": 0}
    callbacks: list[Any] = [EvaluationCallback(work.evaluations)]
    settings: dict[str, Any] = {
        "train_loop_config": {"work": work},
        "scaling_config": ray.train.ScalingConfig(
            # 0: local mode.
            num_workers=0 if work.is_shared else need.workers,
            use_gpu=need.gpus > 0,
            resources_per_worker=_worker_resources(work),
            accelerator_type=need.kind if need.gpus else None,
        ),
        "run_config": ray.train.RunConfig(
            name=work.job.trial.replace("/", "~"),
            **train_storage(work),
            callbacks=callbacks,
            failure_config=ray.train.FailureConfig(**no_retries),
        ),
    }
    if need.workers == 1:
        return make_lean_trainer(train_on_worker, **settings)
    import torch.distributed
    from ray.train.torch import TorchTrainer

    from raysweep.cluster.process_group import OneAddressTorchConfig

    function: Any = train_on_worker
    # Train would choose NCCL wherever GPUs are requested, even with a torch that was built without it.
    backend = None if torch.distributed.is_nccl_available() else "gloo"
    return TorchTrainer(function, torch_config=OneAddressTorchConfig(backend=backend), **settings)


def train_storage(work: Work) -> dict[str, Any]:
    """Return the settings for Ray Train's own files: a place that every worker of the training can read."""
    if work.ticket is None:
        return {"storage_path": str(work.storage)}
    storage = work.ticket.storage.at(work.ticket.name)
    # Each node gets credentials from the usual chain, as for `staging`.
    place: dict[str, Any] = {}
    if storage.endpoint:
        scheme, _, host = storage.endpoint.partition("://")
        place = {"scheme": scheme, "endpoint_override": host}
    if storage.scheme == "s3" and storage.region:
        place["region"] = storage.region
    files: Any = pyarrow.fs.S3FileSystem if storage.scheme == "s3" else pyarrow.fs.GcsFileSystem
    path = work.storage.relative_to(work.ticket.root).as_posix()
    return {"storage_path": f"{storage.bucket}/{storage.prefix}/{path}", "storage_filesystem": files(**place)}


def _worker_resources(work: Work) -> dict[str, float]:
    need = work.need
    gpus = {"GPU": need.gpus / need.workers} if need.gpus else {}
    kind = {f"accelerator_type:{need.kind}": 0.001} if need.gpus and need.kind and work.is_shared else {}
    return {"CPU": float(need.cpus), **gpus, **kind}


class EvaluationCallback(ray.train.UserCallback):
    """Writes the evaluations that the worker reports, in the controller's process.

    Ray's `TuneReportCallback` would start a process with a queue for every trial.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:  # noqa: ARG002 - Ray's names
        """Write the first worker's metrics."""
        append_evaluation(self._path, metrics[0])


def outcome_of_error(error: Exception) -> str:
    """Return the outcome, as JSON, contained in a worker's error, or else a classification of the error."""
    failures = error.worker_failures if isinstance(error, ray.train.WorkerGroupError) else {}
    for failure in failures.values():
        _, mark, rest = str(failure).rpartition(OUTCOME_MARK)
        if mark:
            return rest.splitlines()[0]
    return outcome_to_json(_failed(error))


def _failed(error: Exception) -> Failed:
    """Classify the error with which Train gave up."""
    if isinstance(error, ray.train.PreemptionError):
        return Failed(message=f"its node was taken away: {first_line(str(error))}", failure=Failure.PREEMPTED)
    failures = error.worker_failures if isinstance(error, ray.train.WorkerGroupError) else {}
    last = next(iter(failures.values()), error)
    reason = first_line(str(last))
    if any(is_preempted(failure) for failure in failures.values()):
        return Failed(message=f"its node was taken away: {reason}", failure=Failure.PREEMPTED)
    if "running low on memory" in str(last):
        return Failed(message=f"Ray ended its worker, for the node's memory was full: {reason}", failure=Failure.MEMORY)
    if failures:
        return Failed(message=f"its worker was lost: {reason}", failure=Failure.WORKER)
    return Failed(message=f"Ray Train gave it up: {reason}", failure=Failure.DRIVER)
