"""Gives every document one split: train, valid or test, once, for all models.

Documents that belong together form a *group* and go to one side: those of one learner, and those of
equal normalised text; learners who share a text are one group.  Near duplicates join groups, up to a
size (`families.py`).  Every *stratum* (level and first language) gets its shares: groups of several
documents go first, the largest first, each to the split that is furthest behind in its strata and
levels; then each stratum's single documents fill up what is missing, in the order of a hash of (seed,
group), and what cannot be made even in one stratum is made up for in the next of the same level.

The rows must come in an order of their own (by id), so that the file's row order cannot matter.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from raysweep.config.data_settings import SplitConfig
from raysweep.seeding import seed_for

SPLITS = ("train", "valid", "test")


def normalise_text(text: str) -> str:
    """What makes two texts the same one: NFKC, case folded, runs of white space one space, ends stripped."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def hash_texts(texts: Sequence[str], seed: int) -> np.ndarray:
    """A 64-bit hash (uint64) of each normalised text, other for each seed; equal texts, equal hashes."""
    key = _key(seed)
    digests = [_digest(normalise_text(text), key) for text in texts]
    return np.frombuffer(b"".join(digests), dtype="<u8")


def group_documents(text_hashes: np.ndarray, learners: pa.Array | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which documents may not be divided.

    Args:
        text_hashes: of `hash_texts`, one a document.
        learners: the writer of each document, if known.

    Returns:
        The group of each document, counted from 0, and the hash (uint64) of each group.
    """
    if learners is None:
        hashes, groups = np.unique(text_hashes, return_inverse=True)
        return groups, hashes
    encoded = learners.dictionary_encode()
    writers = encoded.indices.to_numpy().astype(np.int64)
    key = _key(seed)
    writer_hashes = np.frombuffer(b"".join(_digest(name, key) for name in encoded.dictionary.to_pylist()), dtype="<u8")
    roots = _join_writers_of_equal_texts(text_hashes, writers, len(writer_hashes))
    found, writer_groups = np.unique(roots, return_inverse=True)
    hashes = np.full(len(found), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(hashes, writer_groups, writer_hashes)
    return np.take(writer_groups, writers), hashes


@dataclass(frozen=True, kw_only=True, slots=True)
class Strata:
    """What splits must be in proportion over: a level and a first language per document, as codes from 0."""

    levels: np.ndarray
    first_languages: np.ndarray


def split_documents(strata: Strata, groups: np.ndarray, hashes: np.ndarray, shares: SplitConfig) -> np.ndarray:
    """Choose each group's split.

    In a level with single-document groups enough, each split is within one document of its share;
    else within the size of a group.

    Args:
        groups, hashes: of `group_documents`.

    Returns:
        The split of each document (int8), an index into `SPLITS`.
    """
    languages = int(strata.first_languages.max()) + 1
    cells = strata.levels.astype(np.int64) * languages + strata.first_languages
    sizes = np.bincount(groups, minlength=len(hashes))
    split_of_group = np.zeros(len(hashes), dtype=np.int8)
    placed = _place_large_groups(split_of_group, cells, languages, (groups, hashes, sizes), shares)
    singles = np.flatnonzero(sizes[groups] == 1)
    singles = singles[np.lexsort((hashes[groups[singles]], cells[singles]))]
    split_of_group[groups[singles]] = _place_singles(cells, cells[singles], languages, placed, shares)
    return np.take(split_of_group, groups)


def _place_large_groups(
    split_of_group: np.ndarray,
    cells: np.ndarray,
    languages: int,
    grouping: tuple[np.ndarray, np.ndarray, np.ndarray],
    shares: SplitConfig,
) -> np.ndarray:
    """Place groups of several documents into `split_of_group`; returns the documents placed per cell and split."""
    count = int(cells.max()) + 1
    in_cells = [[0, 0, 0] for _ in range(count)]
    in_levels = [[0, 0, 0] for _ in range(count // languages + 1)]
    quotas = (shares.train, shares.valid, shares.test)
    for group, counts in _large_groups_in_order(cells, *grouping):
        behind = [0.0, 0.0, 0.0]
        for cell, documents in counts.items():
            for placed in (in_cells[cell], in_levels[cell // languages]):
                due = sum(placed) + documents
                for split, quota in enumerate(quotas):
                    behind[split] += documents * (quota * due - placed[split])
        chosen = behind.index(max(behind))
        split_of_group[group] = chosen
        for cell, documents in counts.items():
            in_cells[cell][chosen] += documents
            in_levels[cell // languages][chosen] += documents
    return np.array(in_cells)


def _large_groups_in_order(
    cells: np.ndarray, groups: np.ndarray, hashes: np.ndarray, sizes: np.ndarray
) -> list[tuple[int, Counter[int]]]:
    """Groups of two documents and more, largest first, then by hash; each with its documents per cell."""
    documents = np.flatnonzero(sizes[groups] > 1)
    documents = documents[np.argsort(groups[documents], kind="stable")]
    starts = np.flatnonzero(np.diff(groups[documents], prepend=-1))
    found = groups[documents[starts]]
    members, ends = cells[documents].tolist(), [*starts[1:].tolist(), len(documents)]
    counts = [Counter(members[start:end]) for start, end in zip(starts.tolist(), ends, strict=False)]
    return [(int(found[each]), counts[each]) for each in np.lexsort((hashes[found], -sizes[found]))]


def _place_singles(
    cells: np.ndarray, single_cells: np.ndarray, languages: int, placed: np.ndarray, shares: SplitConfig
) -> np.ndarray:
    """The split of every document that is a group of its own.

    Args:
        cells: the cell of every document.
        single_cells: the cells of the single ones, sorted.
        placed: documents of larger groups per cell and split.
    """
    quotas = np.array([shares.train, shares.valid, shares.test])
    totals = np.bincount(cells, minlength=len(placed))
    singles = np.bincount(single_cells, minlength=len(placed))
    starts = np.cumsum(singles) - singles
    chosen = np.zeros(len(single_cells), dtype=np.int8)
    for level in range(0, len(placed), languages):
        carried = np.zeros(3)
        # The largest cell last: it has most room to make up for the others.
        for cell in sorted(range(level, min(level + languages, len(placed))), key=lambda each: singles[each]):
            due = quotas * totals[cell] + carried - placed[cell]
            counts = _round_to(due, int(singles[cell]))
            carried = due - counts
            start = starts[cell]
            chosen[start : start + singles[cell]] = np.repeat(np.arange(3), counts)
    return chosen


def _round_to(due: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers from 0 up, as near to `due` as can be, that add up to `total`."""
    counts: np.ndarray = np.floor(np.maximum(due, 0.0)).astype(np.int64)
    while counts.sum() < total:
        counts[np.argmax(due - counts)] += 1
    while counts.sum() > total:
        counts[np.argmin(np.where(counts > 0, due - counts, np.inf))] -= 1
    return counts


def _join_writers_of_equal_texts(text_hashes: np.ndarray, writers: np.ndarray, count: int) -> np.ndarray:
    """Connected components of learners, where an edge is a text that both handed in (union-find)."""
    parents = list(range(count))
    order = np.argsort(text_hashes, kind="stable")
    same = np.flatnonzero(text_hashes[order][1:] == text_hashes[order][:-1])
    for left, right in zip(writers[order[same]].tolist(), writers[order[same + 1]].tolist(), strict=True):
        parents[root_of(parents, left)] = root_of(parents, right)
    return np.array([root_of(parents, writer) for writer in range(count)], dtype=np.int64)


def root_of(parents: list[int], node: int) -> int:
    """The root of a node's tree; paths to it are halved on the way (union-find)."""
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


def _key(seed: int) -> bytes:
    return seed_for("splits", seed).to_bytes(8, "little")


def _digest(text: str, key: bytes) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest()
