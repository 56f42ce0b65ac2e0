"""Estimates how much each level's log ratios vary between learners and between trainings, to plan an experiment."""

from collections.abc import Sequence
from dataclasses import asdict
from math import sqrt

import numpy as np
from scipy.special import chdtri

from raysweep.evidence.evidence_schema import Spread
from raysweep.planning.power import LevelSpread
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.contrasts import Measured, measure
from raysweep.statistics.role_models import RoleModels, lack_of_writers, mean_log_ratio
from raysweep.statistics.seed_variance import SeedVariance, influences_by_seed
from raysweep.statistics.weighted_parts import Part

COMPARED = ("specialised", "transfer")
SURE = 0.8
"""Share of pilots in which the variance between trainings lies below its limit (Browne 1995)."""


def describe_spreads(roles: RoleModels, resamples: Resamples, levels: Sequence[str]) -> tuple[Spread, ...]:
    """Return a row for each level and kind of adapted model; levels with too few writers have none."""
    rows = []
    for other in COMPARED:
        tested = [
            level
            for level in levels
            if roles.of("general", level) and roles.of(other, level) and not lack_of_writers(resamples, level)
        ]
        contrasts = {level: mean_log_ratio("general", other, roles, [level]) for level in tested}
        for level, parts in contrasts.items():
            alike = [contrast for another, contrast in contrasts.items() if another != level]
            measured = measure(resamples, parts, alike)
            learners, trainings, seeds = _variances(resamples, parts, measured)
            spread = LevelSpread(
                level=level,
                other=other,
                learner_spread=sqrt(learners * measured.effective),
                training_spread=sqrt(trainings * measured.effective),
                seed_spread=None if seeds is None else sqrt(seeds),
                prompt_error=sqrt(measured.prompt_variance),
                documents_per_learner=measured.documents / measured.effective,
                learners=round(measured.effective),
            )
            rows.append(Spread(**asdict(spread)))
    return tuple(rows)


def _between(components: Sequence[SeedVariance]) -> float:
    """Return an upper limit of the variance between trainings, since a low estimate from few would mislead a plan."""
    return sum(part.variance * part.count * part.freedom / float(chdtri(part.freedom, SURE)) for part in components)


def _variances(resamples: Resamples, parts: Sequence[Part], measured: Measured) -> tuple[float, float, float | None]:
    """Return a contrast's variance from learners, from learners within single trainings, and between trainings.

    The documents' variance of one training is D, of which all trainings share O.  Trainings differ by their own
    variance and, with this many learners, by D − O.
    """
    seeds = parts[0].seeds
    is_paired = len(seeds) > 1 and all(part.seeds == seeds for part in parts)
    if not is_paired:
        components = measured.sources.seeds
        return measured.document_variance, 0.0, _between(components) if components else None
    of_one = float(np.sum(influences_by_seed(resamples, parts, seeds) ** 2)) / len(seeds)
    shared = min(measured.document_variance, of_one)
    between = _between(measured.sources.seeds)
    return shared, of_one - shared, max(between - (of_one - shared), 0.0)
