"""Leakage effect: how much easier a model finds the test documents that its training knew.

Test documents are divided into leaky and clean ones within each level, and their perplexities compared.
Leaky documents may be easier by themselves (shorter, say), so the comparison is also made relative to
the models' common start, which was trained on neither: what is left is the effect of the leak.

Levels are weighted by their share of the leaky tokens.  Leaky and clean documents are resampled
separately; there is no interval if either kind has too few writers.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from pydantic import Field

from raysweep.config.scored_metrics import perplexity
from raysweep.config.section import Count, PositiveFloat, Section
from raysweep.statistics.bootstrap import MIN_CLUSTERS, Resamples
from raysweep.statistics.contrasts import Estimate, measure
from raysweep.statistics.loss_table import LevelLosses
from raysweep.statistics.weighted_parts import Part


class LeakEffect(Section):
    """Perplexity of one model on leaky and on clean test documents, geometric means over levels."""

    leaky: PositiveFloat
    clean: PositiveFloat = Field(description="with the same weights: each level's share of the leaky tokens")
    ratio: Estimate = Field(description="leaky / clean")
    against_start: Estimate | None = Field(description="the same, divided by the start's; null if it was not scored")
    documents: Count = Field(description="leaky documents")


class LeakyDocuments:
    """The losses of one metric, divided by whether another split contains the document.

    Args:
        drawn: the resamples of all documents, for their models, seed and writers.
    """

    def __init__(self, losses: Mapping[str, LevelLosses], leaky: Collection[int], drawn: Resamples) -> None:
        numbers = np.array(sorted(leaky), dtype=np.int64)
        divided: dict[str, LevelLosses] = {}
        self._tokens: dict[str, int] = {}
        """Number of leaky tokens, by level that has both kinds of documents."""
        for level, of_level in losses.items():
            known = np.isin(of_level.documents, numbers)
            if known.any() and not known.all():
                divided[_leaky(level)] = of_level.pick(known, _leaky(level))
                divided[_clean(level)] = of_level.pick(~known, _clean(level))
                self._tokens[level] = int(of_level.tokens[known].sum())
        self._resamples = drawn.again(divided)

    def effect(
        self, models: Mapping[int, str], levels: Sequence[str], start: str | None, confidence: float
    ) -> LeakEffect | None:
        """Estimate the effect on one model on these levels; None if no level has both kinds of documents."""
        known = {level: self._tokens[level] for level in levels if self._tokens.get(level)}
        if not known:
            return None
        shares = {level: tokens / sum(known.values()) for level, tokens in known.items()}
        start_models = {0: start} if start is not None and start in self._resamples.models else None
        return LeakEffect(
            leaky=self._perplexity({_leaky(level): share for level, share in shares.items()}, models),
            clean=self._perplexity({_clean(level): share for level, share in shares.items()}, models),
            ratio=self._compare(_contrast(shares, models, 1.0), confidence),
            against_start=None
            if start_models is None
            else self._compare([*_contrast(shares, models, 1.0), *_contrast(shares, start_models, -1.0)], confidence),
            documents=sum(self._resamples.levels[_leaky(level)].documents for level in known),
        )

    def _perplexity(self, shares: Mapping[str, float], models: Mapping[int, str]) -> float:
        parts = [Part(weight=share, level=place, models=models) for place, share in shares.items()]
        return perplexity(measure(self._resamples, parts).estimate)

    def _compare(self, parts: Sequence[Part], confidence: float) -> Estimate:
        has_interval = self._has_interval({part.level for part in parts})
        return measure(self._resamples, parts).ratio(confidence if has_interval else None)

    def _has_interval(self, places: Collection[str]) -> bool:
        """Return whether leaky and clean documents have enough writers in total, and more than one on each level."""
        counts = {place: self._resamples.levels[place].clusters for place in places}
        leaky = [count for place, count in counts.items() if place.startswith(_leaky(""))]
        clean = [count for place, count in counts.items() if place.startswith(_clean(""))]
        return min(counts.values()) > 1 and min(sum(leaky), sum(clean)) >= MIN_CLUSTERS


def _contrast(shares: Mapping[str, float], models: Mapping[int, str], sign: float) -> list[Part]:
    return [
        part
        for level, share in shares.items()
        for part in (
            Part(weight=sign * share, level=_leaky(level), models=models),
            Part(weight=-sign * share, level=_clean(level), models=models),
        )
    ]


def _leaky(level: str) -> str:
    return f"~leaky {level}"


def _clean(level: str) -> str:
    return f"~clean {level}"
