"""The models' tables as one, and the matrix of perplexities."""

import math

import pandas as pd
import pyarrow.parquet as pq
import pytest

from raysweep.errors import InputError
from raysweep.evaluation.matrix import build_matrix, merge_losses, write_features, write_matrix

# Documents 1 and 2 are of A1, document 3 of B1.  Nats are chosen so that sums of tokens divide well.
CELLS = {
    "all": [
        ("A1", 1, "", "context", 20.0, 10),
        ("A1", 1, "word", "answer", 3.0, 2),
        ("A1", 1, "word", "end", 1.0, 2),
        ("A1", 2, "ngram", "answer", 7.0, 3),
        ("A1", 2, "ngram", "end", 0.5, 1),
        ("B1", 3, "sentence", "answer", 12.0, 6),
        ("B1", 3, "sentence", "end", 0.0, 1),
    ],
    "A1": [("A1", 1, "word", "answer", 2.0, 2), ("A1", 1, "word", "end", 0.5, 2)],
}


@pytest.fixture
def cells(tmp_path):
    paths = []
    for model, rows in CELLS.items():
        table = pd.DataFrame(rows, columns=["level", "document", "kind", "part", "nats", "tokens"])
        table.insert(0, "model", model)
        table.insert(3, "writing_id", "w")
        paths.append(tmp_path / "cells" / f"{model}.parquet")
        paths[-1].parent.mkdir(exist_ok=True)
        table.to_parquet(paths[-1], index=False)
    return paths


@pytest.fixture
def losses(cells, tmp_path):
    merge_losses(cells, tmp_path / "losses.parquet")
    return tmp_path / "losses.parquet"


def test_losses_contain_every_models_documents_in_the_requested_order(losses):
    """Nothing is added up yet: the statistics draw documents from it."""
    table = pd.read_parquet(losses)
    assert table["model"].tolist() == ["all"] * 7 + ["A1"] * 2
    assert table["nats"].tolist() == [row[4] for rows in CELLS.values() for row in rows]


def test_models_of_one_level_have_row_groups_apart_from_other_levels(cells, tmp_path):
    """The report reads what lies between two models level by level; the rows and their order are those of one group."""
    for name, level in (("B1@0.5", "B1"), ("B1@0.75", "B1")):
        rows = pd.read_parquet(cells[1]).assign(model=name, level=level)
        cells.append(tmp_path / "cells" / f"{name}.parquet")
        rows.to_parquet(cells[-1], index=False)
    merge_losses(cells, tmp_path / "losses.parquet")
    with pq.ParquetFile(tmp_path / "losses.parquet") as file:
        groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
    assert [group["model"].unique().to_pylist() for group in groups] == [["all"], ["A1"], ["B1@0.5", "B1@0.75"]]
    assert [group.num_rows for group in groups] == [7, 2, 4]
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "losses.parquet"), pd.concat(map(pd.read_parquet, cells), ignore_index=True)
    )


def test_a_model_without_a_loss_table_is_reported(cells, tmp_path):
    """A matrix with a row missing would be read as if the model had never been."""
    cells[1].unlink()
    with pytest.raises(InputError, match=r"A1\.parquet: not there; score the model again"):
        merge_losses(cells, tmp_path / "losses.parquet")
    assert not (tmp_path / "losses.parquet").exists()


@pytest.mark.parametrize(
    ("metric", "all_a1", "all_b1", "a1_a1"),
    [
        ("infill", math.exp(11.5 / 8), math.exp(12 / 7), math.exp(2.5 / 4)),
        ("infill_textonly", math.exp(10 / 5), math.exp(12 / 6), math.exp(2 / 2)),
        ("context", math.exp(20 / 10), math.nan, math.nan),
    ],
)
def test_perplexity_divides_the_sums_of_a_cell_once(losses, metric, all_a1, all_b1, a1_a1):
    """It is not a mean over documents or kinds; a cell without tokens is empty."""
    matrix = build_matrix(losses, metric=metric)
    assert list(matrix.index) == ["all", "A1"]
    assert list(matrix.columns) == ["A1", "B1"]
    perplexities = [matrix.loc["all", "A1"], matrix.loc["all", "B1"], matrix.loc["A1", "A1"]]
    assert perplexities == pytest.approx([all_a1, all_b1, a1_a1], nan_ok=True)
    assert math.isnan(matrix.loc["A1", "B1"])


def test_the_matrix_csv_has_a_row_per_model_and_a_column_per_level(losses, tmp_path):
    """It has a row per model and a column per level."""
    write_matrix(losses, tmp_path / "matrix.csv", metric="infill")
    wide = pd.read_csv(tmp_path / "matrix.csv")
    assert list(wide.columns) == ["model", "A1", "B1"]
    assert wide.loc[0, "A1"] == pytest.approx(math.exp(11.5 / 8))


def test_features_contain_every_models_losses_of_every_document(losses, tmp_path):
    """A row per scored document, with what identifies it and no text; a model without a loss there has NaN."""
    table = pd.read_parquet(losses)
    first = table[table["part"] == "context"].assign(part="first_context")
    pd.concat([table, first]).to_parquet(losses, index=False)
    documents = pd.DataFrame(
        {"writing_id": list("abcd"), "level": ["C1", "A1", "A1", "B1"], "split": ["train"] + ["test"] * 3, "text": "T"}
    )
    documents.to_parquet(tmp_path / "documents.parquet", index=False)
    write_features(losses, tmp_path / "documents.parquet", tmp_path / "features.parquet")
    features = pd.read_parquet(tmp_path / "features.parquet").set_index("document")
    assert list(features.columns) == [
        *("writing_id", "level", "split", "context_tokens", "infill_tokens"),
        *("context_all", "context_A1", "infill_all", "infill_A1"),
    ]
    assert features["writing_id"].to_dict() == {1: "b", 2: "c", 3: "d"}
    assert features["infill_tokens"].to_dict() == {1: 4, 2: 4, 3: 7}
    assert features["context_tokens"].to_dict() == {1: 10, 2: 0, 3: 0}
    assert features.loc[1, "context_all"] == pytest.approx(2.0)
    assert features.loc[1, "infill_A1"] == pytest.approx(2.5 / 4)
    assert math.isnan(features.loc[2, "infill_A1"])
    assert math.isnan(features.loc[2, "context_all"])
