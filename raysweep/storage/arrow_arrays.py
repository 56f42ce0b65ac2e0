"""Converts Arrow columns to NumPy arrays, and texts to scalars, without pandas, whose import takes a third of a second.

Arrow's own `to_numpy`, `pa.array` and `pa.scalar` import pandas, and so does `pq.read_table`.
"""

from typing import Any

import numpy as np
import pyarrow as pa


def as_arrays(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return the chunks of an integer or float column without copying; if values are missing, one copy with NaN."""
    if column.null_count:
        return [column.to_numpy(zero_copy_only=False)]
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return [np.from_dlpack(chunk) for chunk in chunks if len(chunk)]


def as_array(column: pa.Array | pa.ChunkedArray) -> Any:
    """Return the whole column as one array, copied only if it has several chunks."""
    arrays = as_arrays(column)
    if not arrays:
        return np.zeros(0, dtype=column.type.to_pandas_dtype())
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def text_scalar(text: str) -> pa.StringScalar:
    """Make a scalar to compare a text column with."""
    data = text.encode()
    offsets = pa.py_buffer(np.array([0, len(data)], dtype=np.int32))
    return pa.StringArray.from_buffers(1, offsets, pa.py_buffer(data))[0]


def with_code(codes: pa.Array, missing: int) -> pa.Array:
    """Replace missing values of 32-bit codes by the code `missing`."""
    number = pa.py_buffer(np.array([missing], dtype=np.int32))
    return codes.fill_null(pa.Array.from_buffers(pa.int32(), 1, [None, number])[0]) if codes.null_count else codes
