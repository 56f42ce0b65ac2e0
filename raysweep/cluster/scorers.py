"""Scores models, and parts of new texts, on a few actors, each of which imports torch once and then does many tasks.

An actor that dies, or whose node is lost, is replaced, and its task goes to the next free actor: Ray's own retries (and
Ray Data's) wait for the same actor, which never comes back on a cluster that cannot grow.  Finished scores are kept,
whatever happens to other tasks.  A task is read when an actor is free for it, so that memory holds only a few.
"""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import ObjectLostError, RayActorError

from raysweep.cluster.functions import first_line, resolve
from raysweep.cluster.session import Session
from raysweep.cluster.staged_tasks import FetchedModels, score_staged_model, score_staged_part
from raysweep.errors import RaysweepError, TrainingError
from raysweep.pipeline.tasks import Listener, ScoreTask, TextPart, TextTask
from raysweep.scheduling.capacity import Capacity, ResourceRequest
from raysweep.scheduling.order import share_of_gpus
from raysweep.staging.run_staging import StagingTicket
from raysweep.staging.worker_place import WorkerPlace

SCORE_MODEL = "raysweep.evaluation.scoring:score_model"
SCORE_PART = "raysweep.inference.text_parts:score_part"
_MODELS_PER_NEW_NODE = 4
"""A new node takes minutes to start while others score; one is requested per this many waiting models."""
_PARTS_PER_NEW_NODE = 100
"""The same for parts of texts, each of which takes seconds."""
_LOST_MODEL = (
    "the process that scores it was lost (out of memory?), {times} times; lower evaluation.batch_tokens, or set "
    "resources.max_failures higher if nodes come and go"
)
_LOST_PART = (
    "the process that scores it was lost (out of memory?), {times} times; use nodes with more memory, or lower the "
    "run's evaluation.batch_tokens (`raysweep score` then begins again with its first part); set "
    "resources.max_failures higher if nodes come and go"
)
_LOST_START = (
    "its process was lost before it was ready, {times} times in a row ({reason}); see the node's memory "
    "and, on a joined cluster, `ray list actors --detail`, or set resources.max_failures higher if nodes come and go"
)
Task = TypeVar("Task", ScoreTask, TextTask)


class Scorers:
    """Actors that score; one is kept afterwards for timing and later scores, since importing torch takes seconds."""

    def __init__(self, session: Session, *, score: str = SCORE_MODEL, score_part: str = SCORE_PART) -> None:
        """Args: the functions, 'module:function', are called with the fields of a task or part, and `device`."""
        self._session, self._score, self._score_part = session, score, score_part
        self._scorers: list[Any] = []
        self._lost: Counter[str] = Counter()
        """Number of lost actors, by what they scored: the name of a model or of a part of the texts."""

    def score(self, tasks: Sequence[ScoreTask], listener: Listener) -> None:
        """Score the models, the largest first.

        Raises:
            RaysweepError: the error of the first model that failed, with the model's name.
        """
        listener.advance("evaluate", 0, len(tasks), "models")

        def submit(scorer: Any, task: ScoreTask) -> Any:
            return scorer.score.options(name=f"score {task.model}").remote(task)

        largest_first = sorted(tasks, key=_model_bytes, reverse=True)
        scored = self._spread(largest_first, submit, listener, per_new_node=_MODELS_PER_NEW_NODE)
        for done, (task, error) in enumerate(scored, start=1):
            _raise_error(task.model, error)
            listener.advance("evaluate", done, len(tasks), "models")

    def warm_up(self, tasks: int) -> None:
        """Start the actors that this many parts of texts need at least, which import what they need meanwhile."""
        count = min(tasks, self._places(tasks, _PARTS_PER_NEW_NODE))
        self._resize(max(count, len(self._scorers)))
        for scorer in self._scorers:
            scorer.prepare.remote(self._score_part)

    def score_texts(self, tasks: Sequence[TextTask], listener: Listener) -> Iterator[tuple[TextTask, int]]:
        """Score parts of a corpus; yield each part with the number of its texts when its scores are written here.

        Raises:
            RaysweepError: the error of the first part that failed, with the model's name.
        """

        def submit(scorer: Any, task: TextTask) -> Any:
            return scorer.score_part.options(name=f"score texts {task.model}").remote(task.read())

        for task, outcome in self._spread(tasks, submit, listener, per_new_node=_PARTS_PER_NEW_NODE):
            _raise_error(task.model, outcome if isinstance(outcome, Exception) else None)
            yield task, task.write(outcome)

    def _spread(
        self, tasks: Sequence[Task], submit: Callable[[Any, Task], Any], listener: Listener, *, per_new_node: int
    ) -> Iterator[tuple[Task, Any]]:
        """Give every task to an actor; yield each task with what the actor returned, as they finish.

        Args:
            submit: starts a task on an actor, and returns its future.
            per_new_node: more scorers than fit on the present nodes start only if each then has this many tasks.

        Raises:
            TrainingError: a task has lost too many actors, or too many in a row were lost before they were ready.
        """
        waiting = deque(tasks)
        self._resize(min(len(tasks), self._places(len(tasks), per_new_node)))
        # An actor whose node is still starting becomes ready later, and gets no task until then.
        running: dict[Any, tuple[Any, Task | None]] = {self._ready(scorer): (scorer, None) for scorer in self._scorers}
        # An actor that replaces a lost one takes over its number, by which failed starts are counted.
        numbers = {
            scorer: f"scorer {number} of {len(self._scorers)}" for number, scorer in enumerate(self._scorers, start=1)
        }
        failed_starts: Counter[str] = Counter()
        idle: list[Any] = []
        left = len(tasks)

        def give_work(scorer: Any) -> None:
            if waiting:
                task = waiting.popleft()
                running[submit(scorer, task)] = (scorer, task)
            else:
                idle.append(scorer)

        while left:
            (ended,), _ = ray.wait(list(running), num_returns=1)
            scorer, task = running.pop(ended)
            try:
                outcome = ray.get(ended)
            except (RayActorError, ObjectLostError) as lost:
                number = numbers.pop(scorer)
                if task:
                    problem = _LOST_PART if isinstance(task, TextTask) else _LOST_MODEL
                    self._drop(scorer, self._lost, _name_of(task), lost, problem=problem)
                else:
                    self._drop(scorer, failed_starts, number, lost, problem=_LOST_START)
                waiting.extendleft([task] if task else [])
                if idle:
                    # A replacement might wait forever for the CPU that this idle actor holds.
                    give_work(idle.pop())
                else:
                    self._scorers.append(replacement := self._start())
                    numbers[replacement], running[self._ready(replacement)] = number, (replacement, None)
                if task:
                    listener.say(f"lost the process that scored '{task.model}'; another scores it")
                continue
            failed_starts[numbers[scorer]] = 0
            give_work(scorer)
            if task is not None:
                left -= 1
                yield task, outcome
        # Keep an actor that is ready, not one whose node is still starting.
        pending = [scorer for scorer, _ in running.values()]
        self._scorers.sort(key=lambda scorer: scorer in pending)
        self._resize(1)

    def time_model(self, folder: Path, ensemble: Sequence[Path], repeats: int) -> dict[str, Any]:
        """Time infilling on one actor, after ending the others; see `evaluation.speed`."""
        self._resize(1)
        while True:
            try:
                timing = self._scorers[0].time_model.options(name=f"time {folder.parent.name}")
                measured: dict[str, Any] = ray.get(timing.remote(folder, ensemble, repeats))
            except RayActorError as lost:
                self._drop(self._scorers[0], self._lost, f"{folder}", lost, problem=_LOST_MODEL)
                self._resize(1)
            else:
                return measured

    def close(self) -> None:
        """End the actors."""
        self._resize(0)

    def _places(self, tasks: int, per_new_node: int) -> int:
        present, most = _present(), self._session.capacity
        return count_scorers(self._session.need(), tasks, present=present, most=most, per_new_node=per_new_node)

    def _resize(self, count: int) -> None:
        while len(self._scorers) > count:
            ray.kill(self._scorers.pop())
        while len(self._scorers) < count:
            self._scorers.append(self._start())

    def _drop(
        self, scorer: Any, losses: Counter[str], work: str, lost: RayActorError | ObjectLostError, *, problem: str
    ) -> None:
        """Discard a lost actor, and count the loss against its work; after too many, raise TrainingError."""
        if not getattr(lost, "preempted", False):
            losses[work] += 1
        if losses[work] > self._session.resources.max_failures:
            message = problem.format(times=losses[work], reason=first_line(str(lost)))
            raise TrainingError(f"{work}: {message}") from lost
        # The actor may only be unreachable; whatever it still writes equals what its replacement writes.
        ray.kill(scorer)
        self._scorers.remove(scorer)

    def _ready(self, scorer: Any) -> Any:
        return scorer.__ray_ready__.remote()

    def _start(self) -> Any:
        need = self._session.need()
        options: dict[str, Any] = {"num_gpus": need.gpus}
        if need.gpus and need.kind:
            options["accelerator_type"] = need.kind
        actor = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0, **options)(Scorer)
        check, ticket = self._session.check, self._session.ticket
        functions = (self._score, self._score_part)
        return actor.remote(functions, check.require if check else None, uses_gpu=need.gpus > 0, ticket=ticket)


class Scorer:
    """The actor that runs in a worker process and scores there."""

    def __init__(
        self,
        functions: tuple[str, str],
        require: Callable[[], None] | None,
        *,
        uses_gpu: bool,
        ticket: StagingTicket | None,
    ) -> None:
        # Set before torch is imported; one thread, so that a score does not depend on the number of cores.
        os.environ["OMP_NUM_THREADS"] = "1"
        self._score, self._score_part = functions
        self._require, self._uses_gpu, self._ticket = require, uses_gpu, ticket
        self._fetched = FetchedModels()

    def prepare(self, function: str) -> None:
        """Import what the function needs, if possible."""
        # The first task meets the same error after the node's code was compared, and reports it with the task's name.
        with suppress(Exception):
            resolve(function)

    def score(self, task: ScoreTask) -> Exception | None:
        """Score a model; return its error, or None."""
        outcome = score_staged_model(self._score, task, self._require, self._ticket, device=self._device())
        return outcome if isinstance(outcome, Exception) else None

    def score_part(self, part: TextPart) -> Any:
        """Score a part of new texts; return its scores, or its error."""
        return score_staged_part(
            self._score_part, part, self._require, self._ticket, device=self._device(), fetched=self._fetched
        )

    def time_model(self, folder: Path, ensemble: Sequence[Path], repeats: int) -> dict[str, Any]:
        """Time a model's infilling, and that of the levels' models together."""
        import torch

        from raysweep.evaluation.speed import measure_speed

        torch.set_num_threads(1)
        place = WorkerPlace.of(self._ticket)
        folder, *others = place.localise([folder, *ensemble])
        place.fetch(folder, *others)
        return measure_speed(folder, repeats, self._device(), ensemble=others)

    def _device(self) -> str:
        if not self._uses_gpu:
            return "cpu"
        from raysweep.model.torch_devices import device_with_gpu

        return device_with_gpu()


def _raise_error(model: str, error: Exception | None) -> None:
    """Raise the error of a model that could not be scored, or could not score, with the model's name."""
    if error is not None:
        kind = type(error) if isinstance(error, RaysweepError) else TrainingError
        raise kind(f"model '{model}': {error}")


def _name_of(task: ScoreTask | TextTask) -> str:
    """Name the task for a message: a model, or one of the parts that are scored with the same model."""
    name = f"model '{task.model}'"
    return f"{name}, part {task.out}" if isinstance(task, TextTask) else name


def _present() -> Capacity:
    """Return the resources of the nodes that exist now."""
    now: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return Capacity(cpus=now.get("CPU", 0.0), gpus=now.get("GPU", 0.0))


def count_scorers(
    need: ResourceRequest, tasks: int, *, present: Capacity, most: Capacity, per_new_node: int = _MODELS_PER_NEW_NODE
) -> int:
    """Return how many scorers to start, at least one: as many as fit now, and more if many tasks wait for new nodes."""

    def room(capacity: Capacity) -> int:
        by_gpu = int(capacity.gpus / share_of_gpus(need.gpus)) if need.gpus else int(capacity.cpus)
        return min(by_gpu, int(capacity.cpus))

    return max(1, room(present), min(room(most), tasks // per_new_node))


def _model_bytes(task: ScoreTask) -> int:
    """Return the size of the model's weights; every model is scored on the same documents."""
    folder = Path(task.start)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 0
