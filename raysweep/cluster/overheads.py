"""Measures what Ray takes around trainings: a session, a sweep of one-step trainings, and a scorer.

The calibration without Ray (`planning.calibration`) has left its sample of examples and its models in
a folder; here the same trainings run as a sweep does.
"""

import time

from raysweep.cluster.scorers import Scorers
from raysweep.cluster.session import open_session
from raysweep.cluster.sweep import run_sweep
from raysweep.config.schema import Config
from raysweep.errors import TrainingError
from raysweep.pipeline.tasks import ScoreTask, TrainTask
from raysweep.planning.calibration_worker import calibration_job
from raysweep.planning.measured_overheads import starts_of
from raysweep.planning.rates import Overheads
from raysweep.scheduling.records import State, read_record
from raysweep.storage.run_folder import RunFolder


class _Silence:
    """A listener; nobody wants to hear of these trainings."""

    def advance(self, stage: str, done: int, total: int, unit: str) -> None:
        """Not told."""

    def say(self, message: str) -> None:
        """Not told."""


def measure_overheads(config: Config, folder: RunFolder, *, slots: int, finish_s: float) -> Overheads:
    """What Ray takes here.

    Args:
        folder: of a calibration: examples, documents.
        slots: trainings at a time; twice as many run.

    Raises:
        TrainingError: one of them failed.
    """
    began = time.time()
    with open_session(config.resources, scratch=folder.ray) as session:
        opened = time.time()
        tasks = [_task(config, folder, f"start-{number}") for number in range(2 * slots)]
        run_sweep(session, tasks, _Silence(), storage=folder.ray)
        records = [read_record(task.folder) for task in tasks]
        done = [record for record in records if record is not None and record.state is State.DONE]
        if len(done) < len(tasks):
            lost = next(record for record in records if record is None or record.state is not State.DONE)
            raise TrainingError(f"calibration: {lost.reason if lost else 'a training was never started'}")
        started = min(record.started_at or opened for record in done)
        scoring = time.time()
        score = _score(config, folder, tasks[0])
        with Scorers(need=session.need(), capacity=session.capacity, max_failures=0) as scorers:
            scorers.score([score], _Silence())
        scored = time.time()
    measured = Overheads(
        ray_start_s=round(opened - began, 3),
        sweep_start_s=round(started - opened, 3),
        scorer_start_s=round(scored - scoring, 3),
    )
    return starts_of(done, measured, slots=slots, finish_s=finish_s)


def _task(config: Config, folder: RunFolder, name: str) -> TrainTask:
    return TrainTask(
        job=calibration_job(config, folder, name, steps=1),
        folder=folder.trial(name),
        identity={},
        parent=None,
        gpus=None,
        search=None,
        fresh=True,
    )


def _score(config: Config, folder: RunFolder, task: TrainTask) -> ScoreTask:
    few = {"documents_per_level": 1, "examples_per_document": 1, "generation_documents": 0}
    return ScoreTask(
        model=task.job.trial,
        start=str(task.folder.model),
        job=task.job,
        examples=folder.examples,
        documents=folder.documents,
        levels=task.job.levels,
        evaluation=config.evaluation.model_copy(update=few),
        seed=0,
        out=folder.cells(task.job.trial),
        record=folder.cells_record(task.job.trial),
        fingerprint="calibration",
    )
