"""Digests of the inputs do not depend on how Parquet lays out the same values; the evidence holds numbers alone."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysweep.errors import InputError
from raysweep.evidence.inputs import describe_inputs
from raysweep.evidence.rounding import rounded
from raysweep.storage.run_folder import RunFolder


@pytest.mark.parametrize("models", [["b", "a", None, "b", "c"], [None, None], []])
def test_a_tables_digest_is_that_of_its_values(tmp_path, models):
    """Plain text, and codes into a list of names in another order, some of which no row has."""
    folder, names = RunFolder(tmp_path / "run"), ["z", "c", "b", "a"]
    codes = pa.array([None if model is None else names.index(model) for model in models], pa.int32())
    digests = set()
    for column in (pa.array(models, pa.string()), pa.DictionaryArray.from_arrays(codes, names)):
        folder.losses.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"model": column, "nats": [0.5] * len(models)}), folder.losses, row_group_size=2)
        digests |= {describe_inputs(folder, []).files["evaluation/losses.parquet"]}
    assert len(digests) == 1


def test_a_number_that_is_none_is_no_evidence():
    """JSON has no word for it, and a reader would take it for a result."""
    holed = {"gains": [{"low": 1.0, "high": float("nan")}], "b": [float("-inf")] * 9}
    with pytest.raises(InputError, match=re.escape("evidence.gains[0].high is nan, b[0] is -inf, b[1] is -inf: ")):
        rounded(holed)
    assert rounded({"b": [0.1234567894], "a": 1e300}) == {"a": 1e300, "b": [0.123456789]}
