"""Derives from the losses what the report says about levels: the matrix, gains, gaps, and ways to serve all levels.

Every ratio has the bootstrap's interval; a level with too few writers has a value but
no interval.  Perplexities of entries with several seeds are geometric means over the seeds.
"""

from collections.abc import Sequence

from raysweep.evidence.evidence_schema import Gain, Gap, Size, Way
from raysweep.evidence.lineup import COMPARED_ROLES, Entrant
from raysweep.evidence.robustness_schema import Row
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.contrasts import Estimate, estimate_ratio
from raysweep.statistics.weighted_parts import Part


class Scores:
    """Computes the report's perplexities and ratios from one set of resamples."""

    def __init__(
        self, entrants: Sequence[Entrant], levels: Sequence[str], resamples: Resamples, confidence: float
    ) -> None:
        self.entrants = [entrant for entrant in entrants if entrant.models]
        self.all_entrants = entrants
        self.levels = tuple(level for level in levels if level in resamples.levels)
        self.resamples = resamples
        self.confidence = confidence
        self._perplexities: dict[tuple[str, str], Estimate] = {}

    def matrix(self) -> tuple[Row, ...]:
        """Return a row per entry and a cell per level: perplexity with its interval."""
        return tuple(
            Row(
                name=entrant.name,
                role=entrant.role,
                level=entrant.level,
                models=tuple(entrant.models.values()),
                reason=entrant.reason,
                missing=dict(entrant.missing),
                cells={level: self._perplexity(level, entrant) for level in self.levels if entrant.models},
            )
            for entrant in self.all_entrants
        )

    def leaders(self) -> dict[str, str]:
        """Return, per level, the row that is better than every other, if any: the interval of each ratio is above 1."""
        leaders = {}
        for level in self.levels:
            best, *others = sorted(self.entrants, key=lambda entrant: self._perplexity(level, entrant).value)
            ratios = (self._ratio([_part(1.0, level, other), _part(-1.0, level, best)]) for other in others)
            if all(ratio.low is not None and ratio.low > 1.0 for ratio in ratios):
                leaders[level] = best.name
        return leaders

    def sizes(self) -> dict[str, Size]:
        """Return documents, clusters and tokens of each level's test set."""
        return {
            level: Size(
                documents=drawn.documents, clusters=drawn.clusters, effective=drawn.effective, tokens=drawn.tokens
            )
            for level, drawn in self.resamples.levels.items()
        }

    def gains(self) -> tuple[Gain, ...]:
        """Return, per level, PPL(general) / PPL(specialised), and transfer against both."""
        return tuple(
            Gain(
                level=level,
                specialised=self._role_ratio("general", "specialised", level),
                transfer_over_general=self._role_ratio("general", "transfer", level),
                transfer_over_specialised=self._role_ratio("specialised", "transfer", level),
            )
            for level in self.levels
        )

    def gaps(self) -> tuple[Gap, ...]:
        """Compare each specialised model with itself on other levels, and with their models on its own level.

        The first compares levels of different difficulty; the second keeps the texts and changes the model.
        """
        gaps = []
        for level in self.levels:
            own = self._entrant("specialised", level)
            others = [other for other in self.levels if other != level]
            if own is None or not others:
                continue
            other_models = [entrant for entrant in (self._entrant("specialised", other) for other in others) if entrant]
            own_part = _part(-1.0, level, own)
            on_others = [_part(1.0 / len(others), other, own) for other in others]
            by_others = [_part(1.0 / len(other_models), level, other) for other in other_models]
            gaps.append(
                Gap(
                    level=level,
                    model=own.name,
                    own=self._perplexity(level, own),
                    others=self._ratio(on_others),
                    gap=self._ratio([*on_others, own_part]),
                    wrong_model=self._ratio([*by_others, own_part]) if other_models else None,
                )
            )
        return tuple(gaps)

    def common_levels(self) -> tuple[str, ...]:
        """Return the levels on which every role that has any model has one, so that the ways can be compared."""
        roles = {entrant.role for entrant in self.entrants} & set(COMPARED_ROLES)
        return tuple(level for level in self.levels if all(self._entrant(role, level) for role in roles))

    def strategies(self) -> list[Way]:
        """Return the ways to serve the common levels: perplexity (geometric mean over levels) and entries needed."""
        levels = self.common_levels()
        ways = {role: [self._entrant(role, level) for level in levels] for role in COMPARED_ROLES}
        return [
            self._way(role, levels, [entrant for entrant in entrants if entrant])
            for role, entrants in ways.items()
            if levels and all(entrants)
        ]

    def for_everyone(self) -> tuple[Way, ...]:
        """Return every single model on all levels, as if the level were unknown; the best first."""
        ways = [
            self._way(entrant.name, self.levels, [entrant] * len(self.levels))
            for entrant in self.entrants
            if entrant.role != "start" and self.levels
        ]
        return tuple(sorted(ways, key=lambda way: way.perplexity.value))

    def _way(self, name: str, levels: tuple[str, ...], entrants: Sequence[Entrant]) -> Way:
        parts = [_part(1.0 / len(levels), level, entrant) for level, entrant in zip(levels, entrants, strict=True)]
        entries = tuple(dict.fromkeys(entrant.name for entrant in entrants))
        return Way(name=name, entries=entries, levels=levels, perplexity=self._ratio(parts))

    def _role_ratio(self, numerator: str, denominator: str, level: str) -> Estimate | None:
        above, below = self._entrant(numerator, level), self._entrant(denominator, level)
        if above is None or below is None:
            return None
        return self._ratio([_part(1.0, level, above), _part(-1.0, level, below)])

    def _entrant(self, role: str, level: str) -> Entrant | None:
        return next(
            (entrant for entrant in self.entrants if entrant.role == role and entrant.level in (None, level)), None
        )

    def _perplexity(self, level: str, entrant: Entrant) -> Estimate:
        """Return the perplexity of one of `entrants` on a level, measured once."""
        if (key := (level, entrant.name)) not in self._perplexities:
            self._perplexities[key] = self._ratio([_part(1.0, level, entrant)])
        return self._perplexities[key]

    def _ratio(self, parts: Sequence[Part]) -> Estimate:
        return estimate_ratio(self.resamples, parts, self.confidence)


def _part(weight: float, level: str, entrant: Entrant) -> Part:
    return Part(weight=weight, level=level, models=entrant.models)
