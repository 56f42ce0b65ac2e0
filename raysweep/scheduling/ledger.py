"""The ledger: what every second of a GPU, or of a CPU core without GPUs, was used for.

The parts are those of `attempts.py`; `trial.json` has a trial's under `ledger`, in slot-seconds, and
`ledger.json` in the run folder sums them up:

    {"unit": "gpu" | "cpu", "total": {part: slot_seconds}, "searches": {trial: {part: …}}, "trials": {trial: {
        "unit", "slots", "attempts", "failures": {kind: count}, "seconds": {part: slot_seconds}}}}

With sequential seeds there is also `saved`: the `trials` that no claim needed, and the slot-`seconds` that they would
have taken, estimated from the other seeds of their entries.

A trial with a search counts the search's samples; `searches` repeats their sum.  In a run with trials on
both GPUs and CPUs, `unit` is "mixed", and `total` adds seconds that are not comparable.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from raysweep.scheduling.attempts import PARTS, Event, Seconds, read_events, slot_seconds
from raysweep.scheduling.records import read_record
from raysweep.storage.atomic_files import write_json
from raysweep.storage.run_folder import RunFolder, TrialFolder


def collect_ledger(folder: RunFolder, trials: Sequence[str]) -> dict[str, Any]:
    """Compute the ledger of a run, with the trials that have begun."""
    entries, searches = {}, {}
    for name in trials:
        own, samples = folder.trial(name), folder.trial(name).samples()
        if not samples and not own.attempts.exists():
            continue
        # The node that gathers a search holds no slots itself.
        entries[name] = _entry(own, [read_events(sample) for sample in samples or [own]])
        if samples:
            searches[name] = entries[name]["seconds"]
    units = {entry["unit"] for entry in entries.values()}
    return {
        "unit": units.pop() if len(units) == 1 else "mixed" if units else "cpu",
        "total": _sum([entry["seconds"] for entry in entries.values()]),
        "searches": searches,
        "trials": entries,
    }


def write_ledger(
    folder: RunFolder, trials: Sequence[str], spared: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """Compute the current ledger and write it.

    Args:
        spared: trials that sequential seeds did not need, each with the other trainings of its entry.
    """
    ledger = collect_ledger(folder, trials)
    if spared:
        ledger["saved"] = {"trials": list(spared), "seconds": round(_saved_seconds(ledger["trials"], spared), 3)}
    write_json(folder.ledger, ledger)
    return ledger


def _saved_seconds(entries: Mapping[str, Any], spared: Mapping[str, Sequence[str]]) -> float:
    """Estimate what these trials would have taken: each the mean of its entry's other trials."""
    total = 0.0
    for others in spared.values():
        known = [sum(entries[name]["seconds"].values()) for name in others if name in entries]
        total += sum(known) / len(known) if known else 0.0
    return total


def _entry(folder: TrialFolder, parts: Sequence[Sequence[Event]]) -> dict[str, Any]:
    begins = [event for events in parts for event in events if event["what"] == "begin"]
    record = read_record(folder)
    return {
        "unit": begins[-1]["unit"] if begins else "cpu",
        "slots": begins[-1]["slots"] if begins else 0.0,
        "attempts": len(begins),
        "failures": dict(record.failures) if record else {},
        "seconds": _sum([slot_seconds(events) for events in parts]),
    }


def _sum(seconds: Sequence[Seconds]) -> dict[str, float]:
    return {part: round(sum(each[part] for each in seconds), 3) for part in PARTS}
