"""Sorts the rows of a corpus by id on disk, and reads the documents a block at a time.

The good rows are spooled to a temporary file as they are read.  Only their ids are kept in memory and sorted; then the
rows of every piece are distributed to the blocks of the sorted corpus.  A block is sorted when it is read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raysweep.corpus.cleaning import SAMPLES, CleanedTexts, clean_texts
from raysweep.corpus.corpus_rows import RowReader, sort_by_id
from raysweep.corpus.near_duplicates import BLOCK_DOCUMENTS
from raysweep.corpus.row_checks import FILE_NUMBER, HAS_NO_LANGUAGE, ROW, WRITTEN_ID, CheckedRows
from raysweep.corpus.spool import Place, Spool
from raysweep.readers.cpu_threads import map_in_threads

Longs = npt.NDArray[np.int64]

_AT = "at"
"""A column: the position of the document in the sorted corpus."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpooledRows:
    """The good rows of a corpus in file order."""

    spool: Spool
    places: list[Place]
    borders: Longs  # the first row of each piece, and the end of the last piece
    positions: Longs  # position of each row in the sorted corpus; −1 for a repeated id
    documents: int  # rows without repeated ids


def spool_rows(reader: RowReader, folder: Path) -> SpooledRows:
    """Read all rows into a temporary file; rows with repeated ids are added to the reader's bad rows.

    Args:
        folder: for temporary files.

    Raises:
        InputError: a whole file cannot be used.
    """
    spool = Spool(folder)

    def keep(checked: CheckedRows) -> tuple[Place, pa.Array]:
        return spool.append_table(checked.good), checked.good["writing_id"].combine_chunks()

    kept = list(reader.read(keep))
    places, ids = [place for place, _ in kept], [names for _, names in kept]
    borders = np.cumsum([0, *map(len, ids)])
    del kept
    order, first = sort_by_id(ids)
    is_repeated = first >= 0
    if is_repeated.any():
        repeated, earlier = (
            _take(lambda piece: spool.read_table(places[piece]), borders, rows, [WRITTEN_ID, FILE_NUMBER, ROW])
            for rows in (order[is_repeated], first[is_repeated])
        )
        reader.add_repeated(repeated, earlier)
    documents = int(len(order) - is_repeated.sum())
    positions = np.full(len(order), -1, dtype=np.int64)
    positions[order[~is_repeated]] = np.arange(documents)
    return SpooledRows(spool=spool, places=places, borders=borders, positions=positions, documents=documents)


class SortedDocuments:
    """The documents of a corpus in the order of their ids."""

    def __init__(self, rows: SpooledRows, folder: Path, *, is_cleaned: bool) -> None:
        """Distribute the rows to blocks.

        Args:
            folder: for temporary files.
            is_cleaned: whether markup is removed from texts.
        """
        self.count = rows.documents
        self.without_language = 0
        self.cleaned = CleanedTexts()
        self._spool = Spool(folder)
        self._places: list[list[Place]] = [[] for _ in range(0, rows.documents, BLOCK_DOCUMENTS)]

        def scatter(piece: int) -> tuple[list[tuple[int, Place]], int, CleanedTexts]:
            table = rows.spool.read_table(rows.places[piece])
            at = rows.positions[rows.borders[piece] : rows.borders[piece + 1]]
            table, cleaned = table.filter(pa.array(at >= 0)), CleanedTexts()
            without_language = int(pc.sum(table[HAS_NO_LANGUAGE]).as_py() or 0)
            table = table.drop_columns([WRITTEN_ID, HAS_NO_LANGUAGE])
            if is_cleaned:
                table, cleaned = clean_texts(table)
            return self._scatter(table, at[at >= 0]), without_language, cleaned

        for places, without_language, cleaned in map_in_threads(scatter, range(len(rows.places))):
            for block, place in places:
                self._places[block].append(place)
            self.without_language += without_language
            self.cleaned = CleanedTexts(
                texts=self.cleaned.texts + cleaned.texts,
                samples=(*self.cleaned.samples, *cleaned.samples)[:SAMPLES],
                emptied=self.cleaned.emptied + cleaned.emptied,
            )

    @property
    def blocks(self) -> range:
        """The numbers of the blocks."""
        return range(len(self._places))

    def read(self, block: int) -> pa.Table:
        """Read the documents of a block; each column is one array."""
        table = pa.concat_tables([self._spool.read_table(place) for place in self._places[block]]).combine_chunks()
        at = table[_AT].to_numpy()
        table = table.drop_columns([_AT])
        return table if (at[1:] > at[:-1]).all() else table.take(pa.array(np.argsort(at)))

    def take(self, documents: Longs, columns: Sequence[str]) -> pa.Table:
        """Read the columns of some documents, in the given order."""
        borders = np.minimum(np.arange(len(self._places) + 1) * BLOCK_DOCUMENTS, self.count)
        return _take(self.read, borders, documents, columns)

    def _scatter(self, table: pa.Table, at: Longs) -> list[tuple[int, Place]]:
        """Spool the documents of a piece by block; returns the blocks and the places of their documents."""
        order = np.argsort(at)
        table = table.append_column(_AT, pa.array(at)).take(pa.array(order))
        cuts = np.searchsorted(at[order], np.arange(len(self._places) + 1) * BLOCK_DOCUMENTS)
        return [
            (block, self._spool.append_table(table.slice(cuts[block], cuts[block + 1] - cuts[block])))
            for block in np.flatnonzero(np.diff(cuts)).tolist()
        ]


def _take(read: Callable[[int], pa.Table], borders: Longs, rows: Longs, columns: Sequence[str]) -> pa.Table:
    """Read some rows of a series of tables, in the given order.

    Args:
        read: reads a table by its number.
        borders: the first row of each table, and the end of the last one.
    """
    wanted, back = np.unique(rows, return_inverse=True)
    owners = np.searchsorted(borders, wanted, side="right") - 1
    parts = [
        read(owner).select(columns).take(pa.array(wanted[owners == owner] - borders[owner]))
        for owner in np.unique(owners).tolist()
    ]
    return pa.concat_tables(parts).take(pa.array(back)) if parts else read(0).select(columns).slice(0, 0)
