"""Reads Parquet files; only the requested columns are decoded."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysweep.errors import InputError
from raysweep.readers.arrow_input import arrow_input
from raysweep.readers.raw_columns import CELL, RawColumns, ReadOptions, choose_columns


def read_parquet(name: str, data: bytes, options: ReadOptions) -> RawColumns:
    """Read Parquet, with other types as text; InputError for a damaged or empty file, or an unusable column."""
    try:
        with pq.ParquetFile(arrow_input(data)) as file:
            header = tuple(file.schema_arrow.names)
            if file.metadata.num_rows == 0:
                raise InputError(f"{name}: has columns and no rows")
            roles, names = choose_columns(options, name, header)
            for column in names:
                if pa.types.is_nested(kind := file.schema_arrow.field(column).type):
                    raise InputError(
                        f"{name}: the column {column!r} holds values of type {str(kind)[:60]}; must be text"
                    )
            table = file.read(columns=names)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{name}: its Parquet data is damaged or encrypted ({str(error)[:120]}). Copy it again"
        ) from error
    cells = pa.table({column: _cells(table[column]) for column in names})
    numbers = np.arange(1, table.num_rows + 1, dtype=np.int64)
    return RawColumns(table=cells, row_numbers=numbers, header=header, roles=roles)


def _cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    if pa.types.is_floating(kind):
        integers = pc.cast(column, pa.int64(), safe=False)
        if pc.all(pc.equal(column, integers)).as_py():
            column = integers
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        column = column.cast(pa.large_string())
    return pc.fill_null(column.cast(CELL), b"")
