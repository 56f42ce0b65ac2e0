"""Input digests do not depend on how Parquet stores the same values; the evidence contains only numbers."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysweep.errors import InputError
from raysweep.evidence import inputs
from raysweep.evidence.inputs import copy_inputs, describe_inputs, digesting_tables
from raysweep.evidence.rounding import rounded
from raysweep.storage.run_folder import RunFolder


@pytest.mark.parametrize("models", [["b", "a", None, "b", "c"], [*"abac"], [*"aacb"], [None, None], []])
def test_a_tables_digest_depends_only_on_its_values(tmp_path, monkeypatch, models):
    """Cases: plain text, codes into a list of names in another order (some unused), and codes in order of appearance.

    Order of appearance is checked in blocks of rows, and the first difference may be between two blocks (`aa|cb`).
    """
    monkeypatch.setattr(inputs, "_ROWS_PER_BLOCK", 2)
    folder, plain = RunFolder(tmp_path / "run"), pa.array(models, pa.string())
    columns = [plain, plain.dictionary_encode()]
    for names in (["z", "c", "b", "a"], ["a", "b", "c"]):
        codes = pa.array([None if model is None else names.index(model) for model in models], pa.int32())
        columns.append(pa.DictionaryArray.from_arrays(codes, names))
    folder.losses.parent.mkdir(parents=True)
    digests = set()
    for column in columns:
        for rows in (2, 100):
            table = pa.table({"model": column, "nats": [0.5] * len(models)})
            pq.write_table(table, folder.losses, row_group_size=rows)
            digests |= {describe_inputs(folder, []).files["evaluation/losses.parquet"]}
    assert len(digests) == 1


@pytest.mark.parametrize("learners", [["ann", None, "bob", "ann", None], [None] * 5])
def test_a_published_table_has_the_digest_of_its_source(tmp_path, learners):
    """Texts become lengths, ids are removed, learners and prompts are numbered; a copy of the copy is the same."""
    folder, copy, again = (RunFolder(tmp_path / name) for name in ("run", "copy", "again"))
    folder.documents.parent.mkdir(parents=True)
    columns = {
        "text": ["é", "two words", "", "b", "c"],
        "writing_id": [*"vwxyz"],
        "level": ["B1", "A1", "B1", "C1", "A1"],
    }
    columns |= {"learner": pa.array(learners, pa.string()), "prompt": ["trip", "home", "trip", "food", "home"]}
    pq.write_table(pa.table(columns), folder.documents, row_group_size=3)
    copy_inputs(folder, [], copy)
    copy_inputs(copy, [], again)
    assert describe_inputs(folder, []) == describe_inputs(copy, []) == describe_inputs(again, [])
    copied = pq.read_table(copy.documents).to_pydict()
    assert copied["characters"] == [1, 9, 0, 1, 1]
    assert copied["prompt"] == ["prompt-1", "prompt-2", "prompt-1", "prompt-3", "prompt-2"]
    assert {"text", "writing_id"}.isdisjoint(copied)


def test_tables_digested_in_a_thread_have_the_same_digests(make_run):
    """Unfinished digests are waited for when they are needed; every table has one."""
    folder, _, trials = make_run()
    with digesting_tables(folder) as tables:
        in_thread = describe_inputs(folder, trials, (), tables)
    assert in_thread == describe_inputs(folder, trials)
    assert tables.result() == {name: in_thread.files[name] for name in in_thread.files if name.endswith(".parquet")}
    assert len(tables.result()) == 2


@pytest.mark.parametrize(
    ("value", "digits"),
    [
        (999_999.9994, 999_999.999),
        (999_999.9996, 1_000_000.0),
        (1_234_567.12345, 1_234_567.123),
        (1_700_000_000.123456, 1_700_000_000.123),
        (0.000123456789012, 0.000123456789),
        (99.99999999999, 100.0),
        (1e-300 / 3, 3.33333333e-301),
        (0.0, 0.0),
    ],
)
def test_numbers_are_rounded_to_nine_digits_or_three_decimals(value, digits):
    """A clock time in seconds has ten digits before its point; -0.0 is unchanged."""
    assert rounded([value, -value]) == [digits, -digits]
    assert rounded({"of": value}) == {"of": digits}
    assert str(rounded([-0.0])) == "[-0.0]"


def test_nan_is_refused_in_evidence():
    """JSON has no value for it, and readers would take a substitute for a result."""
    holed = {"gains": [{"low": 1.0, "high": float("nan")}], "b": [float("-inf")] * 9}
    with pytest.raises(InputError, match=re.escape("evidence.gains[0].high is nan, b[0] is -inf, b[1] is -inf: ")):
        rounded(holed)
    assert rounded({"b": [0.1234567894], "a": 1e300}) == {"a": 1e300, "b": [0.123456789]}
