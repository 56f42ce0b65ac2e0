"""Runs a trial's `search`: draws its samples' settings, and makes the best sample's model the trial's model.

Samples are drawn in rounds.  A round depends only on the results of earlier rounds, so
the settings depend on the seed and not on how many trainings happen to run at once.  After an
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
    """The source of the samples' settings; samples are numbered from 0 in the order of `ask`."""

    def ask(self) -> Mapping[str, Any]:
        """Return the settings of the next sample."""

    def tell(self, sample: int, loss: float | None) -> None:
        """Record the loss of a sample; None if it failed."""


def suggest_with_optuna(task: TrainTask) -> Suggestions:
    """Make Optuna's suggestions for the task's search."""
    # Here, because the import takes half a second that only a search needs.
    from raysweep.pipeline.optuna_search import OptunaSearch

    assert task.search is not None, "only a search draws its settings"
    return OptunaSearch(task.search, seed=task.job.seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepTraining:
    """One training: that of a trial without a search, or one sample of a search."""

    job: TrainingJob
    identity: Mapping[str, Any]
    pause_at: int | None = None
    """The step of the evaluation after which a sample waits for the other samples of its round."""

    @property
    def name(self) -> str:
        """The trial's name, or the sample's: 'A2/samples/03'."""
        return self.job.trial

    @property
    def folder(self) -> TrialFolder:
        """The folder that holds its files."""
        return TrialFolder(self.job.folder)


def training_of(task: TrainTask) -> SweepTraining:
    """Return the training of a trial without a search; for a search, the entry that its record describes."""
    return SweepTraining(job=task.job, identity=task.identity)


def nodes_of(task: TrainTask) -> list[Node]:
    """Return the trial's nodes in the graph: itself, or its samples in rounds and the node that gathers them."""
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
    """Return a name such as 'A2/samples/03'; a trial's name never contains a slash."""
    return f"{trial}{_SAMPLES}{sample:02d}"


def parse_name(name: str) -> tuple[str, int | None]:
    """Split a name into the trial, and the number of its sample if there is one."""
    trial, slash, sample = name.partition(_SAMPLES)
    return trial, int(sample) if slash else None


class Search:
    """The samples of one trial, from drawing their settings to adopting the best model."""

    def __init__(self, task: TrainTask, suggestions: Suggestions) -> None:
        assert task.search is not None
        self._task = task
        self._config: SearchConfig = task.search
        self._suggestions = suggestions
        self._settings: list[Mapping[str, Any]] = []
        self._results: dict[int, Mapping[str, Any]] = {}
        self._failures: dict[int, str] = {}
        self._stopped: dict[int, dict[str, Any]] = {}
        """Samples stopped by successive halving: the step, and the best losses up to it."""
        asha, samples = self._config.asha, list(range(self._config.samples))
        self._rounds = [Halving(together, reduction=asha.reduction) for together in in_rounds(samples)] if asha else []

    @property
    def metric(self) -> str:
        """The validation loss by which samples are compared."""
        return self._config.metric

    def training(self, sample: int) -> SweepTraining:
        """Return a sample's training, once earlier rounds have ended; ValidationError if its settings are invalid."""
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
        self._results[sample] = result
        if self._rounds:
            self._rounds[sample // SEARCH_ROUND].finish(sample, self._loss(sample))

    def fail(self, sample: int, reason: str) -> None:
        self._failures[sample] = reason
        if self._rounds:
            self._rounds[sample // SEARCH_ROUND].finish(sample, None)

    def pause(self, sample: int, training: SweepTraining) -> None:
        """Record the losses of a sample that waits at its rung; they are kept on disk for a later run too."""
        assert training.pause_at is not None, "only samples with rungs wait"
        losses = losses_at(training.folder, training.job.fingerprint, training.pause_at)
        self._rounds[sample // SEARCH_ROUND].arrive(sample, losses[self.metric])
        self._stopped[sample] = {"step": training.pause_at, "best_losses": losses}

    def decide(self, sample: int) -> tuple[list[int], dict[int, str]]:
        """Return the samples of this sample's round that continue, and those that are stopped, with the reason."""
        decided = self._rounds[sample // SEARCH_ROUND].decide() if self._rounds else None
        if decided is None:
            return [], {}
        continuing, stopped = decided
        for number in continuing:
            del self._stopped[number]
        return continuing, {number: self._why_stopped(number) for number in stopped}

    def gather(self) -> dict[str, Any]:
        """Make the best sample's model the trial's model.

        Returns:
            The best sample's result; under `search` the chosen settings and how every sample did.

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
    """Return the result of an earlier run of the same training, if it is done."""
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
    """Hard-link the file, so that it takes no extra space; copy it if the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
