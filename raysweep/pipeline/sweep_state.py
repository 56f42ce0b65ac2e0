"""The state of a sweep: what is running, what may start next, and each trial's record.

An executor releases a training, begins it, passes on its evaluations and ends it with an outcome; the
state makes the decisions and writes the records, but trains nothing itself.  A record is in place before anything
that depends on it is released.  `scheduling.failures` decides what follows a failure; a training that is
retried waits its turn like any other.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from raysweep.errors import DamagedError, TrainingError
from raysweep.pipeline.search_rounds import (
    Search,
    Suggestions,
    SweepTraining,
    done_before,
    nodes_of,
    parse_name,
    sample_name,
    suggest_with_optuna,
    training_of,
)
from raysweep.pipeline.tasks import Listener, TrainTask
from raysweep.scheduling import records
from raysweep.scheduling.capacity import Capacity, ResourceRequest
from raysweep.scheduling.failures import Failure
from raysweep.scheduling.outcomes import Failed, Finished, Outcome, Paused, Stopped
from raysweep.scheduling.records import State, TrialRecord
from raysweep.scheduling.retries import Retries
from raysweep.scheduling.rungs import written_losses
from raysweep.scheduling.stop_requests import forget_stop, request_stop
from raysweep.scheduling.trial_graph import TrialGraph
from raysweep.storage.run_folder import TrialFolder
from raysweep.training.job import Evaluation


class SweepState:
    """Tracks which trainings wait, run and have ended, and writes their records."""

    def __init__(
        self,
        tasks: Sequence[TrainTask],
        *,
        requests: Mapping[str, ResourceRequest],
        capacity: Capacity,
        listener: Listener,
        suggestions: Callable[[TrainTask], Suggestions] = suggest_with_optuna,
        retries: Retries | None = None,
        fail_fast: bool = False,
    ) -> None:
        """Let `retries` decide on failed trainings; by default none is resumed after its worker was lost."""
        self._retries, self._fail_fast = retries or Retries(0), fail_fast
        self._tasks = {task.job.trial: task for task in tasks}
        self._requests, self._capacity = requests, capacity
        self._listener = listener
        self._searches = {
            name: Search(task, suggestions(task)) for name, task in self._tasks.items() if task.search is not None
        }
        self._graph = TrialGraph([node for task in tasks for node in nodes_of(task)])
        self._trainings: dict[str, SweepTraining] = {}
        self._records: dict[str, TrialRecord | None] = {}  # of trainings that have begun; None once they have ended
        self._made_from: dict[str, dict[str, str]] = {}
        """Digests of each trial's inputs, set when the trial is released."""
        self.halted = ""
        """Why no more trainings start; '' before a halt."""
        self._report_progress()

    @property
    def is_over(self) -> bool:
        """Whether nothing runs and nothing can start any more."""
        return self._graph.is_over

    @property
    def in_use(self) -> Capacity:
        """The resources that the running trainings use together."""
        return Capacity.used_by(self._running())

    def count_states(self) -> Counter[str]:
        return Counter(self._graph.state(name).value for name in self._tasks)

    def request_of(self, name: str) -> ResourceRequest:
        """Return the resources of a training; one that ran out of memory beside others gets a whole GPU."""
        request = self._requests[parse_name(name)[0]]
        return replace(request, gpus=1.0) if self._retries.must_be_alone(name) and request.gpus else request

    def release(self) -> SweepTraining | None:
        """Choose the training to start now; None if none may start, or none fits beside the running ones."""
        while (name := self._next()) is not None:
            self._graph.start(name)
            if (training := self._resolve(name)) is not None:
                return training
        return None

    def begin(self, name: str) -> None:
        """Record the start of an attempt at the training."""
        training = self._trainings[name]
        trial, sample = parse_name(name)
        if sample is not None and trial not in self._records:
            self._begin(training_of(self._tasks[trial]))
        record = self._begin(training)
        if self.halted:
            # The training was released before the halt, and starts only now.
            request_stop(training.folder, self.halted)
        self._listener.say(f"{name}: training" + (f", attempt {record.attempts}" if record.attempts > 1 else ""))

    def evaluate(self, name: str, evaluation: Evaluation) -> None:
        """Report an evaluation of a model in training."""
        losses = "  ".join(f"{kind} {loss:.3f}" for kind, loss in evaluation.losses.items())
        step = f"step {evaluation.step:,}/{self._steps(name)}"
        best = " (best)" if evaluation.is_best else ""
        self._listener.say(f"{name}: {step}  valid loss in nats/token: {losses}{best}")

    def end(self, name: str, outcome: Outcome) -> None:
        """Handle the outcome of an attempt at the training."""
        training = self._trainings[name]
        match outcome:
            case Finished():
                self._finish(training, outcome.result)
            case Failed():
                self._after_failure(training, outcome.message, outcome.failure)
            case Stopped():
                self._close(training, State.STOPPED, reason=outcome.reason)
                self._listener.say(
                    f"{name}: stopped after step {outcome.steps:,}/{self._steps(name)}: {outcome.reason}"
                )
                self._graph.end(name, State.STOPPED)
                self._report_progress()
            case Paused():
                why = f"waits at evaluation step {training.pause_at:,} for the other samples of its round"
                self._close(training, State.PENDING, reason=why)
                self._listener.say(f"{name}: waits after step {outcome.steps:,}/{self._steps(name)}")
                self._pause(training)

    def halt(self, reason: str, *, within_s: float | None = None) -> None:
        """Let no more trainings start; ask the running ones to save a checkpoint and end, within the stated seconds."""
        self.halted = reason
        self._graph.halt()
        running = self._graph.running()
        for name in running:
            request_stop(self._folder(name), reason)
        wait = f", within {within_s:.0f} s (once more ends at once)" if within_s is not None else ""
        asked = ", ".join(running) or "nothing runs"
        self._listener.say(f"{reason}: asked the running trainings ({asked}) for a checkpoint{wait}")

    def mark_stopped(self, reason: str) -> None:
        """Record every training that has begun and not ended as stopped, because the sweep ends early."""
        for name, record in self._records.items():
            # The disk may be full; without this record the next run still notices that the process is gone.
            with suppress(OSError):
                if record is not None:
                    records.end(self._folder(name), record, State.STOPPED, reason=reason)

    def _next(self) -> str | None:
        running, requests = self._graph.running(), self._running()
        too_large: set[ResourceRequest] = set()
        for name in filter(self._retries.is_due, self._graph.ready()):
            if name in self._searches:
                return name
            if running and any(self._must_be_alone(other) for other in (name, *running)):
                # No training overtakes one that waits for the others to end, or it might wait forever.
                return None
            # If thousands of trials request the same resources, test them only once.
            if (request := self.request_of(name)) in too_large:
                continue
            if self._capacity.fits([*requests, request]):
                return name
            too_large.add(request)
        return None

    def _running(self) -> list[ResourceRequest]:
        return [self.request_of(name) for name in self._graph.running()]

    def _must_be_alone(self, name: str) -> bool:
        return self._retries.must_be_alone(name) and not self.request_of(name).gpus

    def _resolve(self, name: str) -> SweepTraining | None:
        """Return the training of a started node; None if there is nothing to train, and the node has ended."""
        trial, sample = parse_name(name)
        try:
            if trial not in self._made_from:
                self._settle_inputs(trial)
            training = training_of(self._tasks[trial]) if sample is None else self._searches[trial].training(sample)
        except DamagedError as error:
            self._fail_before(name, str(error))
            return None
        except ValidationError as error:
            problem = error.errors()[0]
            drawn = f"{'.'.join(map(str, problem['loc']))}: found {problem['input']!r}; {problem['msg']}"
            self._fail_before(name, f"its search drew {drawn}")
            return None
        self._trainings[name] = training
        if sample is None:
            if name not in self._searches:
                return training
            self._gather(training)
            return None
        if (result := done_before(training)) is not None:
            self._listener.say(f"{name}: skip, done with the same settings")
            self._finish(training, result)
        elif str(training.pause_at) in written_losses(training.folder, training.job.fingerprint):
            self._pause(training)
        else:
            return training
        return None

    def _settle_inputs(self, trial: str) -> None:
        """Set the trial's input digests, now that its parent is done, and delete what it made from other inputs.

        Raises:
            DamagedError: the parent's model was changed since it was made.
        """
        task = self._tasks[trial]
        parent = {} if task.parent is None else {"parent": records.read_model_digest(self._tasks[task.parent].folder)}
        made_from = self._made_from[trial] = {**task.made_from, **parent}
        before = records.read_record(task.folder)
        if before is not None and before.made_from and before.made_from != made_from:
            self._listener.say(f"{trial}: its examples or its parent changed since it began, so it starts again")
            task.folder.clear()

    def _gather(self, search: SweepTraining) -> None:
        try:
            result = self._searches[search.name].gather()
        except (TrainingError, OSError) as error:
            self._give_up(search, str(error))
        else:
            if search.name not in self._records:
                self._begin(search)
            self._finish(search, result)

    def _begin(self, training: SweepTraining) -> TrialRecord:
        forget_stop(training.folder)
        request = self.request_of(training.name)
        record = records.begin(
            training.folder,
            trial=training.name,
            fingerprint=training.job.fingerprint,
            identity=training.identity,
            made_from=self._made_from.get(parse_name(training.name)[0], {}),
            # A search itself holds no resources; its samples do.
            slots=0.0 if training.name in self._searches else request.slots,
            unit=request.unit,
        )
        self._records[training.name] = record
        return record

    def _close(self, training: SweepTraining, state: State, **how: Any) -> None:
        # A training whose driver could not be started has no record yet; one that is ended again keeps what is written.
        record = self._records[training.name] if training.name in self._records else self._begin(training)
        if record is not None:
            record = records.end(training.folder, record, state, **how)
            self._records[training.name] = record if state is State.PENDING else None

    def _finish(self, training: SweepTraining, result: Mapping[str, Any]) -> None:
        name = training.name
        if self._records.get(name) is not None:
            self._close(training, State.DONE, result=result)
            self._listener.say(f"{name}: done, {result['steps']:,} steps, best at {result['best_step']:,}")
        self._graph.end(name, State.DONE)
        trial, sample = parse_name(name)
        if sample is not None:
            self._searches[trial].finish(sample, result)
            self._halve(trial, sample)
        self._report_progress()

    def _pause(self, training: SweepTraining) -> None:
        """Handle a sample that reached a rung of its search, where it waits for the others of its round."""
        trial, sample = parse_name(training.name)
        assert sample is not None, "only samples wait"
        self._graph.pause(training.name)
        self._searches[trial].pause(sample, training)
        self._halve(trial, sample)

    def _halve(self, trial: str, sample: int) -> None:
        """Let the better samples continue, once all samples of this round are at a rung."""
        continuing, stopped = self._searches[trial].decide(sample)
        for other in continuing:
            self._graph.resume(sample_name(trial, other))
        for other, reason in stopped.items():
            name = sample_name(trial, other)
            if self._records.get(name) is not None:
                self._close(self._trainings[name], State.STOPPED, reason=reason)
            self._listener.say(f"{name}: {reason}")
            self._graph.drop(name)

    def _after_failure(self, training: SweepTraining, message: str, failure: Failure) -> None:
        """Retry a failed attempt or give up, depending on the kind of failure."""
        name, request = training.name, self.request_of(training.name)
        shares_memory = request.gpus < 1 and self._capacity.cpus > request.cpus
        decision = self._retries.decide(name, failure, shares_memory=shares_memory)
        log = f"log: {training.folder.log}"
        if not decision.again:
            why = f"{decision.why}; " if decision.why else ""
            self._give_up(training, f"{message} ({why}{log})", failure)
            return
        self._close(training, State.PENDING, reason=f"{message}; {decision.why}", failure=failure)
        self._listener.say(f"{name}: {message}; {decision.why} ({log})")
        self._graph.end(name, State.PENDING)

    def _fail_before(self, name: str, reason: str) -> None:
        """Record that a training cannot begin; a trial's record says why, a sample needs none."""
        if (task := self._tasks.get(name)) is not None:
            self._close(training_of(task), State.FAILED, reason=reason)
        self._fail(name, reason)

    def _give_up(self, training: SweepTraining, reason: str, failure: Failure = Failure.ERROR) -> None:
        self._close(training, State.FAILED, reason=reason, failure=failure)
        self._fail(training.name, reason)
        if self._fail_fast and not self.halted:
            self.halt(f"--fail-fast: {training.name} failed")

    def _fail(self, name: str, reason: str) -> None:
        self._listener.say(f"{name}: failed: {reason}")
        trial, sample = parse_name(name)
        if sample is not None:
            self._searches[trial].fail(sample, reason)
            self._halve(trial, sample)
        for blocked, why in self._graph.fail(name).items():
            if (task := self._tasks.get(blocked)) is not None:
                records.block(
                    task.folder, trial=blocked, fingerprint=task.job.fingerprint, identity=task.identity, reason=why
                )
                self._listener.say(f"{blocked}: blocked: {why}")
        self._report_progress()

    def _folder(self, name: str) -> TrialFolder:
        trial, sample = parse_name(name)
        folder = self._tasks[trial].folder
        return folder if sample is None else folder.sample(sample)

    def _steps(self, name: str) -> str:
        return f"{self._trainings[name].job.settings.steps:,}"

    def _report_progress(self) -> None:
        ended = sum(self._graph.state(name) in {State.DONE, State.FAILED, State.BLOCKED} for name in self._tasks)
        self._listener.advance("train", ended, len(self._tasks), "trials")
