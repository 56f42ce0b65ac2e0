"""Sums documents by group, such as a learner or a prompt, and measures the effect of unequal group sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from raysweep.statistics.loss_table import Floats, Ints


@dataclass(frozen=True, kw_only=True)
class GroupInfluences:
    """The documents of one level in groups.  G groups, M models, F folds of models."""

    members: Ints
    """(G,) numbers of the groups, which are the same on all levels."""
    shares: Floats
    """(G,) each group's share of the level's tokens."""
    influences: Floats
    """(G, M) influence of each group on the estimate: its nats minus its tokens at the mean loss, over all tokens."""
    fold_influences: Floats
    """(G, F) mean influence over the models of a fold."""

    @cached_property
    def effective(self) -> float:
        """Number of equally long groups that would carry the same information."""
        return effective_number(self.shares)

    @cached_property
    def widening(self) -> float:
        """Factor by which the spread of a mean exceeds that of the draws."""
        return widening_of(self.shares)

    @classmethod
    def of_codes(
        cls, codes_D: Ints, tokens_D: Floats, influences_DM: Floats, fold: Callable[[Floats], Floats]
    ) -> "GroupInfluences":
        """Sum documents by the code of their group; `fold` computes the means over folds."""
        members, places = np.unique(codes_D, return_inverse=True)
        shares = np.bincount(places, tokens_D) / tokens_D.sum()
        sums_GM = np.zeros((len(members), influences_DM.shape[1]))
        np.add.at(sums_GM, places, influences_DM)
        numbers = members.astype(np.int64)
        return cls(members=numbers, shares=shares, influences=sums_GM, fold_influences=fold(sums_GM))


def widening_of(shares: Floats) -> float:
    """Return the ratio of a mean's spread to that around the sample's own mean: √(n/(n−1)) for n equal shares.

    A sample varies less around its own mean than around the true one, and a large cluster pulls that mean towards
    itself: √(Σw² / Σw²(1 − 2w + Σw²)), if all clusters vary alike.
    """
    squares = shares**2
    around = float(np.sum(squares * (1.0 - 2.0 * shares + squares.sum())))
    return float(np.sqrt(squares.sum() / around)) if around > 0.0 else 1.0


def effective_number(weights: Floats) -> float:
    """Return (Σw)² / Σw²: the count if all weights are equal, 1 if all weight is on one."""
    return float(weights.sum() ** 2 / np.sum(weights**2)) if weights.any() else 0.0
