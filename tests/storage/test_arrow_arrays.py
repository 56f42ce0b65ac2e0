"""Columns of Arrow tables as arrays, read without pandas."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysweep.storage.arrow_arrays import as_array, as_arrays, text_scalar, with_code
from raysweep.storage.run_folder import RunFolder


def test_a_column_is_converted_from_its_chunks_without_copying():
    """Empty chunks are skipped; a slice begins at its offset; a missing value becomes NaN."""
    column = pa.chunked_array([[1, 2, 3], [], [4]], pa.int64())
    assert [part.tolist() for part in as_arrays(column)] == [[1, 2, 3], [4]]
    assert as_array(column.slice(1)).tolist() == [2, 3, 4]
    assert (as_array(column.slice(0, 0)).dtype, len(as_array(column.slice(0, 0)))) == (np.dtype(np.int64), 0)
    assert np.isnan(as_array(pa.chunked_array([[1.5, None]]))[1])
    assert not as_arrays(column)[0].flags.owndata


def test_reading_arrow_columns_does_not_import_pandas(tmp_path):
    """Importing pandas takes a third of a second; a report without classification does not need it otherwise."""
    leaks = RunFolder(tmp_path).leaks
    leaks.parent.mkdir()
    pq.write_table(pa.table({"document": [4, 2, 9, 4], "split": ["test", "test", "valid", "test"]}), leaks)
    code = """
import sys, pathlib, pyarrow as pa
import raysweep.evidence.collect, raysweep.report.writing
from raysweep.evidence.guards import _read_leaky_documents
from raysweep.storage.arrow_arrays import as_array, text_scalar, with_code
from raysweep.storage.run_folder import RunFolder
text_scalar("a"), as_array(with_code(pa.nulls(2, pa.int32()), -1))
assert _read_leaky_documents(RunFolder(pathlib.Path(sys.argv[1]))) == [2, 4]
raise SystemExit("pandas" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert text_scalar("né").as_py() == "né"
    assert with_code(pa.array([0, None], pa.int32()), -1).to_pylist() == [0, -1]
