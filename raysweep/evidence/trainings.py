"""How the trainings went and what they cost, from the trials' records, metrics and models.

Hours are wall time of all attempts, times the trial's GPUs if it ran on GPUs.
"""

from collections.abc import Mapping, Sequence

from raysweep.config.schema import Config
from raysweep.evidence.inputs import model_bytes
from raysweep.evidence.published import published_reason
from raysweep.evidence.run_schema import Curve, Training
from raysweep.scheduling.capacity import gpus_of_trial
from raysweep.scheduling.records import TrialRecord
from raysweep.scheduling.trials import Trial
from raysweep.storage.run_folder import RunFolder
from raysweep.training.metrics import read_metrics

CURVE_POINTS = 120


def describe_trials(
    folder: RunFolder, config: Config, trials: Mapping[str, Trial], records: Mapping[str, TrialRecord | None]
) -> tuple[Training, ...]:
    """A row per trial, in the config's order; trials that were not trained are included."""
    return tuple(_describe(folder, config, trial, records[name]) for name, trial in trials.items())


def read_curves(folder: RunFolder, trials: Mapping[str, Trial], metric: str) -> tuple[Curve, ...]:
    """Per trial: training loss and validation loss by step, thinned to what a plot can show."""
    return tuple(curve for name in trials if (curve := _curve(folder, name, metric)) is not None)


def _describe(folder: RunFolder, config: Config, trial: Trial, record: TrialRecord | None) -> Training:
    result = dict(record.result) if record else {}
    device = result.get("device")
    is_on_gpu = device and not device.startswith("cpu")
    gpus = gpus_of_trial(config.resources, trial.settings.gpus, gpus=1.0) if is_on_gpu else 0.0
    return Training(
        trial=trial.name,
        entry=trial.entry,
        seed=trial.seed,
        parent=trial.parent,
        levels=trial.settings.levels,
        state=str(record.state) if record else "pending",
        reason=published_reason(record) if record else "",
        attempts=record.attempts if record else 0,
        steps=result.get("steps"),
        steps_asked=trial.settings.steps,
        stopped=result.get("stopped", ""),
        best_step=result.get("best_step"),
        best_losses=result.get("best_losses", {}),
        examples=result.get("examples"),
        tokens=result.get("tokens"),
        padding_share=result.get("padding_share"),
        device=device,
        hours=record.busy_seconds / 3600 * (gpus or 1.0) if record and result else None,
        hours_of="GPU" if gpus else "CPU",
        parameters=result.get("parameters"),
        peak_memory_bytes=result.get("peak_memory_bytes"),
        bytes=model_bytes(folder.trial(trial.name)),
        ended_at=record.ended_at if record else None,
    )


def _curve(folder: RunFolder, name: str, metric: str) -> Curve | None:
    lines = read_metrics(folder.trial(name).metrics)
    steps, evaluations = (
        [(line["step"], line[metric]) for line in lines if line["kind"] == kind and metric in line]
        for kind in ("step", "evaluation")
    )
    if not steps and not evaluations:
        return None
    return Curve(trial=name, train=_thin(steps), valid=_thin(evaluations))


def _thin(points: Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """At most `CURVE_POINTS` means of neighbouring points, each at its last step; the last point is kept."""
    width = -(-len(points) // CURVE_POINTS)
    groups = [points[first : first + width] for first in range(0, len(points), width)] if width else []
    return tuple((group[-1][0], sum(value for _, value in group) / len(group)) for group in groups)
