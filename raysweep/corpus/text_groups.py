"""Groups documents with equal or almost equal texts, so that they go to the same split.

Groups are joined by links between documents: first between equal texts, the rarest first; then between texts with the
same words, then between near duplicates, the most similar pair first.  Two rules keep groups small enough for every
split to reach its share:

- A link is not followed if the group would become larger than a fiftieth of the corpus.
- A text of fewer than eight words that ten or more groups (learners) have, such as "Thank you.", joins no groups.

Links that are not followed are counted.  Where the split then divides such texts, those outside train are set
aside (`find_divided`), so no text and no near duplicate remains in two splits.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raysweep.corpus.near_duplicates import NearDuplicates
from raysweep.corpus.splits import SPLITS, count_codes, join_groups

Longs = npt.NDArray[np.int64]
Codes = npt.NDArray[np.integer[Any]]
Bools = npt.NDArray[np.bool_]

MOST_OF_CORPUS = 50
"""A joined group has at most one in so many documents of the corpus."""
SMALLEST_LIMIT = 20
"""The limit of a joined group in small corpora, in documents."""
SHORT_WORDS = 8
MANY_GROUPS = 10
_CODES_AT_ONCE = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class TextGroups:
    """The groups of D documents after groups with shared texts were joined."""

    groups: Codes  # (D,)
    hashes: npt.NDArray[np.uint64]  # one for each group
    equal_not_tied: int  # number of links between equal texts that were not followed
    near_not_tied: int  # the same for almost equal texts
    untied: Bools  # (D,) True if a link between documents with this text was not followed


def group_by_text(
    groups: Codes, hashes: npt.NDArray[np.uint64], texts: Codes, near: NearDuplicates, *, is_near_grouped: bool
) -> TextGroups:
    """Join the groups of equal texts and, if `is_near_grouped`, of near duplicates.

    Args:
        groups, hashes: from `splits.group_documents`.
        texts: a code for each normalised text.
    """
    lengths = near.sequences.lengths
    equal, is_equal_common = _chain(texts, groups, lengths)
    links, is_common = [equal], [is_equal_common]
    if is_near_grouped:
        same, is_same_common = _chain(near.words, groups, lengths)
        common_words = _are_too_common(near.words, groups, lengths)
        pairs = near.pairs[np.argsort(-near.similarities, kind="stable")]
        links += [same, _first_documents(near.words, pairs)]
        is_common += [is_same_common, np.logical_or(*common_words[pairs].T)]
    followed = ~np.concatenate(is_common)
    every = np.concatenate(links)
    largest = max(SMALLEST_LIMIT, len(groups) // MOST_OF_CORPUS)
    joined, joined_hashes, is_refused = join_groups(groups, hashes, every[followed], largest)
    followed[np.flatnonzero(followed)[is_refused]] = False
    equal_untied = ~followed[: len(equal)]
    is_untied = np.zeros(int(texts.max(initial=-1)) + 1, dtype=np.bool_)
    is_untied[texts[equal[equal_untied, 0]]] = True
    return TextGroups(
        groups=joined,
        hashes=joined_hashes,
        equal_not_tied=int(equal_untied.sum()),
        near_not_tied=int((~followed[len(equal) :]).sum()),
        untied=is_untied[texts],
    )


def find_divided(
    near: NearDuplicates, splits: np.ndarray, texts: Codes, *, is_near_grouped: bool
) -> tuple[Bools, Bools]:
    """Find the documents to remove so that no two splits share a text or a near duplicate, as (D,) booleans each.

    These are the documents of valid whose text is also in train, and the documents of test whose text is also in train
    or valid.  The first array has those with an equal text, the second those that only have a near duplicate.

    Args:
        splits: an index into `SPLITS` for each document.
        texts: a code for each normalised text.
    """
    has_equal: Bools = np.logical_or(*known_to_earlier(find_splits(texts, splits), splits).T)
    if not is_near_grouped:
        return has_equal, np.zeros(len(splits), dtype=np.bool_)
    others, _ = near_in_other_splits(near, splits, texts)
    return has_equal, np.logical_or(*known_to_earlier(others, splits).T) & ~has_equal


def near_in_other_splits(near: NearDuplicates, splits: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the splits that hold near duplicates of each document, apart from equal texts.

    Args:
        splits, texts: codes of each document's split and normalised text.

    Returns:
        (D, S) True for each other split that holds one; (D,) whether any split holds one.
    """
    others = np.zeros((len(near.words), len(SPLITS)), dtype=np.bool_)
    # Most texts have no duplicate and are skipped.
    uses = count_codes(near.words, int(near.pairs.max(initial=-1)) + 1)
    # A pair may refer to a text that no remaining document has.
    pairs = near.pairs[(uses[near.pairs] > 0).all(axis=1)]
    is_shared = uses > 1
    is_shared[pairs] = True
    some = np.flatnonzero(is_shared[near.words])
    texts, of_some = texts[some], splits[some]
    # Renumber the codes of these texts from 0.
    ranks = np.cumsum(is_shared, dtype=np.int32) - np.int32(1)
    words, near_pairs, count = ranks[near.words[some]], ranks[pairs], int(ranks[-1]) + 1 if len(ranks) else 0
    del uses, is_shared, ranks
    # Documents with the same words may have different texts and, because of unusual case folding, vice versa.
    both = words.astype(np.int64) * (int(texts.max(initial=0)) + 1) + texts
    same = np.unique(both, return_inverse=True)[1]
    for split in range(len(SPLITS)):
        per_words = np.bincount(words[of_some == split], minlength=count)
        around = per_words.copy()
        np.add.at(around, near_pairs[:, 0], per_words[near_pairs[:, 1]])
        np.add.at(around, near_pairs[:, 1], per_words[near_pairs[:, 0]])
        equal = np.bincount(same[of_some == split], minlength=int(same.max(initial=-1)) + 1)
        others[some, split] = around[words] > equal[same]
    any_near = np.asarray(others.any(axis=1), dtype=np.bool_)
    for split in range(len(SPLITS)):
        others[splits == split, split] = False
    return others, any_near


def find_splits(codes: Codes, splits: np.ndarray) -> Bools:
    """Tell which splits hold each document's code, as (D, S); a code below 0 is in no split."""
    of_codes, holds = splits_of_codes(codes, splits), np.zeros((len(codes), len(SPLITS)), dtype=np.bool_)
    for some in _slices(len(codes)):
        known = codes[some] >= 0
        holds[some][known] = of_codes[codes[some][known]]
    return holds


def splits_of_codes(codes: Codes, splits: np.ndarray, count: int = 0) -> Bools:
    """Tell which splits hold each of K codes, as (K, S); codes below 0 are ignored."""
    holds = np.zeros((max(count, int(codes.max(initial=-1)) + 1), len(SPLITS)), dtype=np.bool_)
    for some in _slices(len(codes)):
        known = codes[some] >= 0
        holds[codes[some][known], splits[some][known]] = True
    return holds


def _slices(count: int) -> Iterator[slice]:
    """Yield slices of `count` codes, because NumPy converts all codes used as indices at once to 64 bits."""
    for start in range(0, count, _CODES_AT_ONCE):
        yield slice(start, start + _CODES_AT_ONCE)


def _chain(codes: Codes, groups: Codes, lengths: npt.NDArray[np.int32]) -> tuple[Longs, Bools]:
    """Link each document to the previous one with the same code, the rarest codes first; also returns which links are
    of texts too common to join groups."""
    counts = count_codes(codes)
    order = np.flatnonzero((counts > 1)[codes])
    order = order[np.argsort(codes[order], kind="stable")]
    in_order = codes[order]
    same = np.flatnonzero(in_order[1:] == in_order[:-1])
    links = np.stack([order[same + 1], order[same]], axis=1)
    # A learner's own copies are in one group already.
    links = links[groups[links[:, 0]] != groups[links[:, 1]]]
    links = links[np.argsort(counts[codes[links[:, 0]]], kind="stable")]
    return links, _are_too_common(codes, groups, lengths)[codes[links[:, 0]]]


def _first_documents(codes: Codes, some: Longs) -> Longs:
    """Return the first document that has each code in `some`, in the shape of `some`."""
    is_asked = np.zeros(int(codes.max(initial=-1)) + 1, dtype=np.bool_)
    is_asked[some] = True
    documents = np.flatnonzero(is_asked[codes])
    known, firsts = np.unique(codes[documents], return_index=True)
    first_documents: Longs = documents[firsts][np.searchsorted(known, some)]
    return first_documents


def _are_too_common(codes: Codes, groups: Codes, lengths: npt.NDArray[np.int32]) -> Bools:
    """Tell for each code whether its text is too short and too common to join groups."""
    counts = count_codes(codes)
    candidates = np.flatnonzero((lengths < SHORT_WORDS) & (counts >= MANY_GROUPS)[codes])
    pairs = np.unique(np.stack([codes[candidates], groups[candidates]]), axis=1)
    return np.asarray(np.bincount(pairs[0], minlength=len(counts)) >= MANY_GROUPS, dtype=np.bool_)


def known_to_earlier(others: np.ndarray, splits: np.ndarray) -> Bools:
    """Tell which documents outside train are known to train, and which of test to valid, as (D, 2).

    Args:
        others: (D, S) the splits that hold each document's text, or another of its values.
    """
    train, valid, test = (SPLITS.index(name) for name in ("train", "valid", "test"))
    known = (others[:, train] & (splits != train), others[:, valid] & (splits == test))
    return np.stack(known, axis=1).astype(np.bool_, copy=False)
