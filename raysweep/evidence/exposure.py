"""Counts how many examples of each level a model has seen, and gives its perplexity there.

Levels differ in size and models in steps, so a level's own model may be better only because it saw more of the
level.  Examples are counted up to the step whose weights were kept, including those of the parents.  The
batches are random, so an unfinished epoch is counted by each level's share of the training's examples.
"""

from collections.abc import Mapping, Sequence

from raysweep.evidence.robustness_schema import Row
from raysweep.evidence.run_schema import Exposure
from raysweep.scheduling.records import TrialRecord
from raysweep.scheduling.trials import Trial


def describe_exposure(
    rows: Sequence[Row], trials: Mapping[str, Trial], records: Mapping[str, TrialRecord | None]
) -> tuple[Exposure, ...]:
    """Return a row per entry and level; entries trained by an earlier version, which did not count, are left out."""
    exposures = []
    for row in rows:
        models = [trials[model] for model in row.models if model in trials]
        seen = [counts for model in models if (counts := _seen(model, trials, records)) is not None]
        if not models or len(seen) < len(models):
            continue
        for level, perplexity in row.cells.items():
            examples = sum(by_level.get(level, 0.0) for by_level in seen) / len(seen)
            everything = sum(sum(by_level.values()) for by_level in seen) / len(seen)
            exposures.append(
                Exposure(
                    entry=row.name,
                    role=row.role,
                    level=level,
                    is_own=row.level in (None, level),
                    examples=examples,
                    all_examples=everything,
                    perplexity=perplexity,
                )
            )
    return tuple(exposures)


def _seen(
    trial: Trial, trials: Mapping[str, Trial], records: Mapping[str, TrialRecord | None]
) -> dict[str, float] | None:
    """Count the examples of each level that a trial's model and its parents have seen; None if not recorded."""
    record = records[trial.name]
    result = dict(record.result) if record is not None else {}
    pool: Mapping[str, int] = result.get("pool") or {}
    if not pool or not result.get("steps") or not result.get("examples"):
        return None
    kept = result["examples"] * result["best_step"] / result["steps"]
    seen = {level: kept * count / sum(pool.values()) for level, count in pool.items()}
    if trial.parent is None:
        return seen
    before = _seen(trials[trial.parent], trials, records)
    if before is None:
        return None
    return {level: seen.get(level, 0.0) + before.get(level, 0.0) for level in {**before, **seen}}
