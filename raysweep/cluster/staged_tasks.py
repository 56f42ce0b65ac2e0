"""Carry out a mask or score task where the worker is: fetch what it reads, send what it made; see `staging`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from raysweep.cluster.functions import call_with_fields
from raysweep.errors import RaysweepError
from raysweep.pipeline.tasks import MaskTask, ScoreTask
from raysweep.staging.run_staging import StagingTicket
from raysweep.staging.worker_place import WorkerPlace
from raysweep.storage.run_folder import ExamplesFolder, samples_beside


def make_staged_shard(
    function: str, task: MaskTask, require: Callable[[], None] | None, ticket: StagingTicket | None
) -> Any:
    """Call the function with a mask task's fields; returns its result, or its error.

    Args:
        require: as `call_with_fields` takes it.
        ticket: of the run's storage.
    """

    def call(place: WorkerPlace) -> Any:
        here, store = place.localise(task), ExamplesFolder(place.localise(task.folder))
        place.fetch(here.documents)
        outcome = call_with_fields(function, here, require)
        if not isinstance(outcome, Exception):
            place.send(store.shard(task.shard), record=store.shard_record(task.shard))
        return outcome

    return _with_errors(ticket, call)


def score_staged_model(
    function: str,
    task: ScoreTask,
    require: Callable[[], None] | None,
    ticket: StagingTicket | None,
    *,
    device: str,
) -> Any:
    """Call the function with a score task's fields; returns its result, or its error; see `make_staged_shard`."""

    def call(place: WorkerPlace) -> Any:
        here = place.localise(task)
        place.fetch(here.documents, here.examples, Path(here.start), *filter(None, [here.general]))
        outcome = call_with_fields(function, here, require, device=device)
        if not isinstance(outcome, Exception):
            place.send(here.out, samples_beside(here.out), record=here.record)
        return outcome

    return _with_errors(ticket, call)


def _with_errors(ticket: StagingTicket | None, call: Callable[[WorkerPlace], Any]) -> Any:
    try:
        return call(WorkerPlace.of(ticket))
    except RaysweepError as error:
        # As `call_with_fields` does, and for the same reason.
        return error
