"""How a new learner of unknown level is served, as plain values: by way, level and length of the visible text.

For each family of five models (those trained on a level alone, and the fine-tuned ones) that has a
model for two levels or more.  Perplexities are of the answers of each document's first mask, seen by
the ways of `statistics.level_posterior`; over all levels they are geometric means, every level with the
same weight, and by length they are over all tokens of the group.  Of several seeds the first is taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np
import numpy.typing as npt

from raysweep.evidence.lineup import Entrant
from raysweep.statistics.bootstrap import Resamples, resample_levels
from raysweep.statistics.contrasts import Measured, Part, measure
from raysweep.statistics.hypotheses import MIN_CLUSTERS
from raysweep.statistics.level_posterior import WAYS, ColdStart, meet_new_learners
from raysweep.statistics.loss_table import LevelLosses, LossTable

FAMILIES = ("specialised", "transfer")
LENGTHS = (0, 1, 25, 50, 100, 200)
"""The least number of visible tokens of each group; the first group has none."""
LONG = 50
_OVERFLOW = 700.0

Values = dict[str, Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Draws:
    """How the bootstrap is to draw."""

    resamples: int
    seed: int
    confidence: float
    clusters: Mapping[int, str]


def describe_cold_start(
    table: LossTable, entrants: Sequence[Entrant], levels: Sequence[str], shares: Mapping[str, float], draws: Draws
) -> list[Values]:
    """One entry per family; none where no family has two levels' models, or the scores hold no first masks.

    Args:
        shares: training documents of each level; levels that it lacks count as 1.
    """
    general = next((_first(one) for one in entrants if one.role == "general" and one.models), None)
    found = []
    for family in FAMILIES:
        models = {one.level: _first(one) for one in entrants if one.role == family and one.models}
        experts = {level: models[level] for level in levels if level in models}
        weights = {level: max(float(shares.get(level, 1.0)), 1.0) for level in levels}
        met = meet_new_learners(table, experts, general, weights) if len(experts) > 1 else None
        if met is not None:
            found.append({"family": family, "experts": experts, "shares": weights, **_describe(met, draws)})
    return found


def _first(entrant: Entrant) -> str:
    return entrant.models[min(entrant.models)]


def _describe(met: ColdStart, draws: Draws) -> Values:
    names = [way for way in WAYS if way in met.nats]
    by_level = {level: met.truth == place for place, level in enumerate(met.levels)}
    by_length = _lengths(met)
    groups = {name: mask for name, mask in {**by_level, **by_length}.items() if mask.any()}
    resamples = _resample(met, groups, names, draws)
    right = _resample_right(met, groups, draws)
    levels = [level for level in by_level if level in groups]
    return {
        "levels": list(met.levels),
        "documents": len(met.documents),
        "unseen": int((~met.is_seen).sum()),
        "ways": names,
        "overall": {"documents": len(met.documents), **_ways(resamples, levels, names, draws)},
        "by_level": [_group(met, groups, name, resamples, right, names, draws) for name in levels],
        "by_length": [
            _group(met, groups, name, resamples, right, names, draws) for name in by_length if name in groups
        ],
        "accuracy": _accuracy(met.is_right[met.is_seen], right, "all", draws),
        "accuracy_long": _accuracy(met.is_right[met.visible_tokens >= LONG], right, "long", draws),
        "long": LONG,
        "long_documents": int((met.visible_tokens >= LONG).sum()),
        "confusion": met.confusion().tolist(),
        "mean_weight_of_truth": float(met.posterior[np.arange(len(met.truth)), met.truth].mean()),
    }


def _lengths(met: ColdStart) -> dict[str, Mask]:
    groups: dict[str, Mask] = {}
    for place, least in enumerate(LENGTHS):
        above = LENGTHS[place + 1] if place + 1 < len(LENGTHS) else None
        name = "no" if least == 0 else f"{least} or more" if above is None else f"{least} to {above - 1}"
        mask: Mask = met.visible_tokens >= least
        groups[name] = mask if above is None else mask & (met.visible_tokens < above)
    return groups


def _resample(met: ColdStart, groups: Mapping[str, Mask], names: Sequence[str], draws: Draws) -> Resamples:
    """Nats of the answers, a column per way."""
    nats_DW = np.stack([met.nats[name] for name in names], axis=1)
    losses = {
        group: LevelLosses(
            level=group, documents=met.documents[mask], tokens=met.answer_tokens[mask], nats=nats_DW[mask]
        )
        for group, mask in groups.items()
    }
    return resample_levels(losses, names, resamples=draws.resamples, seed=draws.seed, clusters=draws.clusters)


def _resample_right(met: ColdStart, groups: Mapping[str, Mask], draws: Draws) -> Resamples:
    """Whether the level was found, of documents with visible text: a document's 'loss' is 1 if it was."""
    wanted = {**groups, "all": met.is_seen, "long": met.visible_tokens >= LONG}
    seen = {group: mask & met.is_seen for group, mask in wanted.items()}
    losses = {
        group: LevelLosses(
            level=group,
            documents=met.documents[mask],
            tokens=np.ones(int(mask.sum()), dtype=np.int64),
            nats=met.is_right[mask].astype(np.float64)[:, None],
        )
        for group, mask in seen.items()
        if mask.any()
    }
    return resample_levels(losses, ["right"], resamples=draws.resamples, seed=draws.seed, clusters=draws.clusters)


def _group(
    met: ColdStart,
    groups: Mapping[str, Mask],
    name: str,
    resamples: Resamples,
    right: Resamples,
    names: Sequence[str],
    draws: Draws,
) -> Values:
    mask = groups[name]
    return {
        "name": name,
        "documents": int(mask.sum()),
        "accuracy": _accuracy(met.is_right[mask & met.is_seen], right, name, draws),
        **_ways(resamples, [name], names, draws),
    }


def _ways(resamples: Resamples, groups: Sequence[str], names: Sequence[str], draws: Draws) -> Values:
    """Every way's perplexity, and its ratio to the oracle's and to the general model's."""
    return {
        "perplexity": {name: _ratio(resamples, groups, name, None, draws) for name in names},
        "over_oracle": {name: _ratio(resamples, groups, name, "oracle", draws) for name in names if name != "oracle"},
        "over_general": {
            name: _ratio(resamples, groups, name, "general", draws)
            for name in names
            if "general" in names and name != "general"
        },
    }


def _ratio(resamples: Resamples, groups: Sequence[str], above: str, below: str | None, draws: Draws) -> Values:
    share = 1.0 / len(groups)
    parts = [Part(weight=share, level=group, models={0: above}) for group in groups]
    if below is not None:
        parts += [Part(weight=-share, level=group, models={0: below}) for group in groups]
    measured = measure(resamples, parts)
    low, high = _limits(resamples, groups, measured, draws)
    return {
        "value": exp(min(measured.estimate, _OVERFLOW)),
        "low": None if low is None else exp(min(low, _OVERFLOW)),
        "high": None if high is None else exp(min(high, _OVERFLOW)),
    }


def _accuracy(is_right: Mask, right: Resamples, group: str, draws: Draws) -> Values | None:
    """Share of levels found, with its interval; where all or none are found, the exact one of as many writers."""
    if not len(is_right):
        return None
    measured = measure(right, [Part(weight=1.0, level=group, models={0: "right"})])
    low, high = _limits(right, [group], measured, draws)
    if low is not None and high is not None and (is_right.all() or not is_right.any()):
        # Every draw is the same, which says nothing; Clopper and Pearson's limit does.
        edge = ((1.0 - draws.confidence) / 2.0) ** (1.0 / right.levels[group].clusters)
        low, high = (edge, 1.0) if is_right.all() else (0.0, 1.0 - edge)
    return {
        "value": float(is_right.mean()),
        "low": None if low is None else max(0.0, low),
        "high": None if high is None else min(1.0, high),
        "documents": len(is_right),
    }


def _limits(
    resamples: Resamples, groups: Sequence[str], measured: Measured, draws: Draws
) -> tuple[float | None, float | None]:
    if any(resamples.levels[group].clusters < MIN_CLUSTERS for group in groups):
        return None, None
    return measured.interval(draws.confidence)
