"""Where a run stands, read from its records: the same from the running process, another terminal, or after a crash."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.pipeline.lock import is_locked
from raysweep.scheduling.records import State, TrialRecord, read_record
from raysweep.scheduling.trials import Trial
from raysweep.store import RunFolder

TAIL_BYTES = 1 << 15


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialStatus:
    """One row of the view."""

    trial: str
    state: State
    step: int
    steps: int
    """Asked for."""
    loss: float | None
    """Training loss of the latest step: nats per token of the answers plus those of the context."""
    tokens_per_second: float | None
    """Real tokens, over the latest lines of the metrics."""
    seconds_left: float | None
    busy_seconds: float
    reason: str


def read_status(folder: RunFolder, trials: Mapping[str, Trial], *, now: float | None = None) -> list[TrialStatus]:
    """Every trial's state; a running one whose process is gone is shown as stopped."""
    alive = is_locked(folder)
    return [
        _status_of(trial, read_record(folder.trial(name)), folder.trial(name).metrics, alive, now or time.time())
        for name, trial in trials.items()
    ]


def _status_of(trial: Trial, record: TrialRecord | None, metrics: Path, alive: bool, now: float) -> TrialStatus:
    state, reason = (record.state, record.reason) if record else (State.PENDING, "")
    busy = record.busy_seconds if record else 0.0
    if state is State.RUNNING:
        if alive:
            busy += now - (record.started_at if record and record.started_at else now)
        else:
            state, reason = State.STOPPED, "its process is gone; run again to go on"
    lines = [line for line in _last_lines(metrics) if "loss" in line] if state is not State.PENDING else []
    step = int(lines[-1]["step"]) if lines else 0
    rate = _rate(lines, "tokens")
    pace = _rate(lines, "step") if len(lines) > 1 else None
    running = state is State.RUNNING
    return TrialStatus(
        trial=trial.name,
        state=state,
        step=step,
        steps=trial.settings.steps,
        loss=float(lines[-1]["loss"]) if lines else None,
        tokens_per_second=rate if running else None,
        seconds_left=(trial.settings.steps - step) / pace if running and pace else None,
        busy_seconds=busy,
        reason=reason,
    )


def _rate(lines: list[dict[str, Any]], what: str) -> float | None:
    """Steps, or tokens, per second over the lines' own clock."""
    if len(lines) < 2:
        return None
    seconds = float(lines[-1]["time"]) - float(lines[0]["time"])
    if seconds <= 0:
        return None
    if what == "step":
        return (int(lines[-1]["step"]) - int(lines[0]["step"])) / seconds
    return sum(float(line[what]) for line in lines[1:]) / seconds


def _last_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines in the file's last 32 KiB; a torn one at either end is left out."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(0, 2)
        size = file.tell()
        file.seek(max(0, size - TAIL_BYTES))
        pieces = file.read().split(b"\n")
    if size > TAIL_BYTES:
        pieces = pieces[1:]
    return [json.loads(piece) for piece in pieces[:-1] if piece]
