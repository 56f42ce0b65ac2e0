"""What became of each attempt at a training, event by event: `trials/<trial>/attempts.jsonl`.

    begin   whoever starts it holds `slots` for it from now on; `last_sign`: when a training whose
            command was killed was last seen to write something
    start   its worker is there; `kept` are the seconds, by part, in the checkpoint it goes on from
    end     its worker has ended it; `how`: done, stopped, or the kind of failure
    over    whoever started it gives the slots back; `state` as in the trial's record

An event that is missing tells something too: a worker without an `end` was lost.  `ledger.py` makes
the account of it.  Times are Unix seconds; slots are GPUs, or CPU cores where a trial has no GPU.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysweep.storage.run_folder import TrialFolder

Event = Mapping[str, Any]


def note(folder: TrialFolder, what: str, *, now: float | None = None, **values: Any) -> None:
    """Add an event; a line at a time, so that the processes that write do not tear each other's."""
    folder.root.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"what": what, "at": time.time() if now is None else now, **values}) + "\n"
    with folder.attempts.open("a", encoding="utf-8") as file:
        file.write(line)


def read_events(folder: TrialFolder) -> list[Event]:
    """All events in order; a line torn by a full disk or a kill is left out."""
    if not folder.attempts.exists():
        return []
    return [event for line in folder.attempts.read_text(encoding="utf-8").splitlines() if (event := _parse(line))]


def kept_seconds(folder: TrialFolder) -> dict[str, float]:
    """The seconds by part that the newest checkpoint counts (see `TrainingResult.seconds`); {} without one.

    Only its record is read.  A damaged checkpoint makes the account inexact and nothing else.
    """
    for path in sorted(folder.checkpoints.glob("step-*/checkpoint.json"), reverse=True):
        if record := _parse(path.read_text(encoding="utf-8", errors="replace")):
            return dict(record["state"]["seconds"])
    return {}


def last_sign(folder: TrialFolder) -> float | None:
    """When anything of the trial was last written; None if there is nothing."""
    times = [_changed(path) for path in (folder.metrics, folder.log, folder.attempts, folder.result)]
    times += [_changed(path) for path in folder.checkpoints.glob("*")]
    return max(times, default=0.0) or None


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _parse(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
