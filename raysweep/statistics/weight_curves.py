"""Models interpolated between the general model (weight 0) and a fine-tuned one (weight 1), on texts of its level.

The best weight is chosen on valid documents, and its gain is measured on test documents, which had no part in
the choice.  With several seeds a weight's loss is the mean of its models' losses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.claims import Finding, Hypothesis
from raysweep.statistics.hypotheses import assess
from raysweep.statistics.loss_table import Floats, LevelLosses
from raysweep.statistics.role_models import RoleModels
from raysweep.statistics.weighted_parts import Part

BETWEEN = "interpolated"
CLAIM = Hypothesis(
    code="between",
    name="an interpolated model is best",
    numerator=BETWEEN,
    against=("general", "transfer"),
    above=False,
    margin=1.0,
)
"""At the weight chosen on valid documents, the model is better than both the general and the fine-tuned one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightCurve:
    """The models of one level.  W weights, S seeds, D test documents."""

    level: str
    weights: tuple[float, ...]
    """Ascending, from 0 to 1."""
    seeds: tuple[int, ...]
    valid_documents: int
    valid: Floats
    """(W,) nats per token on valid documents."""
    test: LevelLosses
    """(D, W · S), with columns named by `columns`."""

    @property
    def best(self) -> float:
        """The weight with the lowest loss on valid documents; of ties, the one closest to the general model."""
        return self.weights[int(np.argmin(self.valid))]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the models, weight by weight."""
        return tuple(_column(weight, seed) for weight in self.weights for seed in self.seeds)


def make_curve(
    weights: Sequence[float],
    seeds: Sequence[int],
    valid: Mapping[tuple[float, int], LevelLosses],
    test: Mapping[tuple[float, int], LevelLosses],
) -> WeightCurve:
    """Join the losses of single models, by weight and seed; raises ValueError if two were scored on other documents."""
    first_valid, first_test = valid[weights[0], seeds[0]], test[weights[0], seeds[0]]
    for losses, first in ((valid, first_valid), (test, first_test)):
        for scored in losses.values():
            if not (np.array_equal(scored.documents, first.documents) and np.array_equal(scored.tokens, first.tokens)):
                raise ValueError("two models were scored on different documents or masks")
    nats = [[valid[weight, seed].nats.sum() for seed in seeds] for weight in weights]
    columns = [test[weight, seed].nats[:, 0] for weight in weights for seed in seeds]
    return WeightCurve(
        level=first_test.level,
        weights=tuple(weights),
        seeds=tuple(seeds),
        valid_documents=len(first_valid.documents),
        valid=np.mean(nats, axis=1) / first_valid.tokens.sum(),
        test=LevelLosses(
            level=first_test.level,
            documents=first_test.documents,
            tokens=first_test.tokens,
            nats=np.stack(columns, axis=1),
        ),
    )


def assess_curves(curves: Sequence[WeightCurve], resamples: Resamples, confidence: float) -> list[Finding]:
    """Test `CLAIM` overall, then on each level; the curves have the same weights and seeds."""
    levels = tuple(curve.level for curve in curves)

    def models(weight_of: Mapping[str, float]) -> dict[str, dict[int, str]]:
        return {curve.level: {seed: _column(weight_of[curve.level], seed) for seed in curve.seeds} for curve in curves}

    roles = RoleModels(
        by_role={
            BETWEEN: models({curve.level: curve.best for curve in curves}),
            "general": models(dict.fromkeys(levels, 0.0)),
            "transfer": models(dict.fromkeys(levels, 1.0)),
        },
        absent={},
    )
    return assess(CLAIM, roles, resamples, levels, confidence, predict=False)


def weight_parts(curves: Sequence[WeightCurve], above: float | None, below: float | None) -> list[Part]:
    """Return the contrast whose exp is the perplexity at one weight, or the ratio between two; averaged over levels.

    Args:
        above, below: a weight, or None for each level's best.
    """

    def part(curve: WeightCurve, weight: float | None, sign: float) -> Part:
        models = {seed: _column(curve.best if weight is None else weight, seed) for seed in curve.seeds}
        return Part(weight=sign / len(curves), level=curve.level, models=models)

    return [made for curve in curves for made in (part(curve, above, 1.0), part(curve, below, -1.0))]


def level_parts(curve: WeightCurve, weight: float) -> list[Part]:
    """Return the contrast whose exp is the perplexity at a weight."""
    return [Part(weight=1.0, level=curve.level, models={seed: _column(weight, seed) for seed in curve.seeds})]


def _column(weight: float, seed: int) -> str:
    return f"{weight} {seed}"
