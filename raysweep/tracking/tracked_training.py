"""Reads from the run folder what a tracker receives about a training; the curves are the same as in TensorBoard."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Protocol

from raysweep.config.schema import Config
from raysweep.scheduling.attempts import read_events
from raysweep.scheduling.records import State, TrialRecord, read_record
from raysweep.scheduling.trials import Trial
from raysweep.storage.run_folder import RunFolder, TrialFolder
from raysweep.tracking.tensorboard_scores import read_test_scores
from raysweep.training.hyperparameters import Hyperparameters, hyperparameters
from raysweep.training.metrics import evaluation_curves, read_metrics, step_curves

MOST_POINTS = 1000
"""Maximum number of per-step points per curve; for longer trainings only every second, third … step is sent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackedTraining:
    """A training, or one sample of a search, as a tracker receives it, without any path, host or user name."""

    run: str
    name: str
    id: str
    """Unchanged when the training is resumed or extended; a new one when it starts from scratch."""
    started_s: float
    """Unix seconds of the training's first start."""
    ended_s: float | None
    state: State
    settings: Hyperparameters
    scores: Mapping[str, float]
    """Scores on the test documents, by name; empty before the model is scored."""
    steps: int
    folder: TrialFolder

    def points(self, *, after: int = 0) -> list[tuple[int, dict[str, float]]]:
        """Return (step, curve values by name) for every step above `after`, in ascending order.

        The last step of a running training is left out, because its evaluation may not be written yet.
        """
        every = -(-self.steps // MOST_POINTS)
        # Read in this order, because `MetricsLog` writes evaluations first.
        lines = [line for line in read_metrics(self.folder.metrics) if line["kind"] == "step"]
        evaluations = read_metrics(self.folder.evaluations)
        last = lines[-1]["step"] - (self.state is State.RUNNING) if lines else 0
        points: dict[int, dict[str, float]] = {}
        for line in lines:
            if after < line["step"] <= last and line["step"] % every == 0:
                points.setdefault(line["step"], {}).update(step_curves(line))
        for line in evaluations:
            if after < line["step"] <= last:
                points.setdefault(line["step"], {}).update(evaluation_curves(line))
        return sorted(points.items())


class Tracker(Protocol):
    """A program that shows trainings; created when there is something to send, so that nothing unused is imported."""

    is_live: ClassVar[bool]
    """Whether the tracker also receives trainings that are still running."""

    def __init__(self, storage: Path) -> None:
        """Args: `storage` is the folder that holds the run folders; a local store lies beside them."""

    @staticmethod
    def store_of(storage: Path) -> str:
        """Return the address or folder in which the tracker stores what it receives."""

    @staticmethod
    def viewing_hint(storage: Path) -> str:
        """Return the command with which a user opens the tracker's page or data."""

    def send(self, training: TrackedTraining) -> None:
        """Send whatever the tracker does not have yet of the training."""

    def close(self) -> None:
        """Finish storing everything that was sent."""


def find_trainings(folder: RunFolder, trials: Mapping[str, Trial]) -> Iterator[tuple[Trial, TrialFolder, TrialRecord]]:
    """Yield every training that has started, with a search's samples.

    Raises:
        DamagedError, EarlierVersionError: a record was changed, or another version wrote it.
    """
    for trial in trials.values():
        root = folder.trial(trial.name)
        for place in (root, *root.samples()):
            if place.attempts.exists() and (record := read_record(place)) is not None:
                yield trial, place, record


def progress_digest(folder: RunFolder, place: TrialFolder, record: TrialRecord, *, destination: str) -> str:
    """Return a digest that changes when there is news of a training to send, or when the destination changes."""
    files = (place.record, place.metrics, place.evaluations, folder.cells_record(record.trial))
    seen = [(path.name, *_size_and_time(path)) for path in files]
    return sha256(json.dumps([destination, seen]).encode()).hexdigest()[:16]


def read_training(
    folder: RunFolder, config: Config, trial: Trial, place: TrialFolder, record: TrialRecord
) -> TrackedTraining:
    """Collect what a tracker receives about a training."""
    events = read_events(place)
    started = float(events[0]["at"]) if events else (record.started_at or 0.0)
    values = hyperparameters(
        trial.settings, config.model, seed=trial.seed, parent=trial.parent, drawn=record.identity.get("settings")
    )
    is_sample = record.trial != trial.name
    return TrackedTraining(
        run=folder.name,
        name=record.trial,
        id=sha256(f"{folder.name}/{record.trial}/{started!r}".encode()).hexdigest()[:16],
        started_s=started,
        ended_s=record.ended_at,
        state=record.state,
        settings=values,
        scores={} if is_sample else read_test_scores(folder, record, metric=config.report.metric),
        steps=trial.settings.steps,
        folder=place,
    )


def _size_and_time(path: Path) -> tuple[int, int]:
    if not path.exists():
        return 0, 0
    known = path.stat()
    return known.st_size, known.st_mtime_ns
