"""What a tracker is told of a training, read from the run folder; its curves are TensorBoard's."""

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
"""Most points of a curve that has one for every step; of longer trainings every second, third … step is sent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackedTraining:
    """A training, or a sample of a search, as trackers see it; nothing in it names a path, a host or a user."""

    run: str
    name: str
    id: str
    """Stays the same when the training is resumed or extended; another one when it starts anew."""
    started_s: float
    """Unix seconds of its first start."""
    ended_s: float | None
    state: State
    settings: Hyperparameters
    scores: Mapping[str, float]
    """Scores on the test documents, by name; empty before they are scored."""
    steps: int
    folder: TrialFolder

    def points(self, *, after: int = 0) -> list[tuple[int, dict[str, float]]]:
        """Steps above `after` with the points of their curves, ascending.

        The last step of a training that runs is left out, since its evaluation may not be written yet.
        """
        every = -(-self.steps // MOST_POINTS)
        # In this order: `MetricsLog` writes evaluations first.
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
    """A program that shows trainings; made when there is something to send, so that nothing unused is imported."""

    is_live: ClassVar[bool]
    """Whether it is told of a training that runs."""

    def __init__(self, storage: Path) -> None:
        """Args: `storage` is the folder with the run folders; a local store lies beside them."""

    @staticmethod
    def store_of(storage: Path) -> str:
        """Where it keeps what it is sent."""

    @staticmethod
    def how_to_look(storage: Path) -> str:
        """What a person types to see it."""

    def send(self, training: TrackedTraining) -> None:
        """Bring the tracker up to date with the training; what it has already is not sent twice."""

    def close(self) -> None:
        """Everything sent is stored."""


def find_trainings(folder: RunFolder, trials: Mapping[str, Trial]) -> Iterator[tuple[Trial, TrialFolder, TrialRecord]]:
    """Every training that began, a search's samples included.

    Raises:
        DamagedError, EarlierVersionError: a record is not as this version wrote it.
    """
    for trial in trials.values():
        root = folder.trial(trial.name)
        for place in (root, *root.samples()):
            if place.attempts.exists() and (record := read_record(place)) is not None:
                yield trial, place, record


def mark_of(folder: RunFolder, place: TrialFolder, record: TrialRecord, *, destination: str) -> str:
    """Changes whenever something new of a training is to be sent, or it is to be sent to another place."""
    files = (place.record, place.metrics, place.evaluations, folder.cells_record(record.trial))
    seen = [(path.name, *_size_and_time(path)) for path in files]
    return sha256(json.dumps([destination, seen]).encode()).hexdigest()[:16]


def read_training(
    folder: RunFolder, config: Config, trial: Trial, place: TrialFolder, record: TrialRecord
) -> TrackedTraining:
    """The training as trackers see it."""
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
