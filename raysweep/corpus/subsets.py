"""Chooses a random subset of a corpus, as a pure function of a seed and the documents' numbers.

Documents are ranked by a hash of (seed, number).  A subset of the size of a level consists of the first documents;
disjoint subsets for several levels are consecutive parts of one ranking, so together they use every document once, as
levels do.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from raysweep.config.control_settings import SubsetConfig
from raysweep.seeding import seed_for

Longs = npt.NDArray[np.int64]


def choose_subset(
    documents: Longs, document_levels: npt.NDArray[np.str_], levels: Sequence[str], subset: SubsetConfig
) -> Longs:
    """Choose the documents of the subset, in ascending order.

    Args:
        documents: distinct document numbers to choose from.
        document_levels: the level of each document.
        levels: all levels of `document_levels`, in the order of the disjoint subsets.
    """
    assert subset.size_of in levels, "the config refuses others"
    name = "disjoint" if subset.disjoint else subset.size_of
    order = np.argsort(_hash(documents, seed_for("subset", subset.seed, name)), kind="stable")
    sizes = {level: int(np.count_nonzero(document_levels == level)) for level in levels}
    before = levels[: list(levels).index(subset.size_of)] if subset.disjoint else []
    first = sum(sizes[level] for level in before)
    return np.sort(documents[order[first : first + sizes[subset.size_of]]])


def _hash(numbers: Longs, seed: int) -> npt.NDArray[np.uint64]:
    """Hash each number to 64 bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
