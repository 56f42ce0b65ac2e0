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
from raysweep.config.training_settings import SearchConfig
from raysweep.errors import TrainingError
from raysweep.pipeline.tasks import TrainTask
from raysweep.scheduling.records import State, read_record
from raysweep.scheduling.rungs import losses_at
from raysweep.scheduling.successive_halving import SEARCH_ROUND, Halving, in_rounds, rung_steps
from raysweep.scheduling.trial_graph import Node
from raysweep.storage.atomic_files import atomic_file, atomic_folder
from raysweep.storage.run_folder import TrialFolder
from raysweep.training.job import TrainingJob

_SAMPLES = "/samples/"


class Suggestions(Protocol):
    """Where the settings come from; samples are counted from 0 in the order they are asked for."""

    def ask(self) -> Mapping[str, Any]:
        """The settings of the next sample."""

    def tell(self, sample: int, loss: float | None) -> None:
        """Record the loss of a sample; None if it failed."""


def suggest_with_optuna(task: TrainTask) -> Suggestions:
    """Optuna's suggestions for the task's search."""
    # Here, because the import takes half a second that only a search needs.
    from raysweep.pipeline.optuna_search import OptunaSearch

    assert task.search is not None, "only a search draws its settings"
    return OptunaSearch(task.search, seed=task.job.seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepTraining:
    """One training: a trial's only one, or one sample of a search."""

    job: TrainingJob
    identity: Mapping[str, Any]
    pause_at: int | None = None
    """The step of the evaluation after which a sample waits for the others of its round."""

    @property
    def name(self) -> str:
        """The trial's name, or a sample's: 'A2/samples/03'."""
        return self.job.trial

    @property
    def folder(self) -> TrialFolder:
        """Where its files are."""
        return TrialFolder(self.job.folder)


def training_of(task: TrainTask) -> SweepTraining:
    """The only training of a trial without a search; of one with a search, what its record stands for."""
    return SweepTraining(job=task.job, identity=task.identity)


def nodes_of(task: TrainTask) -> list[Node]:
    """The trial in the graph: itself, or its samples in rounds and the node that gathers them."""
    name = task.job.trial
    parents = () if task.parent is None else (task.parent,)
    if task.search is None:
        return [Node(name=name, cost=task.cost, needs=parents)]
    rounds = in_rounds([sample_name(name, sample) for sample in range(task.search.samples)])
    samples = [
        Node(name=sample, cost=task.cost, needs=parents, after=tuple(before))
        for before, now in zip([[], *rounds], rounds, strict=False)
        for sample in now
    ]
    return [*samples, Node(name=name, cost=0.0, needs=parents, after=tuple(sample.name for sample in samples))]


def sample_name(trial: str, sample: int) -> str:
    """`A2/samples/03`: no trial's name has a slash."""
    return f"{trial}{_SAMPLES}{sample:02d}"


def parse_name(name: str) -> tuple[str, int | None]:
    """The trial, and which sample of it."""
    trial, slash, sample = name.partition(_SAMPLES)
    return trial, int(sample) if slash else None


class Search:
    """The samples of one trial, from their settings to the best one's model."""

    def __init__(self, task: TrainTask, suggestions: Suggestions) -> None:
        assert task.search is not None
        self._task = task
        self._config: SearchConfig = task.search
        self._suggestions = suggestions
        self._settings: list[Mapping[str, Any]] = []
        self._results: dict[int, Mapping[str, Any]] = {}
        self._failures: dict[int, str] = {}
        self._stopped: dict[int, dict[str, Any]] = {}
        """Samples that their round left behind: the step, and the best losses up to it."""
        asha, samples = self._config.asha, list(range(self._config.samples))
        self._rounds = [Halving(together, reduction=asha.reduction) for together in in_rounds(samples)] if asha else []

    @property
    def metric(self) -> str:
        """The validation loss that decides."""
        return self._config.metric

    def training(self, sample: int) -> SweepTraining:
        """The training of one sample; all samples of earlier rounds have ended.

        Raises:
            pydantic.ValidationError: the settings are outside of what a training may have.
        """
        self._draw_until(sample)
        job, drawn = self._task.job, self._settings[sample]
        identity = {"trial": job.fingerprint, "settings": dict(drawn)}
        kind = type(job.settings)
        unsearched = {"search": None} if "search" in kind.model_fields else {}
        settings = kind.model_validate({**job.settings.model_dump(by_alias=True), **unsearched, **drawn})
        rungs = rung_steps(settings, self._config.asha) if self._config.asha else []
        passed = self._rounds[sample // SEARCH_ROUND].rung_of(sample) if rungs else 0
        return SweepTraining(
            job=replace(
                job,
                trial=sample_name(job.trial, sample),
                folder=self._folder(sample).root,
                settings=settings,
                fingerprint=fingerprint(identity),
            ),
            identity=identity,
            pause_at=rungs[passed] if passed < len(rungs) else None,
        )

    def finish(self, sample: int, result: Mapping[str, Any]) -> None:
        """A sample is done."""
        self._results[sample] = result
        if self._rounds:
            self._rounds[sample // SEARCH_ROUND].finish(sample, self._loss(sample))

    def fail(self, sample: int, reason: str) -> None:
        """A sample has failed."""
        self._failures[sample] = reason
        if self._rounds:
            self._rounds[sample // SEARCH_ROUND].finish(sample, None)

    def pause(self, sample: int, training: SweepTraining) -> None:
        """A sample waits at its rung; its losses there are kept, for a later run as well."""
        assert training.pause_at is not None, "only samples with rungs wait"
        losses = losses_at(training.folder, training.job.fingerprint, training.pause_at)
        self._rounds[sample // SEARCH_ROUND].arrive(sample, losses[self.metric])
        self._stopped[sample] = {"step": training.pause_at, "best_losses": losses}

    def decide(self, sample: int) -> tuple[list[int], dict[int, str]]:
        """The samples of this one's round that go on, and those that are stopped, with the reason."""
        decided = self._rounds[sample // SEARCH_ROUND].decide() if self._rounds else None
        if decided is None:
            return [], {}
        continuing, stopped = decided
        for number in continuing:
            del self._stopped[number]
        return continuing, {number: self._why_stopped(number) for number in stopped}

    def gather(self) -> dict[str, Any]:
        """Make the best sample's model the trial's.

        Returns:
            The best sample's result, with the settings chosen and how every sample did under `search`.

        Raises:
            TrainingError: no sample is done.
        """
        if not self._results:
            first = self._failures[min(self._failures)]
            raise TrainingError(f"all {self._config.samples} samples of its search failed; the first: {first}")
        best = min(self._results, key=lambda sample: (self._loss(sample), sample))
        _adopt(self._folder(best), self._task.folder)
        tried = [self._describe(sample) for sample in range(len(self._settings))]
        search = {
            "metric": self.metric,
            "sample": best,
            "settings": dict(self._settings[best]),
            "tried": tried,
            "busy_seconds": sum(sample["busy_seconds"] for sample in tried),
        }
        return {**self._results[best], "search": search}

    def _draw_until(self, sample: int) -> None:
        while len(self._settings) <= sample:
            drawn = len(self._settings)
            for earlier in range(max(0, drawn - SEARCH_ROUND), drawn):
                self._suggestions.tell(earlier, self._loss(earlier))
            for _ in range(drawn, min(drawn + SEARCH_ROUND, self._config.samples)):
                self._settings.append(self._suggestions.ask())

    def _folder(self, sample: int) -> TrialFolder:
        return self._task.folder.sample(sample)

    def _loss(self, sample: int) -> float | None:
        result = self._results.get(sample) or self._stopped.get(sample)
        return None if result is None else float(result["best_losses"][self.metric])

    def _why_stopped(self, sample: int) -> str:
        stopped = self._stopped[sample]
        loss = f"{self.metric} {stopped['best_losses'][self.metric]:.3f}"
        return f"its search stopped it at step {stopped['step']:,}: {loss}, others did better"

    def _describe(self, sample: int) -> dict[str, Any]:
        record = read_record(self._folder(sample))
        return {
            "sample": sample,
            "settings": dict(self._settings[sample]),
            "loss": self._loss(sample),
            "stopped_at": self._stopped.get(sample, {}).get("step"),
            "tokens": None if record is None else record.result.get("tokens"),
            "busy_seconds": 0.0 if record is None else record.busy_seconds,
        }


def done_before(training: SweepTraining) -> Mapping[str, Any] | None:
    """The result of an earlier run of the same training, if it is done."""
    record = read_record(training.folder)
    is_done = record is not None and record.state is State.DONE and record.fingerprint == training.job.fingerprint
    return record.result if record is not None and is_done else None


def _adopt(sample: TrialFolder, trial: TrialFolder) -> None:
    with atomic_folder(trial.model) as model:
        shutil.copytree(sample.model, model, copy_function=_link, dirs_exist_ok=True)
    for source, target in ((sample.metrics, trial.metrics), (sample.result, trial.result)):
        if source.exists():
            with atomic_file(target) as copy:
                shutil.copyfile(source, copy)


def _link(source: str, target: str) -> None:
    """Hard-link the file, so that it takes no more room; copy it where the disk has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
