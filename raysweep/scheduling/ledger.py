"""The ledger: what every second of a GPU (without one: of a CPU core) went into.

The parts are those of `account.py`; `trial.json` has a trial's under `ledger`, in slot-seconds, and
`ledger.json` in the run folder sums them up:

    {"unit": "gpu" | "cpu", "total": {part: slot_seconds}, "searches": {trial: {part: …}}, "trials": {trial: {
        "unit", "slots", "attempts", "failures": {kind: count}, "seconds": {part: slot_seconds}}}}

A trial with a search counts the search's samples among its own; `searches` has their sum apart.  Of a
run that has trials of both kinds, `unit` is "mixed" and `total` adds up what does not compare.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from raysweep.scheduling.account import PARTS, account
from raysweep.scheduling.attempts import Event, read_events
from raysweep.scheduling.records import read_record
from raysweep.storage.atomic_files import write_json
from raysweep.storage.run_folder import RunFolder, TrialFolder

Seconds = Mapping[str, float]


def collect_ledger(folder: RunFolder, trials: Sequence[str]) -> dict[str, Any]:
    """The ledger of a run, of the trials that were begun."""
    entries, searches = {}, {}
    for name in trials:
        own, samples = folder.trial(name), folder.trial(name).samples()
        if not samples and not own.attempts.exists():
            continue
        if samples:
            searches[name] = add_up([account(read_events(each)) for each in samples])
        # The node that gathers a search holds nothing itself.
        parts = [read_events(each) for each in samples or [own]]
        entries[name] = _entry(own, parts)
    units = {entry["unit"] for entry in entries.values()}
    return {
        "unit": units.pop() if len(units) == 1 else "mixed" if units else "cpu",
        "total": add_up([entry["seconds"] for entry in entries.values()]),
        "searches": searches,
        "trials": entries,
    }


def write_ledger(folder: RunFolder, trials: Sequence[str]) -> dict[str, Any]:
    """Put the ledger in place as it stands now."""
    ledger = collect_ledger(folder, trials)
    write_json(folder.ledger, ledger)
    return ledger


def add_up(accounts: Sequence[Seconds]) -> dict[str, float]:
    """The sum, part by part."""
    return {part: round(sum(each[part] for each in accounts), 3) for part in PARTS}


def _entry(folder: TrialFolder, parts: Sequence[Sequence[Event]]) -> dict[str, Any]:
    begins = [event for events in parts for event in events if event["what"] == "begin"]
    record = read_record(folder)
    return {
        "unit": begins[-1]["unit"] if begins else "cpu",
        "slots": begins[-1]["slots"] if begins else 0.0,
        "attempts": len(begins),
        "failures": dict(record.failures) if record else {},
        "seconds": add_up([account(events) for events in parts]),
    }
