"""What Ray and Python take around the work, read off trials that have run here: the next plan goes by it."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from raysweep.planning.calibration_cache import keep_overheads, read_overheads
from raysweep.planning.devices import Device
from raysweep.planning.rates import Overheads
from raysweep.scheduling.records import State, TrialRecord, read_record
from raysweep.scheduling.trials import Trial
from raysweep.storage.run_folder import RunFolder

ENOUGH = 4
"""Trials that must have run before anything is learned from them."""


def keep_overheads_of(
    folder: RunFolder, trials: Mapping[str, Trial], device: Device, *, since: float, slots: int, finish_s: float
) -> Overheads | None:
    """Remember what starting a trial took in a run, for plans on this machine.

    Args:
        since: Unix seconds; trials that started before are of an earlier run.
        slots: trials at a time.
        finish_s: of a trial's time that is no start: its model's way to its place.

    Returns:
        What is known now; None if too little ran.
    """
    records = [read_record(folder.trial(name)) for name, trial in trials.items() if trial.settings.search is None]
    ran = [
        record
        for record in records
        if record is not None and record.state is State.DONE and record.attempts == 1 and _start(record) >= since
    ]
    if len(ran) < ENOUGH:
        return None
    overheads = starts_of(ran, read_overheads(device) or Overheads(), slots=slots, finish_s=finish_s)
    keep_overheads(device, overheads)
    return overheads


def starts_of(records: Sequence[TrialRecord], before: Overheads, *, slots: int, finish_s: float) -> Overheads:
    """What lay between a trial's start and its work: of those that started first, and of the later ones."""
    ordered = sorted(records, key=_start)
    seconds = [max(0.0, each.busy_seconds - sum(each.result["seconds"].values()) - finish_s) for each in ordered]
    first, later = seconds[:slots], seconds[slots:]
    return replace(
        before,
        first_trial_start_s=round(statistics.mean(first), 3),
        # The mean, not the median: a sweep's length is their sum.
        trial_start_s=round(statistics.mean(later or first), 3),
    )


def _start(record: TrialRecord) -> float:
    return record.started_at or 0.0
