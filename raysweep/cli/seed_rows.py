"""Groups trials into rows: if there are too many for a row each, the seeds of an entry share one."""

from collections import Counter
from collections.abc import Iterable, Mapping

from raysweep.scheduling.trials import Trial

MOST_ROWS = 60
"""Maximum number of trials that get a row each."""


def rows_of(trials: Mapping[str, Trial]) -> dict[str, list[str]]:
    """Return the names of the trials in each row: one trial per row, or all seeds of an entry in one."""
    if len(trials) <= MOST_ROWS:
        return {name: [name] for name in trials}
    rows: dict[str, list[str]] = {}
    for name, trial in trials.items():
        rows.setdefault(trial.entry, []).append(name)
    return rows


def label_of(row: str, names: list[str]) -> str:
    """Return the row's name, with the number of its seeds if there are several."""
    return f"{row} ({len(names)} seeds)" if len(names) > 1 else row


def count_words(words: Iterable[str]) -> str:
    """Count each word, in order of first occurrence: '20 pending, 3 done'; return a single word without a count."""
    counts = Counter(words)
    if sum(counts.values()) == 1:
        return next(iter(counts))
    return ", ".join(f"{count:,} {word}" for word, count in counts.items())
