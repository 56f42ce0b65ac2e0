"""Columns of Arrow as arrays, read without pandas."""

import subprocess
import sys

import numpy as np
import pyarrow as pa

from raysweep.storage.arrow_arrays import as_array, as_arrays, text_scalar, with_code


def test_a_column_is_its_chunks_without_a_copy():
    """Empty chunks are left out; a slice begins where it should; a missing value makes floats."""
    column = pa.chunked_array([[1, 2, 3], [], [4]], pa.int64())
    assert [part.tolist() for part in as_arrays(column)] == [[1, 2, 3], [4]]
    assert as_array(column.slice(1)).tolist() == [2, 3, 4]
    assert (as_array(column.slice(0, 0)).dtype, len(as_array(column.slice(0, 0)))) == (np.dtype(np.int64), 0)
    assert np.isnan(as_array(pa.chunked_array([[1.5, None]]))[1])
    assert not as_arrays(column)[0].flags.owndata


def test_texts_and_missing_codes_need_no_pandas():
    """It takes a third of a second to import, and the report has no other use for it."""
    code = """
import sys, numpy as np, pyarrow as pa
from raysweep.storage.arrow_arrays import as_array, text_scalar, with_code
text_scalar("a"), as_array(with_code(pa.nulls(2, pa.int32()), -1))
raise SystemExit("pandas" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert text_scalar("né").as_py() == "né"
    assert with_code(pa.array([0, None], pa.int32()), -1).to_pylist() == [0, -1]
