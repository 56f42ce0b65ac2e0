"""The book of a sweep: what runs, what may run next, and each trial's record.

Tune's searcher and callbacks tell it what happens; it decides and writes down, and knows nothing of
Ray.  A record is in place before anything that depends on it is released.  What a failure calls for is
`scheduling.failures`' to say; a training that is to go on waits for its turn like any other.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from raysweep.errors import TrainingError
from raysweep.pipeline.capacity import Capacity, ResourceRequest
from raysweep.pipeline.search_rounds import (
    Samples,
    Suggestions,
    Unit,
    done_before,
    nodes,
    parse_name,
    sample_name,
    whole,
)
from raysweep.pipeline.tasks import Listener, TrainTask
from raysweep.scheduling import records
from raysweep.scheduling.failures import Failure, remedy
from raysweep.scheduling.order import share_of_gpus
from raysweep.scheduling.outcomes import Failed, Finished, Outcome, Paused, Stopped
from raysweep.scheduling.records import State, TrialRecord
from raysweep.scheduling.rungs import standing_at
from raysweep.scheduling.stop_requests import forget_stop, request_stop
from raysweep.scheduling.trial_graph import Blocked, Releases
from raysweep.storage.run_folder import TrialFolder


class Book:
    """What waits, runs and is over, with the records on disk."""

    def __init__(
        self,
        tasks: Sequence[TrainTask],
        *,
        needs: Mapping[str, ResourceRequest],
        capacity: Capacity,
        listener: Listener,
        suggestions: Callable[[TrainTask], Suggestions],
        max_failures: int = 0,
        fail_fast: bool = False,
    ) -> None:
        """Args:
        max_failures: times a training goes on after its worker, or its driver, was lost.
        fail_fast: whether the first trial that fails halts the sweep.
        """
        self._max_failures, self._fail_fast = max_failures, fail_fast
        self._tasks = {task.job.trial: task for task in tasks}
        self._needs = needs
        self._capacity = capacity
        self._listener = listener
        self._samples = {
            name: Samples(task, suggestions(task)) for name, task in self._tasks.items() if task.search is not None
        }
        self._releases = Releases([node for task in tasks for node in nodes(task)])
        self._units: dict[str, Unit] = {}
        self._records: dict[str, TrialRecord] = {}
        self._failures: Counter[tuple[str, Failure]] = Counter()
        self._alone: set[str] = set()
        """Trainings that ran out of memory beside others."""
        self._halted = ""
        self._tell_progress()

    @property
    def halted(self) -> str:
        """Why nothing more starts; '' while all goes on."""
        return self._halted

    @property
    def is_over(self) -> bool:
        """Whether nothing runs and nothing may start any more."""
        return self._releases.is_over

    @property
    def in_use(self) -> Capacity:
        """What the running trainings take together."""
        needs = [self.need(name) for name in self._releases.names(State.RUNNING)]
        kinds: dict[str, float] = {}
        for need in needs:
            if need.kind is not None:
                kinds[need.kind] = kinds.get(need.kind, 0.0) + share_of_gpus(need.gpus)
        return Capacity(
            kinds=kinds,
            cpus=sum(need.cpus * need.workers for need in needs),
            gpus=sum(share_of_gpus(need.gpus) for need in needs),
        )

    def need(self, name: str) -> ResourceRequest:
        """What the training takes; one that is to be alone takes a GPU of its own."""
        need = self._needs[parse_name(name)[0]]
        return replace(need, gpus=1.0) if name in self._alone and need.gpus else need

    def release(self) -> Unit | None:
        """The training to start now; None if none may, or none fits beside those that run."""
        while (name := self._next()) is not None:
            self._releases.start(name)
            if (unit := self._resolve(name)) is not None:
                self._units[name] = unit
                return unit
        return None

    def begin(self, name: str) -> None:
        """An attempt at the training starts."""
        unit = self._units[name]
        if unit.sample is not None and unit.trial not in self._records:
            self._begin(whole(self._tasks[unit.trial]))
        record = self._begin(unit)
        if self._halted:
            # It was released before, and its start took until now.
            request_stop(unit.folder, self._halted)
        self._listener.say(f"{name}: training" + (f", attempt {record.attempts}" if record.attempts > 1 else ""))

    def evaluate(self, name: str, metrics: Mapping[str, Any]) -> None:
        """The model in training was evaluated."""
        losses = "  ".join(f"{kind} {loss:.3f}" for kind, loss in metrics["losses"].items())
        steps = self._units[name].job.settings.steps
        best = " (best)" if metrics["is_best"] else ""
        self._listener.say(f"{name}: step {metrics['step']:,}/{steps:,}  valid loss in nats/token: {losses}{best}")

    def end(self, name: str, outcome: Outcome) -> None:
        """The attempt at the training ended."""
        unit = self._units[name]
        match outcome:
            case Finished():
                self._finish(unit, outcome.result)
            case Failed():
                self._lost(unit, outcome.message, outcome.failure)
            case Stopped():
                self._stopped(unit, outcome.reason, outcome.steps)
            case Paused():
                self._paused(unit, outcome.steps)

    def halt(self, reason: str, *, within_s: float | None = None) -> None:
        """Nothing more starts, and what runs is asked to save a checkpoint and end.

        Args:
            within_s: how long whoever asks is going to wait, for the person who watches.
        """
        self._halted = reason
        self._releases.halt()
        running = self._releases.names(State.RUNNING)
        for name in running:
            request_stop(self._folder(name), reason)
        wait = f", within {within_s:.0f} s (once more ends at once)" if within_s is not None else ""
        self._listener.say(f"{reason}: asked what runs ({', '.join(running) or 'nothing'}) for a checkpoint{wait}")

    def stop(self, reason: str) -> None:
        """The sweep is interrupted: what runs is recorded as stopped."""
        over = {State.DONE, State.FAILED, State.BLOCKED, State.STOPPED}
        for name, record in self._records.items():
            if self._releases.state(name) not in over:
                # A full disk may be why; without this record the next run finds that nobody runs it any more.
                with suppress(OSError):
                    records.end(self._folder(name), record, State.STOPPED, reason=reason)

    def _next(self) -> str | None:
        running, in_use = self._releases.names(State.RUNNING), self.in_use
        for name in self._releases.ready():
            if name in self._samples:
                return name
            if self._must_be_alone([name, *running]) and running:
                # Whoever waits for the others to end is not overtaken, or it might wait for ever.
                return None
            if self._capacity.fits(self.need(name), in_use):
                return name
        return None

    def _must_be_alone(self, names: Sequence[str]) -> bool:
        return any(name in self._alone and not self.need(name).gpus for name in names)

    def _resolve(self, name: str) -> Unit | None:
        """The training that the node stands for; None if there is nothing to train, and the node has ended."""
        trial, sample = parse_name(name)
        if sample is None:
            unit = whole(self._tasks[trial])
            if name not in self._samples:
                return unit
            self._gather(unit)
            return None
        try:
            unit = self._samples[trial].unit(sample)
        except ValidationError as error:
            problem = error.errors()[0]
            reason = f"{'.'.join(map(str, problem['loc']))}: found {problem['input']!r}; {problem['msg']}"
            self._lose(name, f"its search drew {reason}")
            return None
        if (result := done_before(unit)) is None:
            if unit.pause_at is None or standing_at(unit.folder, unit.job.fingerprint, unit.pause_at) is None:
                return unit
            self._units[name] = unit
            self._paused(unit, unit.pause_at)
            return None
        self._listener.say(f"{name}: skip, done with the same settings")
        self._finish(unit, result)
        return None

    def _gather(self, unit: Unit) -> None:
        if unit.name not in self._records:
            self._begin(unit)
        try:
            result = self._samples[unit.trial].gather()
        except (TrainingError, OSError) as error:
            self._fail(unit, str(error))
        else:
            self._finish(unit, result)

    def _begin(self, unit: Unit) -> TrialRecord:
        forget_stop(unit.folder)
        need = self.need(unit.name)
        is_gathering = unit.name in self._samples
        record = records.begin(
            unit.folder,
            trial=unit.name,
            fingerprint=unit.job.fingerprint,
            identity=unit.identity,
            slots=0.0 if is_gathering else need.slots,
            unit=need.unit,
        )
        self._records[unit.name] = record
        return record

    def _finish(self, unit: Unit, result: Mapping[str, Any]) -> None:
        if unit.name in self._records:
            records.end(unit.folder, self._records[unit.name], State.DONE, result=result)
            self._listener.say(f"{unit.name}: done, {result['steps']:,} steps, best at {result['best_step']:,}")
        if unit.sample is not None:
            self._samples[unit.trial].finish(unit.sample, result)
        self._releases.finish(unit.name)
        if unit.sample is not None:
            self._halve(unit.trial, unit.sample)
        self._tell_progress()

    def _paused(self, unit: Unit, steps: int) -> None:
        """A sample has come to a rung of its search, and waits there for the others of its round."""
        if unit.name in self._records:
            why = f"waits at evaluation step {unit.pause_at:,} for the other samples of its round"
            self._records[unit.name] = records.end(unit.folder, self._records[unit.name], State.PENDING, reason=why)
            self._listener.say(f"{unit.name}: waits after step {steps:,}/{unit.job.settings.steps:,}")
        self._releases.pause(unit.name)
        self._samples[unit.trial].pause(unit)
        assert unit.sample is not None, "only samples wait"
        self._halve(unit.trial, unit.sample)

    def _halve(self, trial: str, sample: int) -> None:
        """If the whole round of this sample stands at a rung, let the better ones go on."""
        goes, stops = self._samples[trial].decide(sample)
        metric = self._samples[trial].metric
        for each in goes:
            self._releases.resume(sample_name(trial, each))
        for each, standing in stops.items():
            name = sample_name(trial, each)
            unit, loss = self._units[name], standing["best_losses"][metric]
            reason = f"its search stopped it at step {standing['step']:,}: {metric} {loss:.3f}, others did better"
            if name in self._records:
                records.end(unit.folder, self._records[name], State.STOPPED, reason=reason)
            self._listener.say(f"{name}: {reason}")
            self._releases.drop(name)

    def _stopped(self, unit: Unit, reason: str, steps: int) -> None:
        records.end(unit.folder, self._records[unit.name], State.STOPPED, reason=reason)
        self._listener.say(f"{unit.name}: stopped after step {steps:,}/{unit.job.settings.steps:,}: {reason}")
        self._releases.stop(unit.name)
        self._tell_progress()

    def _lost(self, unit: Unit, message: str, failure: Failure) -> None:
        """An attempt came to nothing: try again, or give up, as its kind calls for."""
        self._failures[unit.name, failure] += 1
        count, need = self._failures[unit.name, failure], self.need(unit.name)
        shares = need.gpus < 1 and self._capacity.cpus > need.cpus
        found = remedy(failure, count, max_failures=self._max_failures, shares_memory=shares)
        log = f"log: {unit.folder.log}"
        if not found.again:
            self._fail(unit, f"{message} ({f'{found.why}; ' if found.why else ''}{log})", failure)
            return
        # A driver that could not be started is lost before it began.
        record = self._records.get(unit.name) or self._begin(unit)
        if found.alone:
            self._alone.add(unit.name)
        self._records[unit.name] = records.end(
            unit.folder, record, State.PENDING, reason=f"{message}; {found.why}", failure=failure
        )
        self._listener.say(f"{unit.name}: {message}; {found.why} ({log})")
        self._releases.again(unit.name)

    def _fail(self, unit: Unit, reason: str, failure: Failure = Failure.ERROR) -> None:
        record = self._records.get(unit.name) or self._begin(unit)
        records.end(unit.folder, record, State.FAILED, reason=reason, failure=failure)
        self._lose(unit.name, reason)
        if self._fail_fast and not self._halted:
            self.halt(f"--fail-fast: {unit.name} failed")

    def _lose(self, name: str, reason: str) -> None:
        self._listener.say(f"{name}: failed: {reason}")
        trial, sample = parse_name(name)
        if sample is not None:
            self._samples[trial].fail(sample, reason)
            self._halve(trial, sample)
        for blocked in self._releases.fail(name):
            if parse_name(blocked.name)[1] is None:
                self._block(blocked)
        self._tell_progress()

    def _block(self, blocked: Blocked) -> None:
        task = self._tasks[blocked.name]
        records.block(
            task.folder,
            trial=blocked.name,
            fingerprint=task.job.fingerprint,
            identity=task.identity,
            reason=blocked.reason,
        )
        self._listener.say(f"{blocked.name}: blocked: {blocked.reason}")

    def _folder(self, name: str) -> TrialFolder:
        return self._units[name].folder if name in self._units else self._tasks[name].folder

    def _tell_progress(self) -> None:
        over = (State.DONE, State.FAILED, State.BLOCKED)
        ended = sum(self._releases.state(name) in over for name in self._tasks)
        self._listener.advance("train", ended, len(self._tasks), "trials")
