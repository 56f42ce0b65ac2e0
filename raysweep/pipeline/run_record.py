"""run.json: records what was run, by which code, on what, and which stages are done.

A stage's entry is written after all its files.  It holds the settings that the stage was made with, so
that a later run can name those that differ; the digests of its inputs; and the size and
digest of every output file.
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
    """A stage that is done."""

    fingerprint: str
    identity: Mapping[str, Any]
    ended_at: float
    """Unix seconds."""
    seconds: float
    """Wall-clock seconds of the attempt that finished it."""
    made_from: Mapping[str, str]
    """Digests of its inputs, by name."""
    outputs: Outputs
    """Its output files; paths are relative to the run folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """The contents of run.json."""

    name: str
    profile: str
    command: str
    """The command that the user would type to repeat the run, with paths as they gave them."""
    working_folder: str = ""
    """The folder that relative paths in `command` start from; '' in an earlier version's record.  Never published."""
    raysweep: str
    python: str
    platform: str
    libraries: Mapping[str, str]
    started_at: float
    precision: NumberType | None = None
    """Precision chosen for trainings on a CPU; None if none was chosen, and 'auto' follows the run's first training."""
    stages: Mapping[str, StageRecord] = field(default_factory=dict)


def read_run(folder: RunFolder) -> RunRecord | None:
    """Read the run's record; None if nothing was run.

    Raises:
        DamagedError, EarlierVersionError: it was changed, or another version wrote it.
    """
    if not folder.record.exists():
        return None
    values = read_sealed(folder.record, fix="delete it and run again: what is done is made or recognised again")
    stages = {name: StageRecord(**stage) for name, stage in values.pop("stages").items()}
    return RunRecord(**values, stages=stages)


def open_run(folder: RunFolder, *, profile: str, command: Sequence[str], anew: bool = False) -> RunRecord:
    """Return the record with the versions of this process, or a new one; with `anew` it may be unreadable."""
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
    """Record that a stage is done, after its files are in place; outputs that do not exist are left out."""
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
    """Remove a stage from the record before its files are made again."""
    if stage not in run.stages:
        return run
    after = replace(run, stages={name: record for name, record in run.stages.items() if name != stage})
    write_sealed(folder.record, asdict(after))
    return after
