"""The placebo's random groups: several draws for each level, which show what chance gains and how much it varies.

The gain of a placebo is the mean over its draws.  Resampling documents tells how much it varies with the test
documents of the groups; how much it varies from group to group (other train documents, another training) is
estimated from the draws, less what their test documents explain, and pooled over the levels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from raysweep.corpus.subsets import choose_subset
from raysweep.scheduling.control_trials import placebo_group
from raysweep.seeding import generator_for
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.contrasts import Measured, measure
from raysweep.statistics.loss_table import LevelLosses
from raysweep.statistics.role_models import RoleModels, draw_role, mean_log_ratio
from raysweep.statistics.seed_variance import SeedVariance
from raysweep.statistics.weighted_parts import Part

PLACEBO = "placebo"
_MOST_DRAWS = 100


def placebo_losses(losses: Mapping[str, LevelLosses], seed: int, draw: int = 1) -> dict[str, LevelLosses]:
    """Divide the scored test documents into random groups, one for each level and of its size, by group name.

    Args:
        losses: all levels, in the order in which the groups are drawn.
        seed: the run's, with which the groups of train documents were drawn too.
    """
    if not losses:
        return {}
    levels = list(losses)
    level_of = np.concatenate([np.full(len(of_level.documents), level) for level, of_level in losses.items()])
    documents, tokens, nats = (
        np.concatenate([getattr(of_level, name) for of_level in losses.values()])
        for name in ("documents", "tokens", "nats")
    )
    groups = {}
    for level in levels:
        chosen = choose_subset(documents, level_of, levels, placebo_group(level, seed, draw))
        rows = np.flatnonzero(np.isin(documents, chosen))
        rows = rows[np.argsort(documents[rows])]
        name = group_name(level, draw)
        groups[name] = LevelLosses(level=name, documents=documents[rows], tokens=tokens[rows], nats=nats[rows])
    return groups


def group_name(level: str, draw: int = 1) -> str:
    """Name of a level's placebo group among the resamples; no level can have this name."""
    return f"~{level}" if draw == 1 else f"~{draw}~{level}"


def draws_of(roles: RoleModels, level: str) -> list[int]:
    """The draws of a level that have a model."""
    return [draw for draw in range(1, _MOST_DRAWS + 1) if roles.of(draw_role(PLACEBO, draw), level)]


def gain_of_draw(roles: RoleModels, levels: Sequence[str], draw: int) -> list[Part]:
    """The gain of one draw's placebos over the general model, on their own groups, averaged over `levels`."""
    parts = mean_log_ratio("general", draw_role(PLACEBO, draw), roles, levels)
    return [replace(part, level=group_name(part.level, draw)) for part in parts]


def mean_gain(roles: RoleModels, levels: Sequence[str]) -> list[Part]:
    """The same, averaged over the draws of each level."""
    return [
        replace(part, weight=part.weight / len(levels) / len(draws))
        for level in levels
        for draws in [draws_of(roles, level)]
        for draw in draws
        for part in gain_of_draw(roles, [level], draw)
    ]


def measure_draws(resamples: Resamples, roles: RoleModels, levels: Sequence[str]) -> list[Measured]:
    """The gain of every draw that has a model on all of `levels`."""
    common = set.intersection(*(set(draws_of(roles, level)) for level in levels))
    return [measure(resamples, gain_of_draw(roles, levels, draw)) for draw in sorted(common)]


def estimate_group_variance(
    resamples: Resamples, roles: RoleModels, levels: Sequence[str], alike: Sequence[str]
) -> tuple[SeedVariance, ...]:
    """How much the mean over the draws of `levels` varies with the groups that were drawn; () with one draw.

    Args:
        alike: levels whose draws tell, with those of `levels`, how much groups differ.
    """
    draws, variances, freedom = 0, [], 0
    for level in dict.fromkeys((*levels, *alike)):
        gains = measure_draws(resamples, roles, [level])
        if len(gains) < 2:
            continue
        draws = max(draws, len(gains))
        between = float(np.var([gain.estimate for gain in gains], ddof=1))
        covariance = np.cov(np.stack([gain.sources.deviations for gain in gains]))
        shared = (covariance.sum() - np.trace(covariance)) / (len(gains) * (len(gains) - 1))
        variances.append(between - float(np.trace(covariance) / len(gains) - shared))
        freedom += len(gains) - 1
    if not variances:
        return ()
    variance = max(float(np.mean(variances)), 0.0) / draws / len(levels)
    rng = generator_for(resamples.seed, "placebo draws", *levels)
    scores = rng.standard_normal(resamples.resamples)
    return (SeedVariance(count=draws, freedom=float(freedom), variance=variance, beside=0.0, scores=scores),)
