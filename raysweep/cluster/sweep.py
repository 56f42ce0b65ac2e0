"""Runs the train stage under Tune: one fresh Tuner over the trainings that are left.

Tune starts a process for each training where its resources are free, waits for the autoscaler, reuses
processes, and notices lost ones; `SweepState` decides what starts next and what follows a failure.
A later run does not restore Tune's own state, which loses the children of a failed trial (Ray 2.60);
it relies on the trials' records, which the `SweepState` writes, and on each training's own checkpoints.
"""

import errno
import json
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback

from raysweep.cluster.functions import last_line
from raysweep.cluster.session import Session
from raysweep.cluster.sweep_metrics import SweepMetrics, run_of
from raysweep.cluster.train_worker import TRAIN, Work
from raysweep.cluster.trial_driver import bundles, drive
from raysweep.cluster.tune_searcher import EndTraining, ForgetfulScheduler, SweepSearcher
from raysweep.pipeline.search_rounds import SweepTraining
from raysweep.pipeline.sweep_watch import SweepWatch, open_sweep
from raysweep.pipeline.tasks import Listener, TrainTask
from raysweep.planning.budget import BudgetWatch
from raysweep.scheduling.failures import Failure
from raysweep.scheduling.outcomes import Failed, Outcome, outcome_from_json
from raysweep.scheduling.stop_requests import forget_stop
from raysweep.staging.run_staging import LocalStorage, Staging
from raysweep.storage.run_folder import TrialFolder
from raysweep.training.job import Evaluation

_POLL_S = 0.5
"""Seconds between two checks for new evaluations and of the budget."""


def run_sweep(
    session: Session,
    tasks: Sequence[TrainTask],
    listener: Listener,
    *,
    storage: Path,
    train: str = TRAIN,
    fail_fast: bool = False,
    budget: BudgetWatch | None = None,
    staging: Staging | None = None,
) -> None:
    """Train every task whose parent finishes, and write each task's record.

    Args:
        storage: folder for Tune's and Train's own files.
        train: the training function, 'module:function', called like `training.loop.train`.
        fail_fast: whether the first failed trial stops the others, at a checkpoint.
        budget: when its cap is reached, running trainings stop at a checkpoint.
        staging: of the run folder, if it is in object storage.

    Raises:
        ResourceError: a trial requests more than the cluster has, or GPUs of nodes with another number of `trial_gpu`.
        KeyboardInterrupt: Ctrl-C or SIGTERM; running trainings have saved a checkpoint and are recorded as stopped.
        LostRayError: the locally started Ray is gone.
    """
    requests = {task.job.trial: session.need(task.gpus, task.accelerator_type) for task in tasks}
    session.require(requests)
    session.require_trial_gpus(requests)
    notes = storage / "notes"
    shutil.rmtree(notes, ignore_errors=True)
    # The sweep's state reports failures to the user, and where the log is.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with open_sweep(
        tasks,
        requests=requests,
        capacity=session.training_capacity,
        listener=listener,
        budget=budget,
        max_failures=session.resources.max_failures,
        fail_fast=fail_fast,
    ) as watch:
        attempts: Counter[str] = Counter()
        folders: dict[str, Path] = {}
        storage_of_run: Staging = staging or LocalStorage()

        def end(name: str, outcome: Outcome) -> None:
            storage_of_run.collect(folders[name])
            watch.state.end(name, outcome)

        def config(training: SweepTraining) -> dict[str, Any]:
            name, request = training.name, watch.state.request_of(training.name)
            attempts[name] += 1
            folders[name] = training.folder.root
            # Before the worker starts, its files must be in place, and no old stop request.
            forget_stop(training.folder)
            storage_of_run.push()
            work = Work(
                job=training.job,
                need=request,
                storage=storage / "train",
                evaluations=notes / f"{name}.jsonl",
                failure=notes / f"{name}.{attempts[name]}.failure",
                takes_trial_gpu=session.declares_trial_gpu,
                pause_at=training.pause_at,
                is_shared=session.shares_workers(request),
                check=session.check,
                ticket=session.ticket,
                train=train,
            )
            return {"name": name, "attempt": attempts[name], "work": work}

        try:
            _tuner(watch, config, storage / "tune", end).fit()
        finally:
            # Tune may mistake the loss of Ray for an interruption.
            session.watch.raise_if_lost()


def _tuner(watch: SweepWatch, config: Any, storage: Path, end: EndTraining) -> tune.Tuner:
    # Whatever the user has set: Tune's newer reporter prints a banner even when verbose is 0, and drops `_NoProgress`.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    return tune.Tuner(
        tune.with_resources(drive, lambda config: bundles(config["work"])),
        tune_config=tune.TuneConfig(
            search_alg=SweepSearcher(watch.state, config, end),
            scheduler=ForgetfulScheduler(),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_file_name,
            trial_dirname_creator=_file_name,
        ),
        run_config=tune.RunConfig(
            name=time.strftime("%Y%m%d-%H%M%S"),
            storage_path=str(storage),
            verbose=0,
            callbacks=[_Callback(watch, end, SweepMetrics(run_of(storage.parent))), _NoProgress()],
            # The sweep's state decides what is retried, and how often.
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )


def _file_name(trial: Any) -> str:
    name, attempt = str(trial.config["name"]).replace("/", "~"), trial.config["attempt"]
    return name if attempt == 1 else f"{name}~{attempt}"


class _Callback(tune.Callback):
    """Passes starts (a trial waits before that), evaluations and lost processes on to the sweep's state."""

    def __init__(self, watch: SweepWatch, end: EndTraining, metrics: SweepMetrics) -> None:
        self._watch, self._state, self._end, self._metrics = watch, watch.state, end, metrics
        self._evaluations: Counter[str] = Counter()
        """Number of evaluations passed on so far, by training."""
        self._polled = 0.0

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:  # noqa: ARG002 - Ray's names
        self._state.begin(trial.config["name"])
        self._metrics.begin_trial(trial.config["name"])

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:  # noqa: ARG002 - Ray's names
        self._watch.poll_signals()
        if time.monotonic() - self._polled < _POLL_S:
            return
        self._polled = time.monotonic()
        self._watch.poll_budget()
        self._metrics.repeat()
        self._metrics.export_states(self._state.count_states())
        if (spent := self._watch.spent) is not None:
            self._metrics.export_spending(gpu_hours=spent.gpu_hours, cost=spent.cost)
        for trial in trials:
            if trial.status == trial.RUNNING:
                self._pass_on_evaluations(trial)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **_: Any) -> None:  # noqa: ARG002
        # The result is the outcome, which the searcher passes on after this.
        self._pass_on_evaluations(trial)
        self._metrics.end_trial(trial.config["name"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:  # noqa: ARG002
        written = trial.config["work"].failure
        self._pass_on_evaluations(trial)
        self._metrics.end_trial(trial.config["name"])
        outcome = outcome_from_json(written.read_text(encoding="utf-8")) if written.exists() else _loss(trial)
        self._end(trial.config["name"], outcome)

    def _pass_on_evaluations(self, trial: Any) -> None:
        name, path = trial.config["name"], trial.config["work"].evaluations
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        for line in lines[self._evaluations[name] :]:
            if line.endswith("\n"):
                self._evaluations[name] += 1
                evaluation = Evaluation(**json.loads(line))
                self._state.evaluate(name, evaluation)
                self._metrics.export_evaluation(name, TrialFolder(trial.config["work"].job.folder), evaluation)

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks beside its own state; the sweep's state holds the terminal.
        return {}


class _NoProgress(TrialProgressCallback):
    """Replaces the callback that Tune adds, which prints nothing at this verbosity, but keeps every trial."""

    def log_result(self, trial: Any, result: Any, error: bool = False) -> None:
        """Keep nothing of a trial that reports or fails."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Keep nothing of a trial that ends."""


def _loss(trial: Any) -> Failed:
    """Classify a process that died before it wrote its failure file."""
    path = Path(trial.error_file) if trial.error_file else None
    story = path.read_text(encoding="utf-8") if path and path.exists() else ""
    last = last_line(story)
    if os.strerror(errno.ENOSPC) in last:
        return Failed(message=last, failure=Failure.DISK)
    if trial.config["work"].is_shared:
        return Failed(message=f"its worker was lost: {last}", failure=Failure.WORKER)
    return Failed(message=f"the process that drives it was lost: {last}", failure=Failure.DRIVER)
