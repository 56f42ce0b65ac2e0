"""Tables of scores in every format: spreadsheets run none of their texts, and programs can read them back."""

import json

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from raysweep.storage.table_files import table_writer

IDS = ["=HYPERLINK(1)", "-4", "plain", "'@x", "", "a\x1b"]
NUMBERS = {"nats": [-1.5] * 6, "tokens": pa.array([1, 2, 3, 4, 5, 6], pa.int64())}


@pytest.mark.parametrize("text_type", [pa.string(), pa.large_string()], ids=str)
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_only_csv_files_get_apostrophes_before_formula_cells(tmp_path, suffix, text_type):
    """An id such as =HYPERLINK(…) in someone else's corpus would run when the scores are opened."""
    table = pa.table({"writing_id": pa.array(IDS, text_type), **NUMBERS})
    path = tmp_path / f"scores{suffix}"
    with table_writer(path) as write:
        write(table)
        write(table.slice(0, 2))
    if suffix == ".csv":
        rows = pa_csv.read_csv(path).to_pydict()
        assert rows["writing_id"] == ["'=HYPERLINK(1)", "-4", "plain", "''@x", "", r"a\x1b", "'=HYPERLINK(1)", "-4"]
        assert (rows["nats"], rows["tokens"]) == ([-1.5] * 8, [1, 2, 3, 4, 5, 6, 1, 2])
    elif suffix == ".parquet":
        assert pq.read_table(path).to_pydict()["writing_id"] == IDS + IDS[:2]
    else:
        assert [json.loads(line)["writing_id"] for line in path.read_text().splitlines()] == IDS + IDS[:2]
