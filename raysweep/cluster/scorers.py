"""Scores models on a few actors, each of which imports torch once and takes model after model."""

import os
import traceback
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayActorError

from raysweep.cluster.functions import resolve
from raysweep.errors import RaysweepError, TrainingError
from raysweep.pipeline.capacity import Capacity, ResourceRequest
from raysweep.pipeline.tasks import Listener, ScoreTask
from raysweep.pipeline.training_attempt import describe_error
from raysweep.scheduling.order import share_of_gpus

SCORE_MODEL = "raysweep.evaluation.scoring:score_model"


class Scorers:
    """Processes that score models; one is kept for what comes after, since each imports torch for seconds."""

    def __init__(
        self, *, need: ResourceRequest, capacity: Capacity, max_failures: int, score: str = SCORE_MODEL
    ) -> None:
        """Args:
        need: of one scorer.
        max_failures: times a lost scorer is replaced.
        score: the function, 'module:function', called with a task's fields and `device`.
        """
        self._need, self._capacity, self._max_failures, self._score = need, capacity, max_failures, score
        self._scorers: list[Any] = []

    def score(self, tasks: Sequence[ScoreTask], listener: Listener) -> None:
        """Score the models, the largest first.

        Raises:
            RaysweepError: as the first model that failed raised it, with the model's name.
        """
        waiting = sorted(tasks, key=_size, reverse=True)
        self._keep(min(len(tasks), _places(self._need, self._capacity)))
        listener.advance("evaluate", 0, len(tasks), "models")
        running: dict[Any, tuple[Any, ScoreTask]] = {}
        done = 0
        while waiting or running:
            idle = [scorer for scorer in self._scorers if scorer not in {each for each, _ in running.values()}]
            for scorer in idle[: len(waiting)]:
                task = waiting.pop(0)
                running[scorer.score.remote(task)] = (scorer, task)
            (ended,), _ = ray.wait(list(running), num_returns=1)
            _, task = running.pop(ended)
            _raise_failure(task, ended)
            done += 1
            listener.advance("evaluate", done, len(tasks), "models")
        self._keep(1)

    def time_model(self, folder: Path, ensemble: Sequence[Path], repeats: int) -> dict[str, Any]:
        """Time infilling in one of the processes, while the others are gone; see `evaluation.speed`."""
        self._keep(1)
        measured: dict[str, Any] = ray.get(self._scorers[0].time_model.remote(folder, ensemble, repeats))
        return measured

    def close(self) -> None:
        """End the processes."""
        self._keep(0)

    def _keep(self, count: int) -> None:
        while len(self._scorers) > count:
            ray.kill(self._scorers.pop())
        while len(self._scorers) < count:
            self._scorers.append(_scorer(self._need, self._max_failures, self._score))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Scorer:
    def __init__(self, need: ResourceRequest, score: str) -> None:
        # Before torch is imported; one thread, so that a score does not depend on the machine's cores.
        os.environ["OMP_NUM_THREADS"] = "1"
        self._uses_gpu = need.gpus > 0
        self._score = score

    def score(self, task: ScoreTask) -> RaysweepError | None:
        """None if all is well; an error travels as a value, or it arrives wrapped in Ray's own."""
        values = {field.name: getattr(task, field.name) for field in fields(task)}
        try:
            resolve(self._score)(**values, device=self._device())
        except RaysweepError as error:
            return type(error)(f"model '{task.model}': {error}")
        except Exception as error:
            story = traceback.format_exc()
            return TrainingError(f"model '{task.model}': {describe_error(error)}\n{story}")
        return None

    def time_model(self, folder: Path, ensemble: Sequence[Path], repeats: int) -> dict[str, Any]:
        import torch

        from raysweep.evaluation.speed import measure_speed

        torch.set_num_threads(1)
        return measure_speed(folder, repeats, self._device(), ensemble=ensemble)

    def _device(self) -> str:
        if not self._uses_gpu:
            return "cpu"
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"


def _scorer(need: ResourceRequest, max_failures: int, score: str) -> Any:
    kind = ray.remote(num_cpus=1, **_gpu_of(need), max_restarts=max_failures, max_task_retries=max_failures)(_Scorer)
    return kind.remote(need, score)


def _gpu_of(need: ResourceRequest) -> dict[str, Any]:
    return {"num_gpus": need.gpus, **({"accelerator_type": need.kind} if need.gpus and need.kind else {})}


def _raise_failure(task: ScoreTask, ended: Any) -> None:
    try:
        error = ray.get(ended)
    except RayActorError as lost:
        raise TrainingError(
            f"model '{task.model}': the process that scores it was lost (out of memory?); "
            "lower evaluation.batch_tokens, or set resources.max_failures higher if nodes come and go"
        ) from lost
    if error is not None:
        raise error


def _places(need: ResourceRequest, capacity: Capacity) -> int:
    """How many scorers the cluster has room for; one if it has none yet."""
    by_gpu = int(capacity.gpus / share_of_gpus(need.gpus)) if need.gpus else int(capacity.cpus)
    return max(1, min(by_gpu, int(capacity.cpus)))


def _size(task: ScoreTask) -> int:
    """Bytes of the model; what every model is scored on is the same."""
    folder = Path(task.start)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 0
