"""Measures the time that Ray takes around trainings: a session, a sweep of one-step trainings, and a scorer.

The calibration without Ray (`planning.calibration`) leaves its sample of examples and its models in a folder;
the same trainings run here as trials of a sweep.
"""

from contextlib import closing

from raysweep.cluster.scorers import Scorers
from raysweep.cluster.session import open_session
from raysweep.cluster.sweep import run_sweep
from raysweep.config.schema import Config
from raysweep.errors import TrainingError
from raysweep.pipeline.tasks import ScoreTask, SilentListener, TrainTask
from raysweep.planning.calibration_worker import calibration_job
from raysweep.planning.measured_overheads import measure_starts
from raysweep.planning.rates import Overheads
from raysweep.scheduling.records import State, read_record
from raysweep.storage.clock import unix_seconds
from raysweep.storage.run_folder import RunFolder


def measure_overheads(config: Config, folder: RunFolder, *, slots: int, finish_s: float) -> Overheads:
    """Measure the seconds that Ray takes on this machine, by twice `slots` trainings in a calibration's folder.

    Raises:
        TrainingError: one of them failed.
    """
    began = unix_seconds()
    with open_session(config.resources, scratch=folder.ray) as session:
        opened = unix_seconds()
        tasks = [_train_task(config, folder, f"start-{number}") for number in range(2 * slots)]
        run_sweep(session, tasks, SilentListener(), storage=folder.ray)
        records = [record for task in tasks if (record := read_record(task.folder))]
        if failed := [record for record in records if record.state is not State.DONE]:
            raise TrainingError(f"calibration: {failed[0].reason}")
        started = min(record.started_at or opened for record in records)
        scoring = unix_seconds()
        with closing(Scorers(session)) as scorers:
            scorers.score([_score_task(config, folder, tasks[0])], SilentListener())
        scored = unix_seconds()
    measured = Overheads(
        ray_start_s=round(opened - began, 3),
        sweep_start_s=round(started - opened, 3),
        scorer_start_s=round(scored - scoring, 3),
    )
    return measure_starts(records, measured, slots=slots, finish_s=finish_s)


def _train_task(config: Config, folder: RunFolder, name: str) -> TrainTask:
    return TrainTask(
        job=calibration_job(config, folder, name, steps=1),
        identity={},
        parent=None,
        gpus=None,
        search=None,
        fresh=True,
    )


def _score_task(config: Config, folder: RunFolder, task: TrainTask) -> ScoreTask:
    smallest = {"documents_per_level": 1, "examples_per_document": 1, "generation_documents": 0}
    return ScoreTask(
        model=task.job.trial,
        start=str(task.folder.model),
        job=task.job,
        examples=folder.examples,
        documents=folder.documents,
        levels=task.job.levels,
        evaluation=config.evaluation.model_copy(update=smallest),
        seed=0,
        out=folder.cells(task.job.trial),
        record=folder.cells_record(task.job.trial),
    )
