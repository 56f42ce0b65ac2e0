"""Documents summed by a group that they belong to, such as a writing prompt, and how unequal groups weigh."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from raysweep.statistics.loss_table import Floats, Ints


@dataclass(frozen=True, kw_only=True)
class GroupInfluences:
    """The documents of one level in groups other than the drawn clusters.  G groups, F folds of models."""

    members: Ints
    """(G,) numbers of the groups, the same on all levels."""
    shares: Floats
    """(G,) each group's share of the level's tokens."""
    fold_influences: Floats
    """(G, F) as in `LevelResamples`."""

    @cached_property
    def effective(self) -> float:
        """As of `LevelResamples`."""
        return effective_number(self.shares)

    @cached_property
    def widening(self) -> float:
        """As of `LevelResamples`."""
        return widening_of(self.shares)

    @classmethod
    def of_codes(cls, codes_D: Ints, tokens_D: Floats, influences_DF: Floats) -> "GroupInfluences":
        """Sum documents by the code of their group."""
        members, places = np.unique(codes_D, return_inverse=True)
        shares = np.bincount(places, tokens_D) / tokens_D.sum()
        sums = [np.bincount(places, column, len(members)) for column in influences_DF.T]
        return cls(members=members.astype(np.int64), shares=shares, fold_influences=np.stack(sums, axis=1))


def widening_of(shares: Floats) -> float:
    """By how much the spread of a mean is larger than that around the sample's own mean: √(n/(n−1)) for n equal shares.

    A sample varies less around its own mean than around the true one, and a large cluster pulls that mean to
    itself: √(Σw² / Σw²(1 − 2w + Σw²)), if all clusters vary alike.
    """
    squares = shares**2
    around = float(np.sum(squares * (1.0 - 2.0 * shares + squares.sum())))
    return float(np.sqrt(squares.sum() / around)) if around > 0.0 else 1.0


def effective_number(weights: Floats) -> float:
    """(Σw)² / Σw²: the count if all weights are equal, 1 if one weight is all."""
    return float(weights.sum() ** 2 / np.sum(weights**2)) if weights.any() else 0.0
