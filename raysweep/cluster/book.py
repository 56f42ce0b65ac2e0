"""The book of a sweep: what runs, what may run next, and each trial's record.

Tune's searcher and callbacks tell it what happens; it decides and writes down, and knows nothing of
Ray.  A record is in place before anything that depends on it is released.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from raysweep.cluster.needs import Capacity, Need
from raysweep.cluster.samples import Samples, Suggestions, Unit, done_before, nodes, parse_name, whole
from raysweep.errors import TrainingError
from raysweep.pipeline.work import Listener, TrainTask
from raysweep.scheduling import records
from raysweep.scheduling.order import share_of_gpus
from raysweep.scheduling.records import State, TrialRecord
from raysweep.scheduling.release import Blocked, Releases
from raysweep.scheduling.stopping import forget_stop, request_stop
from raysweep.store import TrialFolder


class Book:
    """What waits, runs and is over, with the records on disk."""

    def __init__(
        self,
        tasks: Sequence[TrainTask],
        *,
        needs: Mapping[str, Need],
        capacity: Capacity,
        listener: Listener,
        suggestions: Callable[[TrainTask], Suggestions],
    ) -> None:
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

    def end(self, name: str, outcome: Mapping[str, Any]) -> None:
        """The training ended: {"result": …}, {"failed": reason} or {"stopped": reason, "steps": done}."""
        if "stopped" in outcome:
            self._stopped(self._units[name], outcome["stopped"], outcome["steps"])
        elif "failed" in outcome:
            self._fail(self._units[name], f"{outcome['failed']} (log: {self._units[name].folder.log})")
        else:
            self._finish(self._units[name], outcome["result"])

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
                records.end(self._folder(name), record, State.STOPPED, reason=reason)

    def _next(self) -> str | None:
        running = [self._needs[parse_name(name)[0]] for name in self._releases.names(State.RUNNING)]
        in_use = Capacity(
            cpus=sum(need.cpus * need.workers for need in running),
            gpus=sum(share_of_gpus(need.gpus) for need in running),
        )
        for name in self._releases.ready():
            if name in self._samples or self._capacity.fits(self._needs[parse_name(name)[0]], in_use):
                return name
        return None

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
            return unit
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
        record = records.begin(unit.folder, trial=unit.name, fingerprint=unit.job.fingerprint, identity=unit.identity)
        self._records[unit.name] = record
        return record

    def _finish(self, unit: Unit, result: Mapping[str, Any]) -> None:
        if unit.name in self._records:
            records.end(unit.folder, self._records[unit.name], State.DONE, result=result)
            self._listener.say(f"{unit.name}: done, {result['steps']:,} steps, best at {result['best_step']:,}")
        if unit.sample is not None:
            self._samples[unit.trial].finish(unit.sample, result)
        self._releases.finish(unit.name)
        self._tell_progress()

    def _stopped(self, unit: Unit, reason: str, steps: int) -> None:
        records.end(unit.folder, self._records[unit.name], State.STOPPED, reason=reason)
        self._listener.say(f"{unit.name}: stopped after step {steps:,}/{unit.job.settings.steps:,}: {reason}")
        self._releases.stop(unit.name)
        self._tell_progress()

    def _fail(self, unit: Unit, reason: str) -> None:
        # A driver that could not be started is lost before it began.
        record = self._records.get(unit.name) or self._begin(unit)
        records.end(unit.folder, record, State.FAILED, reason=reason)
        self._lose(unit.name, reason)

    def _lose(self, name: str, reason: str) -> None:
        self._listener.say(f"{name}: failed: {reason}")
        trial, sample = parse_name(name)
        if sample is not None:
            self._samples[trial].fail(sample, reason)
        for blocked in self._releases.fail(name):
            if parse_name(blocked.name)[1] is None:
                self._block(blocked)
        self._tell_progress()

    def _block(self, blocked: Blocked) -> None:
        task = self._tasks[blocked.name]
        before = records.read_record(task.folder)
        if before is None or before.fingerprint != task.job.fingerprint:
            before = TrialRecord(
                trial=blocked.name, state=State.PENDING, fingerprint=task.job.fingerprint, identity=task.identity
            )
        records.write_record(task.folder, replace(before, state=State.BLOCKED, reason=blocked.reason))
        self._listener.say(f"{blocked.name}: blocked: {blocked.reason}")

    def _folder(self, name: str) -> TrialFolder:
        return self._units[name].folder if name in self._units else self._tasks[name].folder

    def _tell_progress(self) -> None:
        over = (State.DONE, State.FAILED, State.BLOCKED)
        ended = sum(self._releases.state(name) in over for name in self._tasks)
        self._listener.advance("train", ended, len(self._tasks), "trials")
