"""What the losses say, as plain values: the matrix, gains, gaps, transfer, kinds of mask, first languages.

Every ratio comes with the interval of the bootstrap; a level with too few writers has a value and
no interval.  Perplexities of entries with several seeds are geometric means over the seeds.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import exp
from typing import Any

import numpy as np

from raysweep.evidence.lineup import Entrant
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.contrasts import Part, measure
from raysweep.statistics.hypotheses import MIN_CLUSTERS
from raysweep.statistics.loss_table import KINDS, LevelLosses, LossTable

LANGUAGES_SHOWN = 12
LENGTHS = (0, 200, 400, 800, 1600)
"""Characters from which a group of texts begins."""
_SERVING = ("start", "general", "specialised", "transfer")
_OVERFLOW = 700.0
"""exp of more nats per token is no number any more; a model that bad is bad enough."""

Values = dict[str, Any]


class Scores:
    """Answers questions about one set of resamples."""

    def __init__(
        self, entrants: Sequence[Entrant], levels: Sequence[str], resamples: Resamples, confidence: float
    ) -> None:
        self.entrants = [entrant for entrant in entrants if entrant.models]
        self.all_entrants = entrants
        self.levels = [level for level in levels if level in resamples.levels]
        self.resamples = resamples
        self.confidence = confidence

    def matrix(self) -> list[Values]:
        """A row per entry, a cell per level: perplexity with its interval."""
        return [
            {
                "name": entrant.name,
                "role": entrant.role,
                "level": entrant.level,
                "models": list(entrant.models.values()),
                "reason": entrant.reason,
                "missing": dict(entrant.missing),
                "cells": {level: self._ratio([_part(1.0, level, entrant)]) for level in self.levels}
                if entrant.models
                else {},
            }
            for entrant in self.all_entrants
        ]

    def sizes(self) -> Values:
        """Documents, clusters and tokens that each level's column rests on."""
        return {
            level: {"documents": drawn.documents, "clusters": drawn.clusters, "tokens": drawn.tokens}
            for level, drawn in self.resamples.levels.items()
        }

    def gains(self) -> list[Values]:
        """Per level: PPL(general) / PPL(specialised), the plan's specialisation gain, and transfer against both."""
        pairs = {
            "specialised": ("general", "specialised"),
            "transfer_over_general": ("general", "transfer"),
            "transfer_over_specialised": ("specialised", "transfer"),
        }
        return [
            {"level": level, **{name: self._role_ratio(*pair, level) for name, pair in pairs.items()}}
            for level in self.levels
        ]

    def gaps(self) -> list[Values]:
        """Per specialised model X: its other levels against its own, and the other levels' models on X's texts.

        The first compares levels of different difficulty; the second keeps the texts and changes the model.
        """
        rows = []
        for level in self.levels:
            own = self._player("specialised", level)
            others = [other for other in self.levels if other != level]
            strangers = [one for one in (self._player("specialised", other) for other in others) if one]
            if own is None or not others:
                continue
            share = 1.0 / len(others)
            away = [_part(share, other, own) for other in others]
            wrong = [_part(1.0 / len(strangers), level, stranger) for stranger in strangers]
            rows.append(
                {
                    "level": level,
                    "model": own.name,
                    "own": self._ratio([_part(1.0, level, own)]),
                    "others": self._ratio(away),
                    "gap": self._ratio([*away, _part(-1.0, level, own)]),
                    "wrong_model": self._ratio([*wrong, _part(-1.0, level, own)]) if strangers else None,
                }
            )
        return rows

    def common_levels(self) -> list[str]:
        """Levels on which every role that plays at all has a model: where the ways can be compared."""
        roles = {one.role for one in self.entrants} & set(_SERVING)
        return [level for level in self.levels if all(self._player(role, level) for role in roles)]

    def strategies(self) -> list[Values]:
        """Ways to serve the common levels: perplexity (geometric mean over levels) and the entries it takes."""
        levels = self.common_levels()
        ways = {role: [self._player(role, level) for level in levels] for role in _SERVING}
        return [
            self._strategy(role, levels, [player for player in players if player])
            for role, players in ways.items()
            if levels and all(players)
        ]

    def for_everyone(self) -> list[Values]:
        """Every single model on all levels, as if the level were not known; the best first."""
        rows = [
            self._strategy(one.name, self.levels, [one] * len(self.levels))
            for one in self.entrants
            if one.role != "start" and self.levels
        ]
        return sorted(rows, key=lambda row: float(row["perplexity"]["value"]))

    def _strategy(self, name: str, levels: Sequence[str], players: Sequence[Entrant]) -> Values:
        share = 1.0 / len(levels)
        parts = [_part(share, level, one) for level, one in zip(levels, players, strict=True)]
        entries = list(dict.fromkeys(one.name for one in players))
        return {"name": name, "entries": entries, "levels": list(levels), "perplexity": self._ratio(parts)}

    def _role_ratio(self, numerator: str, denominator: str, level: str) -> Values | None:
        above, below = self._player(numerator, level), self._player(denominator, level)
        if above is None or below is None:
            return None
        return self._ratio([_part(1.0, level, above), _part(-1.0, level, below)])

    def _player(self, role: str, level: str | None) -> Entrant | None:
        wanted = None if role in ("general", "start") else level
        return next((one for one in self.entrants if (one.role, one.level) == (role, wanted)), None)

    def _ratio(self, parts: Sequence[Part]) -> Values:
        """exp of a contrast, with its limits where there are writers enough."""
        found = measure(self.resamples, parts)
        value: Values = {"value": _exp(found.estimate), "low": None, "high": None}
        if all(self.resamples.levels[part.level].clusters >= MIN_CLUSTERS for part in parts):
            value["low"], value["high"] = (_exp(limit) for limit in found.interval(self.confidence))
        return value


def kinds_of_mask(table: LossTable, metric: str, entrants: Sequence[Entrant], levels: Sequence[str]) -> list[Values]:
    """Perplexities per kind of mask, all levels' tokens together, each level by its role's model.

    The context has no kind; for it the kinds' infilling losses are shown.
    """
    rows = []
    for kind in KINDS:
        found = table.select("infill" if metric == "context" else metric, kind)
        losses = {level: found[level] for level in levels if level in found}
        if losses:
            rows.append({"kind": kind, **_by_role(losses, table.models, entrants, levels)})
    return rows


def first_languages(
    losses: Mapping[str, LevelLosses],
    models: Sequence[str],
    entrants: Sequence[Entrant],
    levels: Sequence[str],
    language_of: Mapping[int, str],
) -> list[Values]:
    """The same per first language, the most frequent ones: does the gain reach every group of learners?"""
    if not losses:
        return []
    names = {level: np.array([language_of[d] for d in one.documents.tolist()]) for level, one in losses.items()}
    found, counts = np.unique(np.concatenate(list(names.values())), return_counts=True)
    rows = []
    for place in np.argsort(-counts, kind="stable")[:LANGUAGES_SHOWN]:
        language = str(found[place])
        chosen = {level: _rows_of(one, names[level] == language) for level, one in losses.items()}
        kept = {level: one for level, one in chosen.items() if len(one.documents)}
        rows.append({"l1": language, "documents": int(counts[place]), **_by_role(kept, models, entrants, levels)})
    return rows


def text_lengths(
    losses: Mapping[str, LevelLosses],
    models: Sequence[str],
    entrants: Sequence[Entrant],
    levels: Sequence[str],
    characters_of: Mapping[int, int],
) -> list[Values]:
    """The same by the length of the text: is the gain one of short texts, or of long ones?"""
    lengths = {level: np.array([characters_of[d] for d in one.documents.tolist()]) for level, one in losses.items()}
    rows = []
    for low, high in zip(LENGTHS, (*LENGTHS[1:], None), strict=True):
        inside = {
            level: _rows_of(one, (lengths[level] >= low) & (lengths[level] < (high or np.inf)))
            for level, one in losses.items()
        }
        kept = {level: one for level, one in inside.items() if len(one.documents)}
        if kept:
            documents = sum(len(one.documents) for one in kept.values())
            shares = _by_role(kept, models, entrants, levels)
            rows.append({"from": low, "below": high, "documents": documents, **shares})
    return rows


def _rows_of(losses: LevelLosses, wanted: Any) -> LevelLosses:
    return LevelLosses(
        level=losses.level,
        documents=losses.documents[wanted],
        tokens=losses.tokens[wanted],
        nats=losses.nats[wanted],
    )


def _by_role(
    losses: Mapping[str, LevelLosses], models: Sequence[str], entrants: Sequence[Entrant], levels: Iterable[str]
) -> Values:
    """Tokens, and each role's perplexity over all of them; None if a level lacks the role's model."""
    values: Values = {"tokens": sum(int(one.tokens.sum()) for one in losses.values())}
    for role in _SERVING:
        means = [_mean_nats(losses[level], models, role, entrants) for level in levels if level in losses]
        sums = [mean for mean in means if mean is not None]
        complete = len(sums) == len(means) and values["tokens"] > 0
        values[role] = _exp(sum(sums) / values["tokens"]) if complete else None
    return values


def _mean_nats(losses: LevelLosses, models: Sequence[str], role: str, entrants: Sequence[Entrant]) -> float | None:
    """Nats of a role's model on a level, averaged over its seeds."""
    for one in entrants:
        if one.models and one.role == role and one.level in (None, losses.level):
            columns = [models.index(model) for model in one.models.values()]
            return float(losses.nats[:, columns].sum() / len(columns))
    return None


def _part(weight: float, level: str, entrant: Entrant) -> Part:
    return Part(weight=weight, level=level, models=entrant.models)


def _exp(nats: float) -> float:
    return exp(min(nats, _OVERFLOW))
