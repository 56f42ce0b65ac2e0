"""Groups near duplicates, so that they go to the same split.

Links are followed from the most similar pair to the least, but not if the group would become larger than a
fiftieth of the corpus: chains of links between writers with several texts each could otherwise join half of
the corpus, and no split would reach its share.  Links that are not followed are counted.  Where the split
then divides such texts, those outside train are set aside (`find_divided`), so no near duplicate remains in
two splits.
"""

import numpy as np

from raysweep.corpus.near_duplicates import NearDuplicates
from raysweep.corpus.splits import SPLITS, join_groups

MOST_OF_CORPUS = 50
"""A group of near duplicates holds at most one in so many documents."""
SMALLEST_LIMIT = 20
"""The same limit, in documents, for small corpora."""


def group_near_duplicates(
    groups: np.ndarray, hashes: np.ndarray, near: NearDuplicates
) -> tuple[np.ndarray, np.ndarray, int]:
    """Join the groups of near duplicates, up to a size.

    Args:
        groups, hashes: from `splits.group_documents`.

    Returns:
        Groups and hashes in the same form, and how many links were not followed.
    """
    _, firsts = np.unique(near.words, return_index=True)
    same = np.stack([firsts[near.words], np.arange(len(near.words))], axis=1)
    order = np.argsort(-near.similarities, kind="stable")
    links = np.concatenate([same[same[:, 0] != same[:, 1]], firsts[near.pairs[order]]])
    return join_groups(groups, hashes, links, max(SMALLEST_LIMIT, len(groups) // MOST_OF_CORPUS))


def find_divided(near: NearDuplicates, splits: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Find the documents to remove so that no two splits share a near duplicate, as (D,) booleans.

    These are the documents of valid with a near duplicate in train, and those of test with one in train or valid.

    Args:
        splits: an index into `SPLITS` for each document.
        texts: a hash of each normalised text.
    """
    others, _ = near_in_other_splits(near, splits.astype(np.int64), np.unique(texts, return_inverse=True)[1])
    train, valid, test = (SPLITS.index(name) for name in ("train", "valid", "test"))
    known_to_train = others[:, train] & (splits != train)
    return np.asarray(known_to_train | (others[:, valid] & (splits == test)), dtype=np.bool_)


def near_in_other_splits(near: NearDuplicates, splits: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the splits that hold near duplicates of each document, apart from equal texts.

    Args:
        splits, texts: codes of each document's split and normalised text.

    Returns:
        (D, S) whether another split holds one; (D,) whether any split does.
    """
    words, pairs = near.words, near.pairs
    per_words = count_splits(words, splits)
    around = per_words.copy()
    np.add.at(around, pairs[:, 0], per_words[pairs[:, 1]])
    np.add.at(around, pairs[:, 1], per_words[pairs[:, 0]])
    # Documents with the same words may have different texts and, after unusual case folding, the other way round.
    same = np.unique(words * (int(texts.max(initial=0)) + 1) + texts, return_inverse=True)[1]
    others = around[words] - count_splits(same, splits)[same] > 0
    any_near = np.asarray(others.any(axis=1), dtype=np.bool_)
    others[np.arange(len(words)), splits] = False
    return others, any_near


def count_splits(codes: np.ndarray, splits: np.ndarray) -> np.ndarray:
    """Count the documents of each code in each split, as (K, S); codes below 0 are left out."""
    known = codes >= 0
    count = int(codes.max(initial=-1)) + 1
    cells = codes[known] * len(SPLITS) + splits[known]
    return np.bincount(cells, minlength=count * len(SPLITS)).reshape(count, len(SPLITS))
