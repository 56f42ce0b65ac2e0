"""Assigns every document to one split (train, valid or test), which all models use.

Documents that belong together form a *group* and go to one split: the documents of a learner or, if learners are not
known, the documents with the same text.  Equal texts and near duplicates join groups, up to a size (`text_groups.py`);
learners and texts are compared as `normalising.py` says.  Every *stratum* (level and first language) is divided
according to the shares.  Groups of several documents are placed first, the largest first, each in the split that is
furthest behind in the group's strata and levels.  Then the single documents of each stratum fill the rest, in the order
of a hash of (seed, group); rounding errors of one stratum are corrected in the next stratum of the same level.

The rows must be sorted by id, so that the row order of the CSV has no effect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raysweep.config.data_settings import SplitConfig
from raysweep.corpus.text_hashes import keyed_hashes
from raysweep.readers.compiled import kernel
from raysweep.seeding import seed_for

SPLITS = ("train", "valid", "test")

Longs = npt.NDArray[np.int64]
Shorts = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_CODES_AT_ONCE = 1 << 20


def hash_texts(texts: Sequence[str] | pa.Array, seed: int) -> np.ndarray:
    """Hash each normalised text or learner to 64 bits (uint64), depending on the seed."""
    column = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string())
    return keyed_hashes(column, seed_for("splits", seed).to_bytes(8, "little"))


def group_documents(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group the documents with equal hashes.

    Args:
        hashes: the hash of each document's learner, or of its text if learners are not known, from `hash_texts`.

    Returns:
        The number of each document's group, from 0, and a hash (uint64) of each group.
    """
    order = np.argsort(hashes)
    in_order = hashes[order]
    is_first = np.ones(len(order), dtype=np.bool_)
    np.not_equal(in_order[1:], in_order[:-1], out=is_first[1:])
    of_groups = in_order[is_first]
    del in_order
    numbers = np.cumsum(is_first, dtype=np.int32)
    numbers -= np.int32(1)
    groups = np.empty(len(order), dtype=np.int32)
    groups[order] = numbers
    return groups, of_groups


def count_codes(codes: np.ndarray, least: int = 0) -> Shorts:
    """Count how often each code from 0 occurs, like `numpy.bincount` with `minlength`, but in less memory."""
    counts = np.zeros(max(least, int(codes.max(initial=-1)) + 1), dtype=np.int32)
    for start in range(0, len(codes), _CODES_AT_ONCE):
        np.add.at(counts, codes[start : start + _CODES_AT_ONCE], np.int32(1))
    return counts


def join_groups(
    groups: np.ndarray, hashes: np.ndarray, links: np.ndarray, largest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join groups whose documents are linked, in the order of the links.

    A link that would make a group larger than `largest` is not followed, so the strongest links should come first.

    Args:
        groups, hashes: from `group_documents`.
        links: (L, 2) documents that should go to one split.
        largest: the most documents that a joined group may have.

    Returns:
        Groups and hashes as from `group_documents`, and whether each link was refused, as (L,) booleans.
    """
    sizes = count_codes(groups, len(hashes))
    roots = np.arange(len(hashes), dtype=np.int32)
    is_refused = np.zeros(len(links), dtype=np.bool_)
    _follow_links(groups, links, largest, sizes, roots, is_refused)
    is_root = roots == np.arange(len(roots))
    numbers = (np.cumsum(is_root, dtype=np.int32) - np.int32(1))[roots]
    joined = np.full(int(is_root.sum()), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(joined, numbers, hashes)
    return np.take(numbers, groups), joined, is_refused


@dataclass(frozen=True, kw_only=True, slots=True)
class Strata:
    """The level and first language of each document, as codes from 0; every stratum is split in proportion."""

    levels: np.ndarray
    first_languages: np.ndarray


def split_documents(strata: Strata, groups: np.ndarray, hashes: np.ndarray, shares: SplitConfig) -> np.ndarray:
    """Choose each group's split.

    In a level with enough single-document groups each split is within one document of its share, otherwise
    within the size of a group.

    Args:
        groups, hashes: from `group_documents`.

    Returns:
        The split of each document (int8), an index into `SPLITS`.
    """
    languages = int(strata.first_languages.max()) + 1
    cells = strata.levels.astype(np.int32) * np.int32(languages) + strata.first_languages.astype(np.int32)
    sizes = count_codes(groups, len(hashes))
    split_of_group = np.zeros(len(hashes), dtype=np.int8)
    placed = _place_large_groups(split_of_group, cells, languages, (groups, hashes, sizes), shares)
    singles = np.flatnonzero((sizes == 1)[groups])
    counts = count_codes(cells[singles], len(placed))
    # NumPy sorts 16-bit integers in linear time.
    singles = singles[np.argsort(cells[singles].astype(np.min_scalar_type(len(placed))), kind="stable")]
    for start, end in pairwise([0, *np.cumsum(counts).tolist()]):
        of_cell = singles[start:end]
        of_cell[:] = of_cell[np.argsort(hashes[groups[of_cell]], kind="stable")]
    split_of_group[groups[singles]] = _place_singles(count_codes(cells, len(placed)), counts, languages, placed, shares)
    return np.take(split_of_group, groups)


def _place_large_groups(
    split_of_group: np.ndarray,
    cells: np.ndarray,
    languages: int,
    grouping: tuple[np.ndarray, np.ndarray, np.ndarray],
    shares: SplitConfig,
) -> np.ndarray:
    """Place groups of several documents, into `split_of_group`, the largest first, then by hash.

    Returns:
        The documents placed per stratum and split.
    """
    groups, hashes, sizes = grouping
    count = int(cells.max()) + 1
    in_cells = np.zeros((count, len(SPLITS)), dtype=np.int64)
    documents = np.flatnonzero((sizes > 1)[groups])
    documents = documents[np.argsort(groups[documents], kind="stable")]
    starts = np.flatnonzero(np.diff(groups[documents], prepend=-1))
    large = groups[documents[starts]]
    order = np.lexsort((hashes[large], -sizes[large]))
    quotas = np.array((shares.train, shares.valid, shares.test))
    large = large[order]
    split_of_group[large] = _place_in_order(starts[order], sizes[large], cells[documents], languages, quotas, in_cells)
    return in_cells


def _place_singles(
    totals: Shorts, singles: Shorts, languages: int, placed: np.ndarray, shares: SplitConfig
) -> np.ndarray:
    """Choose the split of every document that is a group of its own, stratum by stratum.

    Args:
        totals, singles: number of all documents, and of single documents, per stratum.
        placed: number of documents of larger groups per stratum and split.
    """
    quotas = np.array([shares.train, shares.valid, shares.test])
    starts = np.cumsum(singles) - singles
    chosen = np.zeros(int(singles.sum()), dtype=np.int8)
    for level in range(0, len(placed), languages):
        shortfall = np.zeros(3)
        # The largest stratum comes last, because it can best absorb the rounding errors of the others.
        for cell in sorted(range(level, min(level + languages, len(placed))), key=lambda cell: singles[cell]):
            due = quotas * totals[cell] + shortfall - placed[cell]
            counts = _round_to(due, int(singles[cell]))
            shortfall = due - counts
            start = starts[cell]
            chosen[start : start + singles[cell]] = np.repeat(np.arange(3), counts)
    return chosen


def _round_to(due: np.ndarray, total: int) -> np.ndarray:
    """Round to non-negative integers that sum to `total`, as close to `due` as possible."""
    counts: np.ndarray = np.floor(np.maximum(due, 0.0)).astype(np.int64)
    while counts.sum() < total:
        counts[np.argmax(due - counts)] += 1
    while counts.sum() > total:
        counts[np.argmin(np.where(counts > 0, due - counts, np.inf))] -= 1
    return counts


@kernel
def _place_in_order(
    starts: Longs, sizes: Shorts, cells: Shorts, languages: int, quotas: Floats, in_cells: Longs
) -> npt.NDArray[np.int8]:
    """Place group after group; counts its documents into `in_cells`.

    Args:
        starts, sizes: of each group, where its documents begin, and how many there are.
        cells: the stratum of each document.
    """
    in_levels = np.zeros((len(in_cells) // languages + 1, 3), dtype=np.int64)
    counts = np.zeros(len(in_cells), dtype=np.int64)
    of_group = np.empty(len(in_cells), dtype=np.int64)
    chosen = np.empty(len(starts), dtype=np.int8)
    behind = np.empty(3)
    for group in range(len(starts)):
        different = 0
        for cell in cells[starts[group] : starts[group] + sizes[group]]:
            if counts[cell] == 0:
                of_group[different] = cell
                different += 1
            counts[cell] += 1
        behind[:] = 0.0
        for cell in of_group[:different]:
            for placed in (in_cells[cell], in_levels[cell // languages]):
                due = placed.sum() + counts[cell]
                for split in range(3):
                    behind[split] += counts[cell] * (quotas[split] * due - placed[split])
        best = np.argmax(behind)
        chosen[group] = best
        for cell in of_group[:different]:
            in_cells[cell, best] += counts[cell]
            in_levels[cell // languages, best] += counts[cell]
            counts[cell] = 0
    return chosen


@kernel
def _follow_links(
    groups: Shorts, links: Longs, largest: int, sizes: Shorts, parents: Shorts, is_refused: Bools
) -> None:
    """Join trees of groups (union-find); at the end each group's parent is the root of its tree."""
    for place in range(len(links)):
        root = _root_of(parents, groups[links[place, 0]])
        other = _root_of(parents, groups[links[place, 1]])
        if root == other:
            continue
        if sizes[root] + sizes[other] > largest:
            is_refused[place] = True
            continue
        parents[other] = root
        sizes[root] += sizes[other]
    for group in range(len(parents)):
        parents[group] = _root_of(parents, group)


@kernel
def _root_of(parents: Shorts, node: int) -> int:
    """Find the root of a node's tree, halving paths on the way."""
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node
