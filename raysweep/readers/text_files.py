"""Reads plain text files that hold one document each, whose metadata is in the file's path."""

import numpy as np
import pyarrow as pa

from raysweep.errors import InputError
from raysweep.readers.raw_columns import CELL, RawColumns, ReadOptions, choose_columns


def read_text(name: str, data: bytes, options: ReadOptions) -> RawColumns:
    """Read one document; raises InputError unless a layout describes the name of the file."""
    if options.name_columns is None:
        raise InputError(
            f"{name}: is a plain text; what its name says of it is said by a layout. Name it in data.layout"
        )
    columns = options.name_columns(name)
    if columns is None:
        raise InputError(f"{name}: its path is not of the form that data.layout expects. Leave it out, or rename it")
    known = {"text": data, **{column: value.encode() for column, value in columns.items()}}
    roles, names = choose_columns(options, name, tuple(known))
    table = pa.table({column: pa.array([known[column]], CELL) for column in names})
    return RawColumns(table=table, row_numbers=np.array([1], dtype=np.int64), header=tuple(known), roles=roles)
