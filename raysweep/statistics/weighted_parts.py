"""The parts of a contrast: weighted log perplexities of roles, and sums over models in a fixed order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NoReturn

import numpy as np

from raysweep.seeding import generator_for
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.loss_table import Floats

_FEW = 8
"""Up to this many columns, adding one after another is faster than `np.add.accumulate`; both give the same bits."""


class SeedModels(dict[int, str]):
    """The models of a role by seed, immutable and hashable: claims compare the same ones thousands of times."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("SeedModels cannot be changed; make new ones")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type["SeedModels"], tuple[dict[int, str]]]:
        return SeedModels, (dict(self),)  # copies and pickles are otherwise filled item by item

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """All seeds, ascending."""
        return tuple(sorted(self))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The models in the order of `seeds`."""
        return tuple(self[seed] for seed in self.seeds)

    @cached_property
    def _hash(self) -> int:
        return hash((self.seeds, self.names))

    def __hash__(self) -> int:  # type: ignore[override] # a dict has none, since it may change
        return self._hash


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """`weight` times the log perplexity of a role on a level, averaged over the role's seeds."""

    weight: float
    level: str
    models: Mapping[int, str]
    """Model by seed."""

    def __post_init__(self) -> None:
        if not isinstance(self.models, SeedModels):
            object.__setattr__(self, "models", SeedModels(self.models))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The role's seeds, ascending."""
        return self._seeded.seeds

    @property
    def names(self) -> tuple[str, ...]:
        """The models in the order of `seeds`."""
        return self._seeded.names

    @property
    def _seeded(self) -> SeedModels:
        assert isinstance(self.models, SeedModels), "made so above"
        return self.models


def weigh_models(resamples: Resamples, parts: Sequence[Part]) -> Floats:
    """Return the (M,) weight of each model."""
    weights_M = np.zeros(len(resamples.models))
    for part in parts:
        weights_M[resamples.columns(part.names)] += part.weight / len(part.models)
    return weights_M


def weigh_folds(resamples: Resamples, parts: Sequence[Part]) -> Floats:
    """Return the (F,) weight of each fold's mean; the parts must have all models of a fold or none."""
    weights_F = np.zeros(len(resamples.folds))
    for part in parts:
        weights_F += part.weight * resamples.fold_shares(part.names)
    return weights_F


def weighted_sum(values: Floats, weights_M: Floats) -> Floats:
    """Return the weighted sum over models in a fixed order, so that it is the same to the bit everywhere."""
    columns = np.flatnonzero(weights_M)
    if len(columns) > _FEW:
        running: Floats = np.add.accumulate(values[..., columns] * weights_M[columns], axis=-1)
        return running[..., -1]
    total = np.zeros(values.shape[:-1])
    for column in columns:
        total = total + values[..., column] * weights_M[column]
    return total


@lru_cache(maxsize=64)
def draw_t(freedom: float, count: int, seed: int, *purpose: str | int) -> Floats:
    """Return (count,) values of Student's t, determined by the arguments; must not be modified."""
    draws: Floats = generator_for(seed, *purpose).standard_t(freedom, count)
    draws.flags.writeable = False
    return draws


def welch(variances: Sequence[float], freedoms: Sequence[float]) -> float:
    """Return the degrees of freedom of a sum of independent variances (Welch and Satterthwaite)."""
    squares = sum(variance**2 / freedom for variance, freedom in zip(variances, freedoms, strict=True))
    return sum(variances) ** 2 / squares if squares > 0.0 else float(min(freedoms))
