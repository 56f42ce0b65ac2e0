"""Reads plain text files that each hold one document; what is known of it stands in the file's name."""

import re

import numpy as np
import pyarrow as pa

from raysweep.errors import InputError
from raysweep.readers.raw_columns import CELL, RawColumns, ReadOptions, check_columns


def read_text(name: str, data: bytes, options: ReadOptions) -> RawColumns:
    """Read one document.

    Raises:
        InputError: no layout says how such files are named, or this one is not named so.
    """
    if options.name_columns is None:
        raise InputError(
            f"{name}: is a plain text; what its name says of it is said by a layout. Name it in data.layout"
        )
    columns = options.name_columns(re.split(r"/|: ", name)[-1])
    if columns is None:
        raise InputError(f"{name}: its name is not of the form that data.layout expects. Leave it out, or rename it")
    known = {"text": data, **{column: value.encode() for column, value in columns.items()}}
    roles = options.choose(name, tuple(known))
    check_columns(name, tuple(known), roles.values())
    table = pa.table({column: pa.array([known[column]], CELL) for column in dict.fromkeys(roles.values())})
    return RawColumns(table=table, row_numbers=np.array([1], dtype=np.int64), header=tuple(known), roles=roles)
