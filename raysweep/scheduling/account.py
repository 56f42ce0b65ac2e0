"""The account of one trial: each second that it held its slots falls to one part.  Pure.

A slot-second is one GPU, or one CPU core of a trial without a GPU, held for a second:

    useful         steps (and their batches) that are in the model, or in a checkpoint gone on from
    evaluating     validation of those steps
    checkpointing  saving them
    loading        in the worker, around the steps: imports, building the model, writing it at the end
    starting       until the worker is there, and after it: Tune, Train, processes
    wasted         steps that were lost and done again, and all else of an attempt that came to nothing

An attempt that was lost left what its last checkpoint holds, which is known when the next one starts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from raysweep.scheduling.attempts import Event

PARTS = ("useful", "evaluating", "checkpointing", "loading", "starting", "wasted")
_KEPT = {"data": "useful", "step": "useful", "evaluation": "evaluating", "checkpoint": "checkpointing"}
_ORDERLY = {"done", "stopped"}

Seconds = Mapping[str, float]


def account(events: Sequence[Event]) -> dict[str, float]:
    """Slot-seconds by part, of a trial's events in order."""
    walk = _Walk()
    for event in events:
        walk.take(event)
    return {part: round(seconds, 3) for part, seconds in walk.close().items()}


@dataclass(slots=True)
class _Walk:
    """Goes through the events; each stretch between two of them falls to one part, or is taken apart."""

    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    slots: float = 1.0
    phase: str = "over"
    since: float = 0.0
    kept: Seconds = field(default_factory=dict)
    """In the checkpoint that the running attempt started from."""
    lost: tuple[float, Seconds] | None = None
    """A lost attempt's seconds and its `kept`: what it left is known when the next one starts."""

    def take(self, event: Event) -> None:
        {"begin": self._begin, "start": self._start, "end": self._end, "over": self._over}[event["what"]](event)

    def close(self) -> dict[str, float]:
        self._settle_lost(self.lost[1] if self.lost else {})
        return self.sums

    def _begin(self, event: Event) -> None:
        if self.phase != "over":
            # Nobody saw its end.  It lasted until it was last seen to write, at most until now.
            self._lose(min(event["at"], event["last_sign"] or self.since))
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
        """Count what a checkpoint, or the model, has more than the one before; returns its seconds."""
        gained = {part: max(0.0, seconds - before.get(part, 0.0)) for part, seconds in after.items()}
        for part, seconds in gained.items():
            self._add(_KEPT.get(part, "useful"), seconds)
        return sum(gained.values())

    def _add(self, part: str, seconds: float) -> None:
        # Clocks of two machines may differ by a moment.
        self.sums[part] += max(0.0, seconds) * self.slots

    def _enter(self, phase: str, at: float) -> None:
        self.phase, self.since = phase, at
