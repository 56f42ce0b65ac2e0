"""Score models on a few actors, each of which imports torch once and then scores model after model."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError

from raysweep.cluster.functions import call_with_fields
from raysweep.cluster.session import Session
from raysweep.errors import RaysweepError, TrainingError
from raysweep.pipeline.tasks import Listener, ScoreTask
from raysweep.scheduling.capacity import Capacity, ResourceRequest
from raysweep.scheduling.order import share_of_gpus

SCORE_MODEL = "raysweep.evaluation.scoring:score_model"


class Scorers:
    """Actors that score models; after scoring one is kept for timing, since importing torch takes seconds."""

    def __init__(self, session: Session, *, score: str = SCORE_MODEL) -> None:
        """Args: `score` is the function, 'module:function', called with a task's fields and `device`."""
        self._session, self._score = session, score
        self._scorers: list[Any] = []

    def score(self, tasks: Sequence[ScoreTask], listener: Listener) -> None:
        """Score the models, the largest first.

        Raises:
            RaysweepError: the error of the first model that failed, with the model's name.
        """
        waiting = sorted(tasks, key=_model_bytes, reverse=True)
        self._resize(min(len(tasks), _places(self._session.need(), self._session.capacity)))
        listener.advance("evaluate", 0, len(tasks), "models")
        idle = list(self._scorers)
        running: dict[Any, tuple[Any, ScoreTask]] = {}
        for done in range(1, len(tasks) + 1):
            while waiting and idle:
                scorer, task = idle.pop(), waiting.pop(0)
                running[scorer.score.options(name=f"score {task.model}").remote(task)] = (scorer, task)
            (ended,), _ = ray.wait(list(running), num_returns=1)
            scorer, task = running.pop(ended)
            _raise_error(task, ended)
            idle.append(scorer)
            listener.advance("evaluate", done, len(tasks), "models")
        self._resize(1)

    def time_model(self, folder: Path, ensemble: Sequence[Path], repeats: int) -> dict[str, Any]:
        """Time infilling on one actor, with the others ended; see `evaluation.speed`."""
        self._resize(1)
        measured: dict[str, Any] = ray.get(self._scorers[0].time_model.remote(folder, ensemble, repeats))
        return measured

    def close(self) -> None:
        """End the actors."""
        self._resize(0)

    def _resize(self, count: int) -> None:
        while len(self._scorers) > count:
            ray.kill(self._scorers.pop())
        while len(self._scorers) < count:
            self._scorers.append(self._start())

    def _start(self) -> Any:
        need, max_failures = self._session.need(), self._session.resources.max_failures
        options: dict[str, Any] = {"num_gpus": need.gpus}
        if need.gpus and need.kind:
            options["accelerator_type"] = need.kind
        actor = ray.remote(num_cpus=1, max_restarts=max_failures, max_task_retries=max_failures, **options)(Scorer)
        check = self._session.check
        return actor.remote(self._score, check.require if check else None, uses_gpu=need.gpus > 0)


class Scorer:
    """The actor, in a process of its own."""

    def __init__(self, score: str, require: Callable[[], None] | None, *, uses_gpu: bool) -> None:
        # Before torch is imported; one thread, so that a score does not depend on the number of cores.
        os.environ["OMP_NUM_THREADS"] = "1"
        self._score, self._require, self._uses_gpu = score, require, uses_gpu

    def score(self, task: ScoreTask) -> Exception | None:
        """Score a model; returns its error, or None."""
        outcome = call_with_fields(self._score, task, self._require, device=self._device())
        return outcome if isinstance(outcome, Exception) else None

    def time_model(self, folder: Path, ensemble: Sequence[Path], repeats: int) -> dict[str, Any]:
        """Time a model's infilling, and that of the levels' models together."""
        import torch

        from raysweep.evaluation.speed import measure_speed

        torch.set_num_threads(1)
        return measure_speed(folder, repeats, self._device(), ensemble=ensemble)

    def _device(self) -> str:
        if not self._uses_gpu:
            return "cpu"
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"


def _raise_error(task: ScoreTask, ended: Any) -> None:
    """Raise the error of a model that could not be scored, with the model's name."""
    try:
        error = ray.get(ended)
    except RayActorError as lost:
        raise TrainingError(
            f"model '{task.model}': the process that scores it was lost (out of memory?); "
            "lower evaluation.batch_tokens, or set resources.max_failures higher if nodes come and go"
        ) from lost
    if error is not None:
        kind = type(error) if isinstance(error, RaysweepError) else TrainingError
        raise kind(f"model '{task.model}': {error}")


def _places(need: ResourceRequest, capacity: Capacity) -> int:
    """How many scorers the cluster has room for; one if it has none yet."""
    by_gpu = int(capacity.gpus / share_of_gpus(need.gpus)) if need.gpus else int(capacity.cpus)
    return max(1, min(by_gpu, int(capacity.cpus)))


def _model_bytes(task: ScoreTask) -> int:
    """Size of the model's weights; every model is scored on the same documents."""
    folder = Path(task.start)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 0
