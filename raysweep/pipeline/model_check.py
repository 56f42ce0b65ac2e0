"""Checks that a trained model, and the scores stated for it, follow from the run folder in its current state."""

from raysweep.config.schema import Config
from raysweep.errors import DamagedError, InputError
from raysweep.pipeline.model_stages import EvaluateStage, TrainStage
from raysweep.pipeline.run_record import read_run
from raysweep.pipeline.stages import decide
from raysweep.planning.run_forecast import RunForecast, forecast_run
from raysweep.scheduling.trials import expand_trials
from raysweep.staging.run_command import run_command
from raysweep.storage.run_folder import RunFolder


def refuse_unsound_model(folder: RunFolder, config: Config, model: str) -> None:
    """Raise unless a model and its scores are there, up to date and undamaged; reads all their files.

    Raises:
        InputError: one of them is missing or not up to date; the message says what to do.
        DamagedError: a file was changed since it was made.
    """
    trials, record = expand_trials(config), read_run(folder)
    if model not in trials:
        raise InputError(f"--model: found '{model:.80}'; the trials of '{folder.name}' are {', '.join(trials)}")
    if record is None or not {"mask", "evaluate"} <= {*record.stages}:
        raise InputError(f"{folder.root}: is not evaluated; do {run_command(folder)} first")

    def forecast() -> RunForecast:
        return forecast_run(config, trials, folder)

    for kind, names in ((TrainStage, {model}), (EvaluateStage, {model, "evaluate"})):
        stage = kind(config=config, folder=folder, trials=trials, forced=(), extended=(), forecast=forecast)
        decisions = decide(stage.targets(record.stages))
        for target in (target for target in decisions.todo if target.name in names):
            reason = decisions.reasons.get(target.name, "it is not done")
            raise InputError(
                f"{target.kind} '{target.name}' of '{folder.name}' is not up to date: {reason}; "
                f"do {run_command(folder)} first"
            )
        for target in (target for target in decisions.skip if target.name in names):
            for damage in target.find_damage():
                raise DamagedError(
                    f"{damage.path} {damage.what}; make it again with {run_command(folder, *target.force.split())}"
                )
