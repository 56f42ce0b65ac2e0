"""What is known of each trial, on disk: `trials/<trial>/trial.json`.

A record says "done" only after everything it stands for is in place.  A lost or torn record costs
work, never a wrong result.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from raysweep.store import TrialFolder, read_json, write_json


class State(StrEnum):
    """Where a trial stands."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    BLOCKED = "blocked"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """One trial's record."""

    trial: str
    state: State
    fingerprint: str
    identity: Mapping[str, Any]
    """The plain fields that the fingerprint was made from; a later run names those that differ."""
    reason: str = ""
    """Why it failed, is blocked or was stopped."""
    attempts: int = 0
    """Times it was started."""
    started_at: float | None = None
    """Unix seconds; of the latest attempt."""
    ended_at: float | None = None
    busy_seconds: float = 0.0
    """Wall seconds of all attempts together."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """What the training said at its end: `TrainingResult` as plain values."""


def read_record(folder: TrialFolder) -> TrialRecord | None:
    """The trial's record, or None if it was never started."""
    if not folder.record.exists():
        return None
    values = read_json(folder.record)
    return TrialRecord(**{**values, "state": State(values["state"])})


def write_record(folder: TrialFolder, record: TrialRecord) -> None:
    """Put the record in place by rename."""
    write_json(folder.record, asdict(record))


def begin(
    folder: TrialFolder, *, trial: str, fingerprint: str, identity: Mapping[str, Any], now: float | None = None
) -> TrialRecord:
    """Record that an attempt starts; attempts at the same work are counted on."""
    before = read_record(folder)
    same = before is not None and before.fingerprint == fingerprint
    record = TrialRecord(
        trial=trial,
        state=State.RUNNING,
        fingerprint=fingerprint,
        identity=identity,
        attempts=(before.attempts if before and same else 0) + 1,
        started_at=time.time() if now is None else now,
        busy_seconds=before.busy_seconds if before and same else 0.0,
    )
    write_record(folder, record)
    return record


def end(
    folder: TrialFolder,
    record: TrialRecord,
    state: State,
    *,
    reason: str = "",
    result: Mapping[str, Any] | None = None,
    now: float | None = None,
) -> TrialRecord:
    """Record how an attempt ended."""
    ended_at = time.time() if now is None else now
    busy = record.busy_seconds + (ended_at - record.started_at if record.started_at is not None else 0.0)
    ended = replace(record, state=state, reason=reason, ended_at=ended_at, busy_seconds=busy, result=result or {})
    write_record(folder, ended)
    return ended
