"""run.json: what was run, by which code, on what, and which stages are done.

A stage's entry is written last, after all its files.  It keeps the plain fields that its fingerprint
was made from, so that a later run can name those that differ.
"""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from typing import Any

from raysweep import __version__
from raysweep.config.fingerprints import fingerprint
from raysweep.storage.atomic_files import read_json, write_json
from raysweep.storage.clock import unix_seconds
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


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """The whole of run.json."""

    name: str
    profile: str
    command: str
    """What a person types to get here, paths as they gave them."""
    raysweep: str
    python: str
    platform: str
    libraries: Mapping[str, str]
    started_at: float
    stages: Mapping[str, StageRecord] = field(default_factory=dict)


def read_run(folder: RunFolder) -> RunRecord | None:
    """The run's record, or None if nothing was run."""
    if not folder.record.exists():
        return None
    values = read_json(folder.record)
    stages = {name: StageRecord(**stage) for name, stage in values.pop("stages").items()}
    return RunRecord(**values, stages=stages)


def open_run(folder: RunFolder, *, profile: str, command: Sequence[str]) -> RunRecord:
    """The folder's record, or a new one, with the versions of this process."""
    before = read_run(folder)
    return RunRecord(
        name=folder.name,
        profile=profile,
        command=" ".join(command),
        raysweep=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        libraries={name: metadata.version(name) for name in LIBRARIES},
        started_at=before.started_at if before else unix_seconds(),
        stages=before.stages if before else {},
    )


def mark_done(
    folder: RunFolder, run: RunRecord, stage: str, identity: Mapping[str, Any], *, seconds: float
) -> RunRecord:
    """Record the stage as done, by rename, after its files are in place."""
    record = StageRecord(
        fingerprint=fingerprint(identity), identity=identity, ended_at=unix_seconds(), seconds=round(seconds, 3)
    )
    after = replace(run, stages={**run.stages, stage: record})
    write_json(folder.record, asdict(after))
    return after


def forget(folder: RunFolder, run: RunRecord, stage: str) -> RunRecord:
    """Take a stage out of the record, before its files are made again."""
    if stage not in run.stages:
        return run
    after = replace(run, stages={name: record for name, record in run.stages.items() if name != stage})
    write_json(folder.record, asdict(after))
    return after
