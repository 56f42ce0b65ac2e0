"""Published splits are taken as they are, and checked as strictly as one's own."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysweep.config.data_settings import ColumnsConfig, DataConfig
from raysweep.corpus.preparing import prepare_corpus
from raysweep.corpus.published_splits import read_splits
from raysweep.corpus.splits import SPLITS
from raysweep.errors import InputError
from tests.corpus.odd_csv import csv_bytes

HEADER = ("writing_id", "l1", "cefr_level", "text", "part")
PART = DataConfig(columns=ColumnsConfig(split="part"))


def write(path, parts, text="Text number {n} of a writer."):
    path.write_bytes(csv_bytes([(n, "Thai", "A1", text.format(n=n), part) for n, part in enumerate(parts)], HEADER))


def test_split_names_are_recognised_and_can_be_configured():
    """Names are recognised in upper and lower case and in file names; a name with two splits is unknown."""
    column = pa.chunked_array([["Train", "dev", "validation", "TEST", "heldout", "pilot", "dev-test", ""]])
    splits_read = [SPLITS[place] if place >= 0 else "" for place in read_splits(column, {"pilot": "train"})]
    assert splits_read == ["train", "valid", "valid", "test", "test", "train", "", ""]
    files = pa.chunked_array([["A.train", "CEFR-SP_SCoRE_dev", "train_and_test", "essays"]])
    assert read_splits(files, {}, in_file_names=True).tolist() == [0, 1, -1, -1]


def test_documents_stay_in_their_published_split(folder, tmp_path):
    """No document is moved."""
    parts = ["train"] * 30 + ["dev"] * 6 + ["test"] * 4
    write(tmp_path / "a.csv", parts)
    summary = prepare_corpus(tmp_path / "a.csv", folder, PART, seed=0)
    assert summary.counts["A1"] == {"train": 30, "valid": 6, "test": 4}
    rows = pq.read_table(folder.documents).to_pylist()
    assert all(
        row["split"] == {"dev": "valid"}.get(parts[int(row["writing_id"])], parts[int(row["writing_id"])])
        for row in rows
    )
    assert all(row["prompt"] is None for row in rows)


def test_leaks_between_published_splits_are_counted_but_no_document_moves(folder, tmp_path):
    """A text of train that is in test too: counted, so that the report gives no verdict."""
    parts = ["train"] * 30 + ["dev"] * 6 + ["test"] * 4
    write(tmp_path / "a.csv", parts, text="The same text by everybody, word for word.")
    summary = prepare_corpus(tmp_path / "a.csv", folder, PART, seed=0)
    assert summary.documents == 40
    leakage = json.loads(folder.leakage.read_text())
    assert leakage["texts_in_two_splits"] == 1
    assert leakage["leaky_test_documents"] == 4


def test_a_row_with_an_unknown_split_name_is_quarantined(folder, tmp_path):
    """If there are too many such rows, the message names the split."""
    write(tmp_path / "a.csv", ["train"] * 30 + ["pilot"] * 6 + ["test"] * 4)
    with pytest.raises(InputError, match=r"row 31, column 'part': found 'pilot'; must be train, valid \(dev\) or test"):
        prepare_corpus(tmp_path / "a.csv", folder, PART, seed=0)
    data = PART.model_copy(update={"split_names": {"pilot": "valid"}})
    assert prepare_corpus(tmp_path / "a.csv", folder, data, seed=0).counts["A1"]["valid"] == 6


def test_missing_validation_documents_are_taken_from_train(folder, tmp_path):
    """A ninth of train becomes valid, as the shares say; test is not changed."""
    write(tmp_path / "a.csv", ["train"] * 90 + ["test"] * 10)
    summary = prepare_corpus(tmp_path / "a.csv", folder, PART, seed=0)
    assert summary.counts["A1"]["test"] == 10
    assert summary.counts["A1"]["valid"] == pytest.approx(10, abs=1)


@pytest.mark.parametrize(("parts", "lacks"), [(["train"] * 9, "test"), (["test"] * 9, "train")])
def test_published_splits_without_train_or_test_documents_are_refused(folder, tmp_path, parts, lacks):
    """The message names the setting that maps names to splits."""
    write(tmp_path / "a.csv", parts)
    with pytest.raises(InputError, match=f"no document is in {lacks} .*such as {{dev: {lacks}}}, or leave out"):
        prepare_corpus(tmp_path / "a.csv", folder, PART, seed=0)
