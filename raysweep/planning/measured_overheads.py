"""Measures the time that Ray and Python take around the work, on trials that have run on this machine."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from raysweep.planning.calibration_cache import keep_overheads, read_overheads
from raysweep.planning.rates import Overheads
from raysweep.planning.run_forecast import RunForecast
from raysweep.scheduling.records import State, TrialRecord, read_record
from raysweep.scheduling.trials import Trial
from raysweep.storage.run_folder import RunFolder

ENOUGH = 4
"""Minimum number of trials for a measurement."""


def measure_overheads_of_run(
    forecast: RunForecast, folder: RunFolder, trials: Mapping[str, Trial], *, since: float
) -> None:
    """Store, for the next plan, what starting trials took after `since` (Unix seconds), unless too few trials ran."""
    records = [read_record(folder.trial(name)) for name, trial in trials.items() if trial.settings.search is None]
    ran = [
        record
        for record in records
        if record is not None and record.state is State.DONE and record.attempts == 1 and _start(record) >= since
    ]
    if forecast.config.resources.cluster_address is None and len(ran) >= ENOUGH:
        known, slots = read_overheads(forecast.device) or Overheads(), max(1, int(forecast.makespan.slots))
        measured = measure_starts(ran, known, slots=slots, finish_s=forecast.rates.finish_s)
        keep_overheads(forecast.device, measured)


def measure_starts(records: Sequence[TrialRecord], known: Overheads, *, slots: int, finish_s: float) -> Overheads:
    """Replace the two start times in `known` by the means over the trials that started first and over the later ones.

    Args:
        slots: number of simultaneous trials.
        finish_s: part of a trial's time that does not belong to its start: writing its model.
    """
    ordered = sorted(records, key=_start)
    seconds = [max(0.0, record.busy_seconds - sum(record.result["seconds"].values()) - finish_s) for record in ordered]
    first, later = seconds[:slots], seconds[slots:]
    # Means, not medians, because a sweep's length is the sum.
    return replace(
        known,
        first_trial_start_s=round(statistics.mean(first), 3),
        trial_start_s=round(statistics.mean(later or first), 3),
    )


def _start(record: TrialRecord) -> float:
    return record.started_at or 0.0
