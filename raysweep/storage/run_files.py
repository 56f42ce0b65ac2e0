"""Classifies the files of a run folder by path: records, growing files, working files, weights.

A record (or any other file that marks others as complete) must be written after them; `commit_rank` gives the
order.  A sealed record also lists the files it covers, with their digests: its claims.
"""

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from raysweep.storage.classification_files import ClassificationFolder
from raysweep.storage.digests import Outputs, combine_digests, digest_file
from raysweep.storage.run_folder import CHECKPOINT_RECORD, ExamplesFolder, RunFolder, TrialFolder

LEASE = "lease.json"
"""A run's lock in object storage, also in fetched copies; see `staging.lease`."""
WORKER_ATTEMPTS = "attempts.worker.jsonl"
"""In a trial's folder: the events that a worker with its own disk adds to `TrialFolder.attempts`."""


class Claim(NamedTuple):
    """The size and digest of a file according to a record."""

    size: int
    digest: str


_RUN, _TRIAL = RunFolder(Path()), TrialFolder(RunFolder(Path()).trials / "*")
_CLASSIFICATION = ClassificationFolder.of(_RUN)
_COMMITS: tuple[tuple[str, ...], ...] = (
    (
        ExamplesFolder(_RUN.examples).shard_record(0).as_posix().replace("00000", "*"),
        f"{_TRIAL.checkpoints.as_posix()}/{CHECKPOINT_RECORD}".replace("checkpoints/", "checkpoints/*/"),
        _TRIAL.result.as_posix(),
    ),
    (_RUN.manifest.as_posix(),),
    (
        _TRIAL.record.as_posix(),
        _RUN.cells_record("*").as_posix(),
        _RUN.further_record.as_posix(),
        _CLASSIFICATION.scores_record("*", "*").as_posix(),
    ),
    (_RUN.record.as_posix(),),
)
_GROWING = (
    *(path.as_posix() for path in (_TRIAL.metrics, _TRIAL.evaluations, _TRIAL.log, _TRIAL.attempts, _RUN.spent)),
    (_TRIAL.root / "events.out.tfevents.*").as_posix(),
)
_LOCAL = (_RUN.lock.as_posix(), LEASE, _RUN.ray.as_posix())
_LOCAL_FOLDER = f"{_RUN.ray.as_posix()}/"
_CHECKPOINTS = f"{_TRIAL.checkpoints.as_posix()}/*"
_WEIGHTS = (_CHECKPOINTS, f"{_TRIAL.root.as_posix()}/*.safetensors")
_LARGE = (
    *_WEIGHTS,
    f"{_RUN.examples.as_posix()}/*.examples",
    f"{_RUN.corpus.as_posix()}/*.parquet",
    f"{_RUN.corpus.as_posix()}/*.csv",
    f"{_RUN.ilm_texts.as_posix()}/*",
    f"{_RUN.evaluation.as_posix()}/*.parquet",
    f"{_CLASSIFICATION.root.as_posix()}/*.parquet",
)


@lru_cache(maxsize=1 << 16)
def commit_rank(path: str) -> int | None:
    """Return the rank of a file that must be written after lower ranks; None if it marks no others as complete."""
    return next((rank for rank, patterns in enumerate(_COMMITS) if _matches(path, patterns)), None)


def is_sealed_record(path: str) -> bool:
    """Return whether the file is a record that lists files with their digests."""
    return _matches(path, (*_COMMITS[2], *_COMMITS[3]))


def is_growing(path: str) -> bool:
    """Return whether a process keeps appending to the file or rewriting it."""
    return _matches(path, _GROWING)


def is_in_checkpoint(path: str) -> bool:
    """Return whether the file belongs to a checkpoint."""
    return fnmatchcase(path, _CHECKPOINTS)


def is_weights(path: str) -> bool:
    """Return whether the file holds weights or belongs to a checkpoint."""
    return _matches(path, _WEIGHTS)


def is_large(path: str) -> bool:
    """Tell whether the file holds weights, texts, examples or loss tables, which read-only commands do not need."""
    return _matches(path, _LARGE)


def is_working_file(path: str) -> bool:
    """Return whether the file matters only on this machine: locks, Ray's files, files being written."""
    if path in _LOCAL or path.startswith(_LOCAL_FOLDER):
        return True
    return any(part.startswith(".") and part.endswith((".part", ".old")) for part in path.split("/"))


def trial_of(path: str) -> str | None:
    """Return the folder of the trial, or of the search's sample, that a file belongs to; None for other files."""
    parts = path.split("/")
    if parts[0] != _RUN.trials.as_posix() or len(parts) < 3:
        return None
    samples = TrialFolder(Path()).sample(0).root.parent.name
    return "/".join(parts[: 4 if parts[2] == samples and len(parts) > 4 else 2])


def read_claims(path: str, data: bytes) -> dict[str, Claim]:
    """Return the claims of a sealed record; raises ValueError if it is none."""
    values = json.loads(data)
    try:
        return _read_claims(path, values)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no record") from error


def tokenizer_digest(outputs: Outputs) -> str:
    """Return one digest of the run's own tokenizer among the mask stage's files; '' if the run uses GPT-2's."""
    folder = f"{ExamplesFolder(_RUN.examples).tokenizer.as_posix()}/"
    files = {path: values for path, values in outputs.items() if path.startswith(folder)}
    return combine_digests(files) if files else ""


def claim_of(file: Path) -> Claim:
    """Return the claim that a record would make about a file."""
    return Claim(size=file.stat().st_size, digest=digest_file(file))


def _read_claims(path: str, values: Any) -> dict[str, Claim]:
    if path == _RUN.record.as_posix():
        lists = [("", stage.get("outputs", {})) for stage in values.get("stages", {}).values()]
    else:
        lists = [(f"{path.rpartition('/')[0]}/", values.get("outputs", {}))]
    return {f"{folder}{name}": _claim(made) for folder, outputs in lists for name, made in outputs.items()}


def _claim(made: Mapping[str, Any]) -> Claim:
    return Claim(size=int(made["bytes"]), digest=str(made["digest"]))


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    folder, *inside = path.split("/", 2)
    # The folder of a further corpus is laid out like a run folder.
    path = inside[1] if folder == _RUN.corpora.as_posix() and len(inside) == 2 else path
    return any(fnmatchcase(path, pattern) for pattern in patterns)
