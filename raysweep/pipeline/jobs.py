"""Builds the tasks of the train and evaluate stages from the config and the run folder."""

from collections.abc import Collection, Mapping, Sequence

from raysweep.config.schema import Config
from raysweep.pipeline.stages import Target
from raysweep.pipeline.tasks import ScoreTask, TrainTask
from raysweep.scheduling.scorings import Scoring
from raysweep.scheduling.trials import START_MODEL, Trial
from raysweep.storage.run_folder import RunFolder
from raysweep.training.job import start_of_training, training_job


def train_tasks(
    config: Config,
    folder: RunFolder,
    trials: Sequence[Trial],
    targets: Mapping[str, Target],
    *,
    fresh: Collection[str],
    costs: Mapping[str, float],
) -> list[TrainTask]:
    """Make a task for each trial, with its expected seconds; a parent not among the trials is done already."""
    names = {trial.name for trial in trials}
    return [
        TrainTask(
            job=training_job(config, folder, trial, targets[trial.name].fingerprint),
            identity=targets[trial.name].identity,
            made_from=targets[trial.name].made_from,
            parent=trial.parent if trial.parent in names else None,
            gpus=trial.settings.gpus,
            search=trial.settings.search,
            fresh=trial.name in fresh,
            cost=costs[trial.name],
            accelerator_type=trial.settings.accelerator_type,
        )
        for trial in trials
    ]


def score_tasks(
    config: Config,
    folder: RunFolder,
    trials: Mapping[str, Trial],
    scorings: Sequence[Scoring],
    targets: Mapping[str, Target],
) -> list[ScoreTask]:
    """Make a task for each scoring; the targets are by the scoring's name."""
    first = next(trial for trial in trials.values() if trial.parent is None)

    def task(scoring: Scoring) -> ScoreTask:
        model, name, evaluation = scoring.model, scoring.name, config.evaluation
        target = targets[name]
        trial = trials.get(model, first)
        place = folder if scoring.corpus is None else folder.further(scoring.corpus)
        own_name = name if scoring.corpus is None else model
        parent = trial.parent if scoring.weight is not None else None
        if not scoring.is_test:
            evaluation = evaluation.model_copy(update={"generation_documents": 0})
        return ScoreTask(
            model=name if scoring.weight is not None else model,
            start=start_of_training(config) if model == START_MODEL else str(folder.trial(model).model),
            job=training_job(config, folder, trial, target.fingerprint),
            examples=place.examples,
            documents=place.documents,
            levels=scoring.levels,
            evaluation=evaluation,
            seed=config.seed,
            out=place.cells(own_name),
            record=place.cells_record(own_name),
            splits=scoring.splits,
            general=folder.trial(parent).model if parent is not None else None,
            weight=1.0 if scoring.weight is None else scoring.weight,
            identity=target.identity,
            made_from=target.made_from,
        )

    return [task(scoring) for scoring in scorings]
