"""The size of the lie: how much easier a model finds the test documents that its training knew.

Test documents are parted into leaky and clean ones within each level, and perplexities compared.
Leaky documents may be easier by themselves (shorter, say), so the comparison is also made relative to
the models' common start, which was trained on neither: what is left is what the leak gave away.

Levels count by their share of the leaky tokens.  Intervals are the bootstrap's, with leaky and clean
documents drawn apart; there is none where either kind has too few writers.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import exp

import numpy as np

from raysweep.statistics.bootstrap import Resamples, resample_levels
from raysweep.statistics.contrasts import Part, measure
from raysweep.statistics.hypotheses import MIN_CLUSTERS
from raysweep.statistics.loss_table import LevelLosses

_OVERFLOW = 700.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A ratio of perplexities; limits are None with too few writers."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LeakEffect:
    """One model on the documents that its training knew, and on the others."""

    leaky: float
    """Perplexity on leaky documents; geometric mean over levels, weighted by leaky tokens."""
    clean: float
    """The same on clean documents, with the same weights."""
    ratio: Comparison
    """leaky ÷ clean."""
    against_start: Comparison | None
    """The same, divided by the start's; None where the start was not scored."""
    documents: int
    """Leaky documents."""


class LeakyDocuments:
    """The losses of one metric, parted by whether another split knows the document."""

    def __init__(
        self,
        losses: Mapping[str, LevelLosses],
        models: Sequence[str],
        leaky: Collection[int],
        *,
        resamples: int,
        seed: int,
        clusters: Mapping[int, str],
    ) -> None:
        numbers = np.array(sorted(leaky), dtype=np.int64)
        parted: dict[str, LevelLosses] = {}
        self._tokens: dict[str, int] = {}
        """Leaky tokens of each level that has both kinds."""
        self.documents = 0
        for level, one in losses.items():
            known = np.isin(one.documents, numbers)
            self.documents += int(known.sum())
            if known.any() and not known.all():
                parted[_leaky(level)] = _take(one, known, _leaky(level))
                parted[_clean(level)] = _take(one, ~known, _clean(level))
                self._tokens[level] = int(one.tokens[known].sum())
        self._resamples: Resamples = resample_levels(parted, models, resamples=resamples, seed=seed, clusters=clusters)

    def effect(
        self, models: Mapping[int, str], levels: Sequence[str], start: str | None, confidence: float
    ) -> LeakEffect | None:
        """What the leak gave one model away on these levels; None if no level has both kinds of documents."""
        known = {level: self._tokens[level] for level in levels if self._tokens.get(level)}
        if not known:
            return None
        shares = {level: tokens / sum(known.values()) for level, tokens in known.items()}
        ours = {0: start} if start is not None and start in self._resamples.models else None
        return LeakEffect(
            leaky=self._perplexity({_leaky(level): share for level, share in shares.items()}, models),
            clean=self._perplexity({_clean(level): share for level, share in shares.items()}, models),
            ratio=self._compare(_contrast(shares, models, 1.0), confidence),
            against_start=None
            if ours is None
            else self._compare([*_contrast(shares, models, 1.0), *_contrast(shares, ours, -1.0)], confidence),
            documents=sum(self._resamples.levels[_leaky(level)].documents for level in known),
        )

    def _perplexity(self, shares: Mapping[str, float], models: Mapping[int, str]) -> float:
        parts = [Part(weight=share, level=place, models=models) for place, share in shares.items()]
        return _exp(measure(self._resamples, parts).estimate)

    def _compare(self, parts: Sequence[Part], confidence: float) -> Comparison:
        found = measure(self._resamples, parts)
        if not self._has_interval({part.level for part in parts}):
            return Comparison(value=_exp(found.estimate), low=None, high=None)
        low, high = found.interval(confidence)
        return Comparison(value=_exp(found.estimate), low=_exp(low), high=_exp(high))

    def _has_interval(self, places: Collection[str]) -> bool:
        """Whether there are writers enough, leaky and clean, all levels together, and no level hangs on one."""
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


def _take(losses: LevelLosses, rows: np.ndarray, name: str) -> LevelLosses:
    return LevelLosses(level=name, documents=losses.documents[rows], tokens=losses.tokens[rows], nats=losses.nats[rows])


def _leaky(level: str) -> str:
    return f"~leaky {level}"


def _clean(level: str) -> str:
    return f"~clean {level}"


def _exp(nats: float) -> float:
    return exp(min(nats, _OVERFLOW))
