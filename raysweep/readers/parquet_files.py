"""Reads Parquet files; only the requested columns are decoded."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysweep.errors import InputError
from raysweep.readers.arrow_input import arrow_input
from raysweep.readers.json_files import NESTED
from raysweep.readers.raw_columns import CELL, MalformedRow, RawColumns, ReadOptions, Roles, choose_columns

_MOST_EXACT = 2.0**53
"""Whole numbers below it are exact in float64."""


def read_parquet(name: str, data: bytes, options: ReadOptions) -> RawColumns:
    """Read Parquet, with other types as text; all rows are set aside if a column holds lists or objects.

    Raises:
        InputError: the file is damaged, encrypted or empty, or a column is missing.
    """
    try:
        with pq.ParquetFile(arrow_input(data)) as file:
            header = tuple(file.schema_arrow.names)
            if file.metadata.num_rows == 0:
                raise InputError(f"{name}: has columns and no rows")
            roles, names = choose_columns(options, name, header)
            for column in names:
                if pa.types.is_nested(kind := file.schema_arrow.field(column).type):
                    what = "an object" if pa.types.is_struct(kind) else "a list"
                    return _all_nested(column, what, file.metadata.num_rows, header, roles)
            table = file.read(columns=names)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{name}: its Parquet data is damaged or encrypted ({str(error)[:120]}). Copy it again"
        ) from error
    cells = pa.table({column: _cells(table[column]) for column in names})
    numbers = np.arange(1, table.num_rows + 1, dtype=np.int64)
    return RawColumns(table=cells, row_numbers=numbers, header=header, roles=roles)


def _all_nested(column: str, what: str, rows: int, header: tuple[str, ...], roles: Roles) -> RawColumns:
    """Set all rows aside, as the reader of JSON does, because a column holds lists or objects."""
    return RawColumns(
        table=pa.table({each: pa.array([], CELL) for each in dict.fromkeys(roles.values())}),
        row_numbers=np.zeros(0, dtype=np.int64),
        malformed=tuple(MalformedRow(row=row, reason=NESTED, value=what, column=column) for row in range(1, rows + 1)),
        header=header,
        roles=roles,
    )


def _cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), None, column)  # pandas' and R's missing value
        exact = column.cast(pa.float64())
        if pc.all(pc.and_(pc.equal(exact, pc.trunc(exact)), pc.less(pc.abs(exact), _MOST_EXACT))).as_py():
            column = exact.cast(pa.int64())
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        column = column.cast(pa.large_string())
    return pc.fill_null(column.cast(CELL), b"")
