"""The train stage under Tune: one fresh Tuner over what is left to do.

A later run does not restore Tune's state, which loses the children of a failed trial (Ray 2.60);
it goes by the trials' records, which the book keeps, and by each training's own checkpoints.
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

from raysweep.cluster.functions import first_line
from raysweep.cluster.session import Session
from raysweep.cluster.train_worker import TRAIN, Work
from raysweep.cluster.trial_driver import bundles, drive
from raysweep.cluster.tune_searcher import BookSearcher
from raysweep.pipeline.optuna_search import OptunaSuggestions
from raysweep.pipeline.search_rounds import Suggestions, Unit
from raysweep.pipeline.signals import GRACE_S, Interruption
from raysweep.pipeline.sweep_state import Book
from raysweep.pipeline.tasks import Listener, TrainTask
from raysweep.planning.budget import BudgetWatch
from raysweep.scheduling.failures import Failure
from raysweep.scheduling.outcomes import Failed, outcome_from_json

logger = logging.getLogger(__name__)

_LOOK_S = 0.5
"""How often new evaluations are looked for."""


def run_sweep(
    session: Session,
    tasks: Sequence[TrainTask],
    listener: Listener,
    *,
    storage: Path,
    train: str = TRAIN,
    fail_fast: bool = False,
    budget: BudgetWatch | None = None,
) -> None:
    """Train every task whose parent gets done, and write each one's record.

    Args:
        storage: for Tune's and Train's own notes.
        train: the training function, 'module:function', called as `training.loop.train` is.
        fail_fast: whether the first trial that fails stops the others, at a checkpoint.
        budget: the budget; at its cap what runs stops, at a checkpoint.

    Raises:
        ResourceError: a trial asks for more than the cluster has.
        KeyboardInterrupt: Ctrl-C or SIGTERM; what ran has saved a checkpoint and is recorded as stopped.
    """
    if not tasks:
        return
    needs = {task.job.trial: session.need(task.gpus, task.accelerator_type) for task in tasks}
    session.require(needs)
    for task in tasks:
        if task.fresh:
            task.folder.clear()
    notes = storage / "notes"
    shutil.rmtree(notes, ignore_errors=True)
    book = Book(
        tasks,
        needs=needs,
        capacity=session.training_capacity,
        listener=listener,
        suggestions=_suggestions,
        max_failures=session.resources.max_failures,
        fail_fast=fail_fast,
    )

    attempts: Counter[str] = Counter()

    def config(unit: Unit) -> dict[str, Any]:
        attempts[unit.name] += 1
        work = Work(
            job=unit.job,
            need=book.need(unit.name),
            storage=storage / "train",
            evaluations=notes / f"{unit.name}.jsonl",
            failure=notes / f"{unit.name}.{attempts[unit.name]}.failure",
            takes_trial_gpu=session.declares_trial_gpu,
            pause_at=unit.pause_at,
            is_shared=session.shares_workers(book.need(unit.name)),
            train=train,
        )
        return {"name": unit.name, "attempt": attempts[unit.name], "work": work}

    # What failed, and where its log is, the book says.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    interruption = Interruption()
    try:
        with interruption:
            _tuner(book, config, storage / "tune", interruption, budget).fit()
        interruption.raise_if_asked()
        assert book.is_over, "Tune goes on until it is told that all is over"
        if book.halted:
            # What is not a training of its own, such as a search, has a record that still says running.
            book.stop(book.halted)
    except BaseException as error:
        is_asked = isinstance(error, KeyboardInterrupt)
        book.stop(
            interruption.reason or "interrupted"
            if is_asked
            else f"the sweep broke off: {type(error).__name__}: {error}"
        )
        raise
    finally:
        if budget is not None:
            budget.close()


def _tuner(
    book: Book, config: Any, storage: Path, interruption: Interruption, budget: BudgetWatch | None
) -> tune.Tuner:
    return tune.Tuner(
        tune.with_resources(drive, lambda config: bundles(config["work"])),
        tune_config=tune.TuneConfig(
            search_alg=BookSearcher(book, config),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_file_name,
            trial_dirname_creator=_file_name,
        ),
        run_config=tune.RunConfig(
            name=time.strftime("%Y%m%d-%H%M%S"),
            storage_path=str(storage),
            verbose=0,
            callbacks=[_Watch(book, interruption, budget)],
            # What is tried again, and how often, the book decides.
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )


def _file_name(trial: Any) -> str:
    name, attempt = str(trial.config["name"]).replace("/", "~"), trial.config["attempt"]
    return name if attempt == 1 else f"{name}~{attempt}"


def _suggestions(task: TrainTask) -> Suggestions:
    assert task.search is not None, "only a search draws its settings"
    return OptunaSuggestions(task.search, seed=task.job.seed)


def _loss(trial: Any) -> Failed:
    """Classify a process that died before it wrote its failure file."""
    path = Path(trial.error_file) if trial.error_file else None
    story = path.read_text(encoding="utf-8") if path and path.exists() else ""
    last = first_line("\n".join(reversed(story.splitlines())))
    if os.strerror(errno.ENOSPC) in last:
        return Failed(message=last, failure=Failure.DISK)
    if trial.config["work"].is_shared:
        return Failed(message=f"its worker was lost: {last}", failure=Failure.WORKER)
    return Failed(message=f"the process that drives it was lost: {last}", failure=Failure.DRIVER)


class _Watch(tune.Callback):
    """Tells the book when a trial's driver starts (before that it waits), is lost, of evaluations and signals."""

    def __init__(self, book: Book, interruption: Interruption, budget: BudgetWatch | None) -> None:
        self._book = book
        self._interruption = interruption
        self._budget = budget
        self._read: dict[str, int] = {}
        self._looked = 0.0

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:  # noqa: ARG002 - Ray's names
        self._book.begin(trial.config["name"])

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:  # noqa: ARG002 - Ray's names
        self._heed_signals()
        if time.monotonic() - self._looked < _LOOK_S:
            return
        self._looked = time.monotonic()
        self._heed_budget()
        for trial in trials:
            if trial.status == trial.RUNNING:
                self._tell_evaluations(trial)

    def _heed_signals(self) -> None:
        if self._interruption.reason and not self._book.halted:
            self._book.halt(self._interruption.reason, within_s=GRACE_S)
        if self._interruption.is_overdue:
            raise KeyboardInterrupt(self._interruption.reason)

    def _heed_budget(self) -> None:
        if self._budget is None:
            return
        in_use = self._book.in_use
        cores = in_use.cpus if not in_use.gpus else 0.0
        reason = self._budget.record_usage(time.monotonic(), gpus=in_use.gpus, cores=cores)
        if reason and not self._book.halted:
            self._book.halt(reason)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **_: Any) -> None:  # noqa: ARG002
        # The outcome; the searcher, and with it the book, is told of it after this.
        self._tell_evaluations(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:  # noqa: ARG002
        noted = trial.config["work"].failure
        outcome = outcome_from_json(noted.read_text(encoding="utf-8")) if noted.exists() else _loss(trial)
        self._tell_evaluations(trial)
        self._book.end(trial.config["name"], outcome)

    def _tell_evaluations(self, trial: Any) -> None:
        name, path = trial.config["name"], trial.config["work"].evaluations
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        for line in whole[self._read.get(name, 0) :]:
            self._book.evaluate(name, json.loads(line))
        self._read[name] = len(whole)

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks beside its own state; the book holds the terminal.
        return {}
