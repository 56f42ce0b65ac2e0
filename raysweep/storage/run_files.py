"""What each file of a run folder is, by its path: a record, a file that grows, working files, weights.

A record (or any other file that says that others are complete) must be written after them; `commit_rank` gives the
order.  A sealed record also lists the files it stands for, with their digests: its claims.
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
"""In object storage, and where it was fetched to be looked at: a run's lock; see `staging.lease`."""
WORKER_ATTEMPTS = "attempts.worker.jsonl"
"""In a trial's folder: what a worker with a disk of its own adds to `TrialFolder.attempts`."""


class Claim(NamedTuple):
    """What a record says of a file."""

    size: int
    digest: str


Claims = Mapping[str, Claim]
"""By path relative to the run folder."""

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
    """0, 1 … for files that are written after all those of lower rank; None for those that say nothing of others."""
    return next((rank for rank, patterns in enumerate(_COMMITS) if _matches(path, patterns)), None)


def is_sealed_record(path: str) -> bool:
    """Whether it is a record that lists files with their digests."""
    return _matches(path, (*_COMMITS[2], *_COMMITS[3]))


def is_growing(path: str) -> bool:
    """Whether a process adds to it, or rewrites it, all the time."""
    return _matches(path, _GROWING)


def is_in_checkpoint(path: str) -> bool:
    """Whether it is a file of a checkpoint."""
    return fnmatchcase(path, _CHECKPOINTS)


def is_weights(path: str) -> bool:
    """Whether it holds weights or a checkpoint."""
    return _matches(path, _WEIGHTS)


def is_large(path: str) -> bool:
    """Whether it holds weights, texts, examples or tables of losses, which those who only look do not read."""
    return _matches(path, _LARGE)


def is_working_file(path: str) -> bool:
    """Whether it matters on this machine only: locks, Ray's files, files that are being written."""
    if path in _LOCAL or path.startswith(_LOCAL_FOLDER):
        return True
    return any(part.startswith(".") and part.endswith((".part", ".old")) for part in path.split("/"))


def trial_of(path: str) -> str | None:
    """The folder of the trial, or of the sample of a search, to which a file belongs; None for other files."""
    parts = path.split("/")
    if parts[0] != _RUN.trials.as_posix() or len(parts) < 3:
        return None
    samples = TrialFolder(Path()).sample(0).root.parent.name
    return "/".join(parts[: 4 if parts[2] == samples and len(parts) > 4 else 2])


def read_claims(path: str, data: bytes) -> dict[str, Claim]:
    """The files that a sealed record lists.

    Raises:
        ValueError: it is no such record.
    """
    values = json.loads(data)
    try:
        return _read_claims(path, values)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no record") from error


def tokenizer_digest(outputs: Outputs) -> str:
    """One digest of the run's own tokenizer among the mask stage's files; '' if it has none, but GPT-2's."""
    folder = f"{ExamplesFolder(_RUN.examples).tokenizer.as_posix()}/"
    files = {path: values for path, values in outputs.items() if path.startswith(folder)}
    return combine_digests(files) if files else ""


def claim_of(file: Path) -> Claim:
    """What a record would say of a file."""
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
    # A further corpus lies in a folder like a run's.
    path = inside[1] if folder == _RUN.corpora.as_posix() and len(inside) == 2 else path
    return any(fnmatchcase(path, pattern) for pattern in patterns)
