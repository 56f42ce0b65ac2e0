"""Each trial's record on disk: `trials/<trial>/trial.json`.

A record says "done" only after everything it lists is in place.  A lost or torn record costs
work, but never causes a wrong result.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from raysweep.errors import DamagedError
from raysweep.scheduling import attempts
from raysweep.scheduling.failures import Failure
from raysweep.storage.clock import unix_seconds
from raysweep.storage.digests import Outputs, combine_digests, describe_outputs, find_damage, read_sealed, write_sealed
from raysweep.storage.run_folder import TrialFolder


class State(StrEnum):
    """The state of a trial."""

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
    """The plain fields that the fingerprint was computed from, so that a later run can name those that differ."""
    reason: str = ""
    """Why it failed, is blocked or was stopped."""
    attempts: int = 0
    """Number of times it was started."""
    started_at: float | None = None
    """Start of the latest attempt, in Unix seconds."""
    ended_at: float | None = None
    busy_seconds: float = 0.0
    """Wall-clock seconds of all attempts together."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Failed attempts, by `scheduling.failures.Failure`."""
    ledger: Mapping[str, float] = field(default_factory=dict)
    """Slot-seconds of all attempts by part; see `scheduling.ledger`."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """The training's `TrainingResult` as plain values."""
    made_from: Mapping[str, str] = field(default_factory=dict)
    """Digests of the examples and of the parent's model; empty if it never began."""
    outputs: Outputs = field(default_factory=dict)
    """The files that the training made, once it is done; paths are relative to the trial's folder."""

    @property
    def model_digest(self) -> str:
        """Digest of the model without its card."""
        return combine_digests(self.outputs, r"model/(?!README\.md$)")


def read_record(folder: TrialFolder, *, fix: str | None = None) -> TrialRecord | None:
    """Read the trial's record; None if it was never started.

    Args:
        fix: end of a message, if not the command's `--force TRIAL`.

    Raises:
        DamagedError, EarlierVersionError: the record was changed, or another version wrote it.
    """
    if not folder.record.exists():
        return None
    values = read_sealed(folder.record, fix=fix or f"train it again with --force {folder.trial_name}")
    return TrialRecord(**{**values, "state": State(values["state"])})


def read_model_digest(folder: TrialFolder) -> str:
    """Return the digest of a done trial's model, a child's start; raises DamagedError if a file of it was changed."""
    record = read_record(folder)
    assert record is not None, "a parent is recorded as done before its children are released"
    if damaged := find_damage(folder.root, record.outputs):
        raise DamagedError(f"{damaged[0].path} {damaged[0].what}; train it again with --force {folder.trial_name}")
    return record.model_digest


def write_record(folder: TrialFolder, record: TrialRecord) -> None:
    """Write the record by rename."""
    write_sealed(folder.record, asdict(record))


def begin(
    folder: TrialFolder,
    *,
    trial: str,
    fingerprint: str,
    identity: Mapping[str, Any],
    made_from: Mapping[str, str] | None = None,
    slots: float = 1.0,
    unit: str = "cpu",
    now: float | None = None,
) -> TrialRecord:
    """Record the start of an attempt, continuing the count of attempts at the same work.

    Args:
        slots: GPUs that it holds, or CPU cores if it has no GPU; `unit` says which, "gpu" or "cpu".
    """
    now = unix_seconds() if now is None else now
    before = read_record(folder)
    if before is None or before.fingerprint != fingerprint:
        before = TrialRecord(trial=trial, state=State.PENDING, fingerprint=fingerprint, identity=identity)
        folder.attempts.unlink(missing_ok=True)
    written_at = attempts.last_written_at(folder)
    if before.state is State.RUNNING and before.started_at is not None:
        # The process of the earlier attempt was killed.
        lost = max(0.0, (written_at or 0.0) - before.started_at)
        before = replace(_count(before, Failure.PROCESS), busy_seconds=before.busy_seconds + lost)
    record = replace(
        before,
        state=State.RUNNING,
        identity=identity,
        made_from=made_from or {},
        reason="",
        attempts=before.attempts + 1,
        started_at=now,
        ended_at=None,
        result={},
        outputs={},
    )
    attempts.note(folder, "begin", now=now, slots=slots, unit=unit, last_written_at=written_at)
    write_record(folder, record)
    return record


def end(
    folder: TrialFolder,
    record: TrialRecord,
    state: State,
    *,
    reason: str = "",
    result: Mapping[str, Any] | None = None,
    failure: Failure | None = None,
    now: float | None = None,
) -> TrialRecord:
    """Record how an attempt ended; `State.PENDING` if another will follow.

    Args:
        failure: the kind of failure, if the attempt failed.
    """
    ended_at = unix_seconds() if now is None else now
    busy = record.busy_seconds
    if record.state is State.RUNNING and record.started_at is not None:
        busy += max(0.0, ended_at - record.started_at)
        attempts.note(folder, "over", now=ended_at, state=state)
    ended = replace(
        record if failure is None else _count(record, failure),
        state=state,
        reason=reason,
        ended_at=ended_at,
        busy_seconds=busy,
        result=result or {},
        outputs=describe_outputs(folder.root, folder.outputs) if state is State.DONE else {},
        ledger=attempts.slot_seconds(attempts.read_events(folder)),
    )
    write_record(folder, ended)
    return ended


def block(folder: TrialFolder, *, trial: str, fingerprint: str, identity: Mapping[str, Any], reason: str) -> None:
    """Record that the trial cannot start; the counts of earlier attempts at the same work are kept."""
    before = read_record(folder)
    if before is None or before.fingerprint != fingerprint:
        before = TrialRecord(trial=trial, state=State.PENDING, fingerprint=fingerprint, identity=identity)
    write_record(folder, replace(before, state=State.BLOCKED, reason=reason))


def _count(record: TrialRecord, failure: Failure) -> TrialRecord:
    return replace(record, failures={**record.failures, failure: record.failures.get(failure, 0) + 1})
