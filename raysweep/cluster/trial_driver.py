"""Carries one training to a worker: Tune's trial is a thin driver, Ray Train runs the loop.

The loop's checkpoints are its own files in the trial's folder, and whoever starts the training again
goes on from them.  Neither Tune nor Train tries anything again: how an attempt ended is told to the
book, which knows what each kind of failure calls for.

Train's worker group takes some 8 s of CPU time to start, in four processes that live for one training.
On the CPUs of this machine alone its fault tolerance buys nothing that the book does not do, so Train
runs in local mode there: the loop is in the trial's own process, which Tune uses again for the next
trial, torch and all.
"""

import json
import os
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray import tune
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.constants import ENV_VARS_TO_PROPAGATE
from ray.train.v2._internal.execution.worker_group.poll import _is_preempted_actor
from ray.train.v2.api.config import FailureConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.train.v2.api.exceptions import WorkerGroupError

from raysweep.cluster.functions import brief
from raysweep.cluster.session import TOKEN
from raysweep.cluster.train_worker import Work, train_on_worker
from raysweep.scheduling.failures import Failure
from raysweep.scheduling.outcomes import Failed, outcome_to_json


def bundles(work: Work) -> Any:
    """What Tune reserves for the trial: all that it takes, or its driver on the head and a token for each GPU.

    In the second case the GPUs and CPUs themselves are asked for by Train's worker group, beside Tune's; had the trial
    reserved them too, trials would wait for each other for ever.  The driver takes no CPU, so that
    as many trials run as there are cores.
    """
    if work.is_shared:
        return tune.PlacementGroupFactory([_worker_resources(work)])
    driver = {"CPU": 0, "node:__internal_head__": 0.001}
    tokens = [{TOKEN: min(work.need.gpus, 1.0)}] * work.need.workers if work.takes_token and work.need.gpus else []
    return tune.PlacementGroupFactory([driver, *tokens])


def drive(config: dict[str, Any]) -> None:
    """Tune's trainable: run `config["work"]` under Ray Train and report how it ended.

    Reports `outcome`, an `Outcome` as JSON, since Tune takes nested values apart.  What Tune sees as an error
    is a lost process, or a shared one whose training failed, so that Tune does not use it again.
    """
    work: Work = config["work"]
    if work.is_shared:
        _local_trainer(work).fit()
        return
    _name_cluster()
    try:
        outcome = _trainer(work).fit().return_value
    except ray.train.TrainingFailedError as error:
        written = work.failure.exists()
        outcome = work.failure.read_text(encoding="utf-8") if written else outcome_to_json(_loss(error))
    tune.report({"outcome": outcome})


def _name_cluster() -> None:
    """Tell Train's processes which cluster is theirs.

    The one that gives back a lost training's GPU asks Ray's State API, and that asks the cluster that
    was started last on this machine, whoever's it is, unless RAY_ADDRESS says which; the training would
    wait for its GPU for ever.
    """
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    ENV_VARS_TO_PROPAGATE.add("RAY_ADDRESS")


def _trainer(work: Work) -> Any:
    workers, gpus = work.need.workers, work.need.gpus
    notes: list[Any] = [_Note(work.evaluations)]
    settings: dict[str, Any] = {
        "train_loop_config": {"work": work},
        "scaling_config": ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=gpus > 0,
            resources_per_worker=_worker_resources(work),
            accelerator_type=work.need.kind if gpus else None,
        ),
        "run_config": ray.train.RunConfig(
            name=work.job.trial.replace("/", "~"),
            storage_path=str(work.storage),
            callbacks=notes,
            failure_config=FailureConfig(max_failures=0, max_preemption_failures=0),
        ),
    }
    if workers == 1:
        # TorchTrainer but for its process group, which one worker has no use for: it would import
        # torch in the driver and the controller too, some 3 s of CPU for every trial.
        return _LeanTrainer(train_on_worker, **settings)
    from ray.train.torch import TorchTrainer

    function: Any = train_on_worker
    return TorchTrainer(function, **settings)


def _local_trainer(work: Work) -> Any:
    scaling = ray.train.ScalingConfig(num_workers=0)
    run = ray.train.RunConfig(name=work.job.trial.replace("/", "~"), storage_path=str(work.storage))
    return _LeanTrainer(_train_here, train_loop_config={"work": work}, scaling_config=scaling, run_config=run)


def _train_here(config: dict[str, Any]) -> None:
    tune.report({"outcome": train_on_worker(config)})


def _worker_resources(work: Work) -> dict[str, float]:
    need = work.need
    gpus = {"GPU": need.gpus / need.workers} if need.gpus else {}
    kind = {f"accelerator_type:{need.kind}": 0.001} if need.gpus and need.kind and work.is_shared else {}
    return {"CPU": float(need.cpus), **gpus, **kind}


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


def _loss(error: Exception) -> Failed:
    """Why Train gave up, as an outcome."""
    failures = error.worker_failures if isinstance(error, WorkerGroupError) else {}
    last = next(iter(failures.values()), error)
    first = brief(str(last))
    if any(_is_preempted_actor(each) for each in failures.values()):
        return Failed(message=f"its node was taken away: {first}", failure=Failure.PREEMPTED)
    if "running low on memory" in str(last):
        return Failed(message=f"Ray ended its worker, for the node's memory was full: {first}", failure=Failure.MEMORY)
    if failures:
        return Failed(message=f"its worker was lost: {first}", failure=Failure.WORKER)
    return Failed(message=f"Ray Train gave it up: {first}", failure=Failure.DRIVER)
