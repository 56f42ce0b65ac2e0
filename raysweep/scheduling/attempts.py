"""Records the events of each attempt at a training (`trials/<trial>/attempts.jsonl`), and what the attempts cost.

    begin   the sweep holds `slots` for it from now on; `last_written_at`: the time of the last write of a
            training whose command was killed
    start   its worker has started; `kept` are the seconds, by part, in the checkpoint that it resumes from
    end     its worker has ended it; `how`: done, stopped, or the kind of failure
    over    the sweep gives the slots back; `state` as in the trial's record

A missing event is informative too: a worker without an `end` was lost.  Times are Unix seconds.  Slots
are GPUs, or CPU cores if a trial has no GPU; each slot-second is charged to one part:

    useful         steps (and their batches) that are in the model, or in a checkpoint that was resumed
    evaluating     validation of those steps
    checkpointing  saving them
    loading        in the worker, around the steps: imports, building the model, writing it at the end
    starting       before the worker starts and after it ends: Tune, Train, processes
    wasted         steps that were lost and repeated, and all other time of a failed attempt

What a lost attempt saved is known when the next one starts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysweep.storage.clock import unix_seconds
from raysweep.storage.run_folder import CHECKPOINT_RECORD, TrialFolder

Event = Mapping[str, Any]
Seconds = Mapping[str, float]

PARTS = ("useful", "evaluating", "checkpointing", "loading", "starting", "wasted")
_KEPT = {"data": "useful", "step": "useful", "evaluation": "evaluating", "checkpoint": "checkpointing"}
_ORDERLY = {"done", "stopped"}
_FIELDS = {"begin": {"at", "slots", "unit"}, "start": {"at", "kept"}, "end": {"at", "how", "kept"}, "over": {"at"}}
"""What the cost of attempts needs of each event."""


def note(folder: TrialFolder, what: str, *, now: float | None = None, **values: Any) -> None:
    """Append an event in one write, so that the lines of several processes are not interleaved."""
    folder.root.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"what": what, "at": unix_seconds() if now is None else now, **values}) + "\n"
    with folder.attempts.open("a", encoding="utf-8") as file:
        file.write(line)


def read_events(folder: TrialFolder) -> list[Event]:
    """Read all events in order; a line that is damaged, or cut short by a full disk or a kill, is left out."""
    if not folder.attempts.exists():
        return []
    lines = folder.attempts.read_text(encoding="utf-8", errors="replace").splitlines()
    return [event for line in lines if (event := _parse(line)) and _has_fields(event)]


def kept_seconds(folder: TrialFolder) -> dict[str, float]:
    """Return the seconds by part in the newest checkpoint (see `TrainingResult.seconds`); {} without a checkpoint.

    Only its record is read; a damaged checkpoint only makes the figures inexact.
    """
    for path in sorted(folder.checkpoints.glob(f"step-*/{CHECKPOINT_RECORD}"), reverse=True):
        if record := _parse(path.read_text(encoding="utf-8", errors="replace")):
            return dict(record["state"]["seconds"])
    return {}


def last_written_at(folder: TrialFolder) -> float | None:
    """Return the time of the last write to the trial's files; None if there are no files."""
    times = [_modified_at(path) for path in (folder.metrics, folder.log, folder.attempts, folder.result)]
    times += [_modified_at(path) for path in folder.checkpoints.glob("*")]
    return max(times, default=0.0) or None


def slot_seconds(events: Sequence[Event]) -> dict[str, float]:
    """Sum the slot-seconds by part, from a trial's events in order."""
    walk = _Walk()
    for event in events:
        walk.take(event)
    return {part: round(seconds, 3) for part, seconds in walk.close().items()}


@dataclass(slots=True)
class _Walk:
    """Walks through the events, and charges the time between two of them to one part, or divides it."""

    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    slots: float = 1.0
    phase: str = "over"
    since: float = 0.0
    kept: Seconds = field(default_factory=dict)
    """Seconds by part in the checkpoint from which the running attempt started."""
    lost: tuple[float, Seconds] | None = None
    """A lost attempt's seconds and its `kept`; what it saved is known when the next attempt starts."""

    def take(self, event: Event) -> None:
        {"begin": self._begin, "start": self._start, "end": self._end, "over": self._over}[event["what"]](event)

    def close(self) -> dict[str, float]:
        self._settle_lost(self.lost[1] if self.lost else {})
        return self.sums

    def _begin(self, event: Event) -> None:
        if self.phase != "over":
            # Its end is unknown: count it as running until its last write, at most until now.
            written_at = event.get("last_written_at", event.get("last_sign"))  # the name in earlier versions
            self._lose(min(event["at"], written_at or self.since))
        self.slots = float(event["slots"])
        self._enter("begin", event["at"])

    def _start(self, event: Event) -> None:
        if self.phase == "start":
            self._lose(event["at"])
        elif self.phase == "begin":
            self._add("starting", event["at"] - self.since)
        self._settle_lost(event["kept"])
        self.kept = event["kept"]
        self._enter("start", event["at"])

    def _end(self, event: Event) -> None:
        if self.phase != "start":
            return
        rest = event["at"] - self.since - self._keep(self.kept, event["kept"])
        self._add("loading" if event["how"] in _ORDERLY else "wasted", rest)
        self._enter("end", event["at"])

    def _over(self, event: Event) -> None:
        if self.phase == "end":
            self._add("starting", event["at"] - self.since)
        elif self.phase != "over":
            self._lose(event["at"])
        self._enter("over", event["at"])

    def _lose(self, until: float) -> None:
        seconds = max(0.0, until - self.since)
        if self.phase == "start":
            self._settle_lost(self.kept)
            self.lost = (seconds, self.kept)
        else:
            self._add("wasted", seconds)

    def _settle_lost(self, kept: Seconds) -> None:
        if self.lost is not None:
            seconds, before = self.lost
            self.lost = None
            self._add("wasted", seconds - self._keep(before, kept))

    def _keep(self, before: Seconds, after: Seconds) -> float:
        """Charge what a checkpoint, or the model, has gained over the previous one; return the seconds gained."""
        gained = {part: max(0.0, seconds - before.get(part, 0.0)) for part, seconds in after.items()}
        for part, seconds in gained.items():
            self._add(_KEPT.get(part, "useful"), seconds)
        return sum(gained.values())

    def _add(self, part: str, seconds: float) -> None:
        # The clocks of two machines may differ slightly.
        self.sums[part] += max(0.0, seconds) * self.slots

    def _enter(self, phase: str, at: float) -> None:
        self.phase, self.since = phase, at


def _modified_at(path: Path) -> float:
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


def _has_fields(event: Event) -> bool:
    fields = _FIELDS.get(str(event.get("what")))
    return fields is not None and event.keys() >= fields
