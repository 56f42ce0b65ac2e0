"""Writes and reads documents.parquet: the prepared corpus, a row per document, sorted by writing_id.

Its row groups hold 8,192 documents each, so that a worker can read its part only.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysweep.corpus.splits import SPLITS
from raysweep.errors import InputError
from raysweep.storage.atomic_files import atomic_file

Progress = Callable[[str, int, int], None]
"""Called with a phase (read, split, compare, write, check), the documents or rows done, and their total."""

DOCUMENTS_PER_ROW_GROUP = 8192
SCHEMA = pa.schema(
    [
        pa.field("document", pa.int64(), nullable=False),
        pa.field("writing_id", pa.string(), nullable=False),
        pa.field("l1", pa.string(), nullable=False),
        pa.field("level", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("learner", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("date", pa.string()),
        pa.field("score", pa.string()),
        pa.field("text", pa.string(), nullable=False),
    ]
)


def sort_documents(documents: pa.Table) -> pa.Table:
    """Sort the documents by id (by code point); each column becomes one chunk."""
    order = pc.sort_indices(documents["writing_id"].combine_chunks())
    return pa.table({name: documents[name].combine_chunks().take(order) for name in documents.column_names})


def write_documents(path: Path, documents: pa.Table, splits: np.ndarray, report: Progress) -> None:
    """Write sorted documents with their splits (indices into `SPLITS`), by rename; they are numbered from 0."""
    write_document_blocks(path, iter((documents,)), splits, report)


def write_document_blocks(path: Path, blocks: Iterator[pa.Table], splits: np.ndarray, report: Progress) -> None:
    """Write sorted documents as `write_documents` does, from blocks that are read one at a time."""
    names = pa.array(SPLITS)
    documents = SCHEMA.empty_table().select([])
    with atomic_file(path) as temporary:
        options = {
            "compression": "zstd",
            "write_page_checksum": True,
            "use_dictionary": ["l1", "level", "split", "learner", "prompt", "date", "score"],
        }
        with pq.ParquetWriter(temporary, SCHEMA, **options) as writer:
            for start in range(0, len(splits), DOCUMENTS_PER_ROW_GROUP):
                report("write", start, len(splits))
                size = min(DOCUMENTS_PER_ROW_GROUP, len(splits) - start)
                while documents.num_rows < size:
                    following = next(blocks)
                    documents = pa.concat_tables([documents, following]) if documents.num_rows else following
                part, documents = documents.slice(0, size), documents.slice(size)
                columns = {name: part[name].cast(pa.string()) for name in part.column_names if name in SCHEMA.names}
                columns["document"] = pa.array(np.arange(start, start + part.num_rows, dtype=np.int64))
                columns["split"] = names.take(pa.array(splits[start : start + size]))
                writer.write_table(pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA))
    report("write", len(splits), len(splits))


@dataclass(frozen=True, kw_only=True, slots=True)
class Documents:
    """The columns from which masks are drawn."""

    ids: list[str]
    levels: list[str]
    splits: list[str]
    texts: list[str]


def read_documents(path: Path, rows: tuple[int, int]) -> Documents:
    """Read a range of rows, [start, stop), from its row groups only; raises InputError if that fails."""
    start, stop = rows
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            begins = np.cumsum([0, *sizes])
            if not 0 <= start <= stop <= begins[-1]:
                raise InputError(f"{path}: rows {start} to {stop} were asked for; it has {begins[-1]}")
            groups = np.flatnonzero((begins[:-1] < stop) & (begins[1:] > start)).tolist()
            table = file.read_row_groups(groups, columns=["writing_id", "level", "split", "text"])
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read ({error}); run the prepare stage again") from error
    table = table.slice(start - begins[groups[0]] if groups else 0, stop - start)
    ids, levels, splits, texts = (column.to_pylist() for column in table.columns)
    return Documents(ids=ids, levels=levels, splits=splits, texts=texts)
