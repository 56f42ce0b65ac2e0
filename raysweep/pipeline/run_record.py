"""run.json: what was run, by which code, on what, and which stages are done.

A stage's entry is written last, after all its files.  It keeps the settings that it was made with, so
that a later run can name those that differ; the digests of what it was made from; and the size and
digest of every file that it made.
"""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from raysweep import __version__
from raysweep.config.fingerprints import fingerprint
from raysweep.errors import DamagedError, EarlierVersionError
from raysweep.planning.cpu_precision import NumberType
from raysweep.storage.clock import unix_seconds
from raysweep.storage.digests import Outputs, describe_outputs, read_sealed, write_sealed
from raysweep.storage.run_folder import RunFolder

LIBRARIES = ("ray", "torch", "transformers", "tokenizers", "numpy", "numba", "pyarrow", "optuna")


@dataclass(frozen=True, kw_only=True, slots=True)
class StageRecord:
    """One stage that is done."""

    fingerprint: str
    identity: Mapping[str, Any]
    ended_at: float
    """Unix seconds."""
    seconds: float
    """Wall time of the attempt that finished it."""
    made_from: Mapping[str, str]
    """Digests of what it was made from, by name."""
    outputs: Outputs
    """The files that it made; paths relative to the run folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """The whole of run.json."""

    name: str
    profile: str
    command: str
    """What a person types to get here, paths as they gave them."""
    working_folder: str = ""
    """Where they typed it, which such paths count from; '' in a record of an earlier version.  Never published."""
    raysweep: str
    python: str
    platform: str
    libraries: Mapping[str, str]
    started_at: float
    precision: NumberType | None = None
    """Chosen for its trainings on a CPU.  None: no choice was made, and 'auto' follows the run's first training."""
    stages: Mapping[str, StageRecord] = field(default_factory=dict)


def read_run(folder: RunFolder) -> RunRecord | None:
    """The run's record, or None if nothing was run.

    Raises:
        DamagedError, EarlierVersionError: it is not as this version wrote it.
    """
    if not folder.record.exists():
        return None
    values = read_sealed(folder.record, fix="delete it and run again: what is done is made or recognised again")
    stages = {name: StageRecord(**stage) for name, stage in values.pop("stages").items()}
    return RunRecord(**values, stages=stages)


def open_run(folder: RunFolder, *, profile: str, command: Sequence[str], anew: bool = False) -> RunRecord:
    """The folder's record, or a new one, with the versions of this process.

    Args:
        anew: everything is made again, so a record that cannot be read does not matter.
    """
    try:
        before = read_run(folder)
    except (DamagedError, EarlierVersionError):
        if not anew:
            raise
        before = None
    return RunRecord(
        name=folder.name,
        profile=profile,
        command=" ".join(command),
        working_folder=str(Path.cwd()),
        raysweep=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        libraries={name: metadata.version(name) for name in LIBRARIES},
        started_at=before.started_at if before else unix_seconds(),
        precision=before.precision if before else None,
        stages=before.stages if before else {},
    )


def mark_done(
    folder: RunFolder,
    run: RunRecord,
    stage: str,
    identity: Mapping[str, Any],
    *,
    seconds: float,
    made_from: Mapping[str, str] | None = None,
    outputs: Sequence[Path] = (),
) -> RunRecord:
    """Record that a stage is done, after its files are in place.

    Args:
        outputs: files and folders that it made; those that do not exist are left out.
    """
    record = StageRecord(
        fingerprint=fingerprint(identity),
        identity=identity,
        ended_at=unix_seconds(),
        seconds=round(seconds, 3),
        made_from=made_from or {},
        outputs=describe_outputs(folder.root, outputs),
    )
    after = replace(run, stages={**run.stages, stage: record})
    write_sealed(folder.record, asdict(after))
    return after


def forget(folder: RunFolder, run: RunRecord, stage: str) -> RunRecord:
    """Take a stage out of the record, before its files are made again."""
    if stage not in run.stages:
        return run
    after = replace(run, stages={name: record for name, record in run.stages.items() if name != stage})
    write_sealed(folder.record, asdict(after))
    return after
