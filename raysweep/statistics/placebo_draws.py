"""The placebo's random groups: several draws for each level, which show what chance gains and how much it varies.

The gain of a placebo is the mean over its draws.  Resampling documents shows how much it varies with the test
documents of the groups.  How much it varies from group to group (other train documents, another training) is
estimated from the draws, minus what their test documents and single trainings explain, and pooled over the levels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from raysweep.corpus.subsets import choose_subset
from raysweep.scheduling.control_trials import placebo_group
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.contrasts import Measured, learner_influences, measure
from raysweep.statistics.loss_table import Floats, LevelLosses
from raysweep.statistics.role_models import RoleModels, draw_role, mean_log_ratio
from raysweep.statistics.seed_variance import SeedVariance, draw_order, gains_by_seed, influences_by_seed, seeds_of
from raysweep.statistics.weighted_parts import Part, weigh_models, weighted_sum

PLACEBO = "placebo"
_MOST_DRAWS = 100


def placebo_losses(losses: Mapping[str, LevelLosses], seed: int, draw: int = 1) -> dict[str, LevelLosses]:
    """Divide the scored test documents into random groups, one per level and of its size, by group name.

    Args:
        losses: all levels, in the order in which the groups are drawn.
        seed: the run's seed, with which the groups of train documents were drawn too.
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
    """Name a level's placebo group among the resamples; no level can have this name."""
    return f"~{level}" if draw == 1 else f"~{draw}~{level}"


def draws_of(roles: RoleModels, level: str) -> list[int]:
    """List the draws of a level that have a model."""
    return [draw for draw in range(1, _MOST_DRAWS + 1) if roles.of(draw_role(PLACEBO, draw), level)]


def gain_of_draw(roles: RoleModels, levels: Sequence[str], draw: int) -> list[Part]:
    """Return the gain of one draw's placebos over the general model, on their own groups, averaged over `levels`."""
    parts = mean_log_ratio("general", draw_role(PLACEBO, draw), roles, levels)
    return [replace(part, level=group_name(part.level, draw)) for part in parts]


def mean_gain(roles: RoleModels, levels: Sequence[str]) -> list[Part]:
    """Return the same contrast averaged over the draws of each level."""
    return [
        replace(part, weight=part.weight / len(levels) / len(draws))
        for level in levels
        for draws in [draws_of(roles, level)]
        for draw in draws
        for part in gain_of_draw(roles, [level], draw)
    ]


def measure_draws(resamples: Resamples, roles: RoleModels, levels: Sequence[str]) -> list[Measured]:
    """Measure the gain of every draw that has a model on all of `levels`."""
    common = set.intersection(*(set(draws_of(roles, level)) for level in levels))
    return [measure(resamples, gain_of_draw(roles, levels, draw)) for draw in sorted(common)]


def estimate_group_variance(
    resamples: Resamples, roles: RoleModels, levels: Sequence[str], alike: Sequence[str]
) -> tuple[SeedVariance, ...]:
    """Estimate how much the mean over the draws of `levels` varies with the drawn groups; () with one draw.

    Args:
        alike: levels whose draws also contribute to the estimate.
    """
    gains = {
        level: [gain_of_draw(roles, [level], draw) for draw in draws_of(roles, level)]
        for level in dict.fromkeys((*levels, *alike))
    }
    several = [of_level for of_level in gains.values() if len(of_level) > 1]
    if not several:
        return ()
    between = max(float(np.mean([_between_groups(resamples, of_level) for of_level in several])), 0.0)
    component = SeedVariance(
        count=max(map(len, several)),
        freedom=float(sum(len(of_level) - 1 for of_level in several)),
        variance=between * sum(1.0 / len(gains[level]) for level in levels) / len(levels) ** 2,
        beside=0.0,
        order=draw_order(resamples.resamples, resamples.seed, "placebo draws", *levels),
    )
    return (component,)


def _between_groups(resamples: Resamples, gains: Sequence[Sequence[Part]]) -> float:
    """Estimate the variance between the gains of D draws that neither their documents nor single trainings explain.

    There are two factors, draws and seeds.  The mean over S seeds differs from draw to draw by the draw itself and by
    1/S of what each training adds; `seed_variance.py` already counts the latter, which is estimated here from what
    neither draw nor seed explains.  Documents contribute to both in the same way, learner by learner.
    """

    def between(values: Floats) -> float:
        return float(np.sum(np.var(values, axis=-1, ddof=1)))

    estimates_D = np.array([_estimate(resamples, parts) for parts in gains])
    influences_CD = np.stack([learner_influences(resamples, parts) for parts in gains], axis=1)
    variance = between(estimates_D) - between(influences_CD)
    for seeds in sorted(set.intersection(*(set(seeds_of(parts)) for parts in gains))):
        if len(seeds) > 1:
            by_training_DS = np.stack([gains_by_seed(resamples, parts, seeds) for parts in gains])
            by_learner_CDS = np.stack([influences_by_seed(resamples, parts, seeds) for parts in gains], axis=1)
            variance -= (_crossed(by_training_DS) - _crossed(by_learner_CDS)) / len(seeds)
    return variance


def _estimate(resamples: Resamples, parts: Sequence[Part]) -> float:
    (group,) = {part.level for part in parts}
    return float(weighted_sum(resamples.levels[group].estimates, weigh_models(resamples, parts)))


def _crossed(values: Floats) -> float:
    """Return the mean square of (…, D, S) values that neither row nor column explains, summed over the other axes."""
    rows, columns = values.mean(axis=-1, keepdims=True), values.mean(axis=-2, keepdims=True)
    rest = values - rows - columns + values.mean(axis=(-2, -1), keepdims=True)
    return float(np.sum(rest**2) / ((values.shape[-2] - 1) * (values.shape[-1] - 1)))
