"""Gathers, a block at a time, the numbers about every document that splits, notes and the summary need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raysweep.corpus.corpus_notes import find_oddities
from raysweep.corpus.documents import Progress
from raysweep.corpus.near_duplicates import DuplicateSearch, TextSketches, sketch
from raysweep.corpus.row_checks import SPLIT
from raysweep.corpus.sample import SYNTHETIC_PREFIX
from raysweep.corpus.sorted_documents import SortedDocuments
from raysweep.corpus.splits import Strata, hash_texts
from raysweep.corpus.spool import Place, Spool
from raysweep.readers.cpu_threads import MapBlocks, map_blocks_in_threads

Array = npt.NDArray[Any]
Longs = npt.NDArray[np.int64]

_NAMED = ("l1", "prompt")


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentColumns:
    """Numbers about D documents, in document order; each column stays in a temporary file until it is read."""

    spool: Spool
    places: Mapping[str, Sequence[Place]]
    types: Mapping[str, np.dtype[Any]]
    names: Mapping[str, Sequence[str]]
    """The values of `l1` (sorted) and of `prompt`, by code."""
    ranks: npt.NDArray[np.int32]
    """For each code of `l1` in the file, its index in `names`."""
    kept: npt.NDArray[np.bool_] | None = None
    """True for the documents of the file that are kept; None if all are."""

    def __contains__(self, name: str) -> bool:
        """Tell whether the column exists."""
        return name in self.places

    def __getitem__(self, name: str) -> Array:
        """Read a column, (D,): `text` hashes (uint64), `level` and `l1` codes, `characters`, `oddities` (bits, see
        `corpus_notes`), `synthetic` (booleans) and, if the corpus has them, `learner` hashes, `prompt` codes and
        published `split` codes."""
        column: Array = self.spool.read_all(self.places[name], self.types[name])
        if name == "l1":
            column = self.ranks[column]
        return column if self.kept is None else column[self.kept]

    @property
    def strata(self) -> Strata:
        """The level and first language of each document."""
        return Strata(levels=self["level"], first_languages=self["l1"])

    @property
    def prompts(self) -> pa.ChunkedArray:
        """The prompt of each document; every document must have one."""
        names = pa.array(self.names["prompt"], pa.large_string())
        return pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array(self["prompt"]), names)])

    def filtered(self, kept: npt.NDArray[np.bool_]) -> Self:
        """Return the columns of the documents selected by `kept`, one boolean for each document of the file."""
        return replace(self, kept=kept)


class GatheredFacts:
    """Collects the facts of all blocks, in the order of the documents, in a temporary file."""

    def __init__(self, folder: Path) -> None:
        """Args: `folder` for the temporary file."""
        self._spool = Spool(folder)
        self._places: dict[str, list[Place]] = {}
        self._types: dict[str, np.dtype[Any]] = {}
        self._codes: dict[str, dict[str, int]] = {name: {} for name in _NAMED}
        self._documents = 0
        self.missing = {"learner": 0, "prompt": 0}
        """Number of documents without a learner, and without a prompt."""

    def add(self, block: "_Block") -> None:
        """Add the next block."""
        for name in _NAMED:
            known = self._codes[name]
            numbers = [known.setdefault(value, len(known)) for value in block.names[name]]
            block.columns[name] = np.array([*numbers, -1], dtype=np.int32)[block.columns[name]]
        for name, column in block.columns.items():
            self._types[name] = column.dtype
            self._places.setdefault(name, []).append(self._spool.append(column))
        for name, count in block.missing.items():
            self.missing[name] += count
        self._documents += len(block.columns["text"])

    def columns(self) -> DocumentColumns:
        """Return the columns of all documents."""
        of_nobody = {name for name, count in self.missing.items() if count == self._documents}
        names = {name: list(known) for name, known in self._codes.items()}
        # First languages are sorted by name, so that their codes do not depend on the order of the documents.
        names["l1"] = sorted(names["l1"])
        ranks = np.argsort(np.array([self._codes["l1"][name] for name in names["l1"]]))
        return DocumentColumns(
            spool=self._spool,
            places={name: places for name, places in self._places.items() if name not in of_nobody},
            types=self._types,
            names=names,
            ranks=ranks.astype(np.int32),
        )


def gather_facts(
    documents: SortedDocuments,
    levels: tuple[str, ...],
    seed: int,
    *,
    folder: Path,
    report: Progress,
    map_blocks: MapBlocks = map_blocks_in_threads,
) -> tuple[GatheredFacts, DuplicateSearch]:
    """Read every document once and collect its facts.

    Args:
        levels: as configured; level codes are indices into it.
        folder: for temporary files.
        map_blocks: where the blocks are processed; it changes no result.

    Returns:
        The facts, and the search for near duplicates, to which all texts were added.
    """
    facts, search, done = GatheredFacts(folder), DuplicateSearch(folder), 0
    report("split", 0, documents.count)
    for block in map_blocks(partial(_collect_facts, levels=levels, seed=seed), documents.read, documents.blocks):
        search.add(block.sketch)
        facts.add(block)
        done += len(block.columns["text"])
        report("split", done, documents.count)
    return facts, search


@dataclass(frozen=True, kw_only=True, slots=True)
class _Block:
    sketch: TextSketches
    columns: dict[str, Array]
    names: dict[str, list[str]]
    missing: dict[str, int]


def _collect_facts(table: pa.Table, levels: tuple[str, ...], seed: int) -> _Block:
    texts = table["text"].combine_chunks()
    learners = table["learner"].combine_chunks().dictionary_encode()
    hashes = np.append(hash_texts(learners.dictionary, seed), np.uint64(0))
    columns: dict[str, Array] = {
        "text": hash_texts(texts, seed),
        "learner": hashes[_indices(learners)],
        "level": pc.index_in(table["level"], pa.array(levels, pa.large_string())).to_numpy().astype(np.int16),
        "characters": pc.utf8_length(texts).to_numpy().astype(np.int32),
        "oddities": find_oddities(table),
        "synthetic": pc.starts_with(table["writing_id"], SYNTHETIC_PREFIX).to_numpy(),
    }
    if SPLIT in table.column_names:
        columns["split"] = table[SPLIT].to_numpy()
    names: dict[str, list[str]] = {}
    for name in _NAMED:
        encoded = table[name].combine_chunks().dictionary_encode()
        names[name], columns[name] = encoded.dictionary.to_pylist(), _indices(encoded)
    missing = {name: table[name].null_count for name in ("learner", "prompt")}
    return _Block(sketch=sketch(texts), columns=columns, names=names, missing=missing)


def _indices(encoded: pa.DictionaryArray) -> Longs:
    """Return indices into the dictionary; −1 for a missing value."""
    indices: Longs = pc.fill_null(encoded.indices, -1).to_numpy()
    return indices
