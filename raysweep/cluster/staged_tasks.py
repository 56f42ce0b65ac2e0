"""Executes a task on a worker: fetch what it reads, send what it made; see `staging`."""

import errno
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raysweep.cluster.functions import call_with_fields
from raysweep.config.loading import read_resolved_config
from raysweep.config.training_settings import GPT2_TOKENIZER
from raysweep.errors import RaysweepError, StorageError
from raysweep.masking.shards import read_manifest
from raysweep.pipeline.tasks import MaskTask, ScoreTask, TextPart
from raysweep.scheduling.trials import START_MODEL, expand_trials
from raysweep.staging.local_copies import LocalCopies
from raysweep.staging.run_staging import StagingTicket
from raysweep.staging.worker_place import WorkerPlace
from raysweep.storage.run_files import Claim
from raysweep.storage.run_folder import ExamplesFolder, RunFolder, samples_beside


def make_staged_shard(
    function: str,
    task: MaskTask,
    require: Callable[[], None] | None,
    ticket: StagingTicket | None,
    documents: Claim | None,
) -> Any:
    """Call the function with a mask task's fields; return its result or its error.

    Args:
        require: as for `call_with_fields`.
        ticket: of the run's storage.
        documents: claim to check if documents are fetched, since no record lists a further corpus's documents yet.
    """

    def call(place: WorkerPlace) -> Any:
        here, store = place.localise(task), ExamplesFolder(place.localise(task.folder))
        if documents is not None:
            place.fetch_file(here.documents, documents)
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
    """Call the function with a score task's fields; return its result or its error; see `make_staged_shard`."""

    def call(place: WorkerPlace) -> Any:
        here = place.localise(task)
        place.fetch(here.documents, here.examples, Path(here.start), *filter(None, [here.general]))
        outcome = call_with_fields(function, here, require, device=device)
        if not isinstance(outcome, Exception):
            place.send(here.out, samples_beside(here.out), record=here.record)
        return outcome

    return _with_errors(ticket, call)


class FetchedModels:
    """Fetches to a worker's disk what `raysweep.load` reads for one model of a run, and remembers what is there.

    The records of all trials, possibly hundreds, say which models there are, and are fetched only once.
    """

    def __init__(self) -> None:
        self._records: set[Path] = set()
        self._last: tuple[Path, str] | None = None
        """Run folder and model that were fetched last."""

    def fetch(self, place: WorkerPlace, run: RunFolder, model: str) -> None:
        """Fetch the bucket's current version of a model, its record and weights, unless it was the last one fetched.

        For the start, fetch the tokenizer.
        """
        if self._last == (run.root, model):
            return
        place.fetch_records(run.record, run.config)
        config = read_resolved_config(run)
        records = {run.trial(name).record: name for name in expand_trials(config)}
        place.fetch_records(*(path for path, name in records.items() if name == model or path not in self._records))
        self._records.update(records)
        if model != START_MODEL:
            place.fetch(run.trial(model).model)
        elif config.model.tokenizer != GPT2_TOKENIZER:
            place.fetch(run.manifest)
            if read_manifest(run.examples).get("tokenizer") is not None:
                place.fetch(ExamplesFolder(run.examples).tokenizer)
        # Set last, so that after an error the next part fetches the model again.
        self._last = run.root, model


def score_staged_part(
    function: str,
    part: TextPart,
    require: Callable[[], None] | None,
    ticket: StagingTicket | None,
    *,
    device: str,
    fetched: FetchedModels | None = None,
) -> Any:
    """Call the function with a part's fields; return its scores or its error; see `make_staged_shard`.

    Args:
        fetched: what this process fetched for earlier parts.
    """

    def call(place: WorkerPlace) -> Any:
        here = place.localise(part)
        if place.bucket is not None:
            (fetched or FetchedModels()).fetch(place, RunFolder(here.run), here.model)
        return call_with_fields(function, here, require, device=device)

    return _with_errors(ticket, call)


def _with_errors(ticket: StagingTicket | None, call: Callable[[WorkerPlace], Any]) -> Any:
    try:
        return call(WorkerPlace.of(ticket))
    except RaysweepError as error:
        # Return the error instead of raising it, for the same reason as `call_with_fields`.
        return error
    except OSError as error:
        # For example a full disk during a fetch.
        place = LocalCopies.of(ticket.storage).folder if ticket is not None else "its disk"
        mending = "make room there"
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            place, mending = error.filename or place, "mend that on the node"
        problem = f"node {socket.gethostname()}: {place}: {error.strerror or error}"
        return StorageError(f"{problem}; {mending}, or end the node, and the same command goes on")
