"""A trial with a `search`: its samples, what each is to try, and the best of them as its model.

Samples are drawn in rounds.  A round knows the results of the rounds before and of nothing else, so
what is tried depends on the seed and not on how many trainings happen to run at once.  After an
interruption the same rounds are drawn again; a sample that is done with the same settings is not
trained again.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from raysweep.config.fingerprints import fingerprint
from raysweep.config.training_settings import SearchConfig, TrainingConfig
from raysweep.errors import TrainingError
from raysweep.pipeline.tasks import TrainTask
from raysweep.scheduling.order import expected_cost
from raysweep.scheduling.records import State, read_record
from raysweep.scheduling.rungs import note_standing, standing_at
from raysweep.scheduling.successive_halving import Halving, rung_steps
from raysweep.scheduling.trial_graph import Node
from raysweep.storage.atomic_files import atomic_file, atomic_folder
from raysweep.storage.run_folder import TrialFolder
from raysweep.training.job import TrainingJob

ROUND = 4
"""Samples drawn together."""
_SAMPLES = "/samples/"


class Suggestions(Protocol):
    """Where the settings come from; samples are counted from 0 in the order they are asked for."""

    def ask(self) -> Mapping[str, Any]:
        """The settings of the next sample."""

    def tell(self, sample: int, loss: float | None) -> None:
        """How a sample did; None if it failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """One training: a trial's only one, or one sample of a search."""

    name: str
    trial: str
    """The trial whose part it is."""
    sample: int | None
    job: TrainingJob
    folder: TrialFolder
    identity: Mapping[str, Any]
    pause_at: int | None = None
    """The step of the evaluation after which a sample waits for the others of its round."""


def whole(task: TrainTask) -> Unit:
    """A trial without a search."""
    name = task.job.trial
    return Unit(name=name, trial=name, sample=None, job=task.job, folder=task.folder, identity=task.identity)


def nodes(task: TrainTask) -> list[Node]:
    """The trial in the graph: itself, or its samples in rounds and the node that gathers them."""
    name = task.job.trial
    cost = expected_cost(task.job.settings) if task.cost is None else task.cost
    needs = () if task.parent is None else (task.parent,)
    if task.search is None:
        return [Node(name=name, cost=cost, needs=needs)]
    samples = [sample_name(name, sample) for sample in range(task.search.samples)]
    rounds = [samples[first : first + ROUND] for first in range(0, len(samples), ROUND)]
    tries = [
        Node(name=sample, cost=cost, needs=needs, after=tuple(before))
        for before, now in zip([[], *rounds], rounds, strict=False)
        for sample in now
    ]
    return [*tries, Node(name=name, cost=0.0, needs=needs, after=tuple(samples))]


def sample_name(trial: str, sample: int) -> str:
    """`A2/samples/03`: no trial's name has a slash."""
    return f"{trial}{_SAMPLES}{sample:02d}"


def parse_name(name: str) -> tuple[str, int | None]:
    """The trial, and which sample of it."""
    trial, slash, sample = name.partition(_SAMPLES)
    return trial, int(sample) if slash else None


class Samples:
    """The samples of one trial, from their settings to the best one's model."""

    def __init__(self, task: TrainTask, suggestions: Suggestions) -> None:
        assert task.search is not None
        self._task = task
        self._search: SearchConfig = task.search
        self._suggestions = suggestions
        self._settings: list[Mapping[str, Any]] = []
        self._results: dict[int, Mapping[str, Any]] = {}
        self._failures: dict[int, str] = {}
        self._stopped: dict[int, dict[str, Any]] = {}
        """Samples that their round left behind, with where and how they stood."""
        self._rounds = self._halvings()

    @property
    def metric(self) -> str:
        """The validation loss that decides."""
        return self._search.metric

    def unit(self, sample: int) -> Unit:
        """The training of one sample; all samples of earlier rounds have ended.

        Raises:
            pydantic.ValidationError: the settings are outside of what a training may have.
        """
        self._draw_until(sample)
        job, settings = self._task.job, self._settings[sample]
        name = sample_name(job.trial, sample)
        identity = {"trial": job.fingerprint, "settings": dict(settings)}
        folder = TrialFolder(job.folder).sample(sample)
        kind = type(job.settings)
        unsearched = {"search": None} if "search" in kind.model_fields else {}
        changed = kind.model_validate({**job.settings.model_dump(by_alias=True), **unsearched, **settings})
        return Unit(
            name=name,
            trial=job.trial,
            sample=sample,
            job=replace(job, trial=name, folder=folder.root, settings=changed, fingerprint=fingerprint(identity)),
            folder=folder,
            identity=identity,
            pause_at=self._next_rung(sample, changed),
        )

    def finish(self, sample: int, result: Mapping[str, Any]) -> None:
        """A sample is done."""
        self._results[sample] = result
        if self._rounds:
            self._rounds[sample // ROUND].finish(sample, self._loss(sample))

    def fail(self, sample: int, reason: str) -> None:
        """A sample has failed."""
        self._failures[sample] = reason
        if self._rounds:
            self._rounds[sample // ROUND].finish(sample, None)

    def pause(self, unit: Unit) -> None:
        """A sample waits at its rung; how it stood there is kept, for a later run as well."""
        assert unit.sample is not None, "only samples wait"
        assert unit.pause_at is not None, "only samples with rungs wait"
        print_of = unit.job.fingerprint
        losses = standing_at(unit.folder, print_of, unit.pause_at) or note_standing(
            unit.folder, print_of, unit.pause_at
        )
        self._rounds[unit.sample // ROUND].arrive(unit.sample, losses[self._search.metric])
        self._stopped[unit.sample] = {"step": unit.pause_at, "best_losses": losses}

    def decide(self, sample: int) -> tuple[list[int], dict[int, dict[str, Any]]]:
        """The samples of this one's round that go on, and those that are stopped, with how they stood."""
        decided = self._rounds[sample // ROUND].decide() if self._rounds else None
        if decided is None:
            return [], {}
        goes, stops = decided
        for each in goes:
            del self._stopped[each]
        return goes, {each: self._stopped[each] for each in stops}

    def gather(self) -> dict[str, Any]:
        """Make the best sample's model the trial's.

        Returns:
            The best sample's result, with the settings chosen and how every sample did under `search`.

        Raises:
            TrainingError: no sample is done.
        """
        if not self._results:
            first = min(self._failures)
            raise TrainingError(
                f"all {self._search.samples} samples of its search failed; the first: {self._failures[first]}"
            )
        best = min(self._results, key=lambda sample: (self._loss(sample), sample))
        _adopt(TrialFolder(self._task.job.folder).sample(best), self._task.folder)
        tried = [
            {
                "sample": sample,
                "settings": dict(settings),
                "loss": self._loss(sample),
                "stopped_at": self._stopped.get(sample, {}).get("step"),
                "busy_seconds": self._busy_seconds(sample),
            }
            for sample, settings in enumerate(self._settings)
        ]
        return {
            **self._results[best],
            "search": {
                "metric": self._search.metric,
                "sample": best,
                "settings": dict(self._settings[best]),
                "tried": tried,
                "busy_seconds": sum(each["busy_seconds"] for each in tried),
            },
        }

    def _draw_until(self, sample: int) -> None:
        while len(self._settings) <= sample:
            drawn = len(self._settings)
            for earlier in range(max(0, drawn - ROUND), drawn):
                self._suggestions.tell(earlier, self._loss(earlier))
            for _ in range(drawn, min(drawn + ROUND, self._search.samples)):
                self._settings.append(self._suggestions.ask())

    def _loss(self, sample: int) -> float | None:
        result = self._results.get(sample) or self._stopped.get(sample)
        return None if result is None else float(result["best_losses"][self._search.metric])

    def _halvings(self) -> list[Halving]:
        asha = self._search.asha
        if asha is None:
            return []
        count = self._search.samples
        return [
            Halving(list(range(first, min(first + ROUND, count))), reduction=asha.reduction)
            for first in range(0, count, ROUND)
        ]

    def _next_rung(self, sample: int, settings: TrainingConfig) -> int | None:
        asha = self._search.asha
        if asha is None:
            return None
        rungs = rung_steps(
            steps=settings.steps,
            evaluate_every=settings.evaluate_every,
            grace_evaluations=asha.grace_evaluations,
            reduction=asha.reduction,
        )
        passed = self._rounds[sample // ROUND].rung_of(sample)
        return rungs[passed] if passed < len(rungs) else None

    def _busy_seconds(self, sample: int) -> float:
        record = read_record(TrialFolder(self._task.job.folder).sample(sample))
        return 0.0 if record is None else record.busy_seconds


def done_before(unit: Unit) -> Mapping[str, Any] | None:
    """The result of an earlier run of the same training, if it is done."""
    record = read_record(unit.folder)
    is_same = record is not None and record.state is State.DONE and record.fingerprint == unit.job.fingerprint
    return record.result if record is not None and is_same else None


def _adopt(sample: TrialFolder, trial: TrialFolder) -> None:
    with atomic_folder(trial.model) as model:
        shutil.copytree(sample.model, model, copy_function=_link, dirs_exist_ok=True)
    for source, target in ((sample.metrics, trial.metrics), (sample.result, trial.result)):
        if source.exists():
            with atomic_file(target) as copy:
                shutil.copyfile(source, copy)


def _link(source: str, target: str) -> None:
    """A second name for the same bytes, which take no more room; a copy where the disk knows no such names."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
