"""Reading losses.parquet."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysweep.errors import InputError
from raysweep.statistics import loss_table
from raysweep.statistics.loss_table import KINDS, read_losses

ROWS = [
    # model, level, document, kind, part, nats, tokens
    ("general", "B1", 7, "word", "answer", 4.0, 2),
    ("general", "B1", 7, "word", "end", 1.0, 1),
    ("general", "B1", 7, "ngram", "answer", 3.0, 2),
    ("general", "B1", 7, "", "context", 30.0, 10),
    ("general", "A1", 3, "", "context", 20.0, 9),
    ("B1", "A1", 3, "", "context", 22.0, 9),
    ("B1", "B1", 7, "", "context", 33.0, 10),
    ("B1", "B1", 7, "ngram", "answer", 2.5, 2),
    ("B1", "B1", 7, "word", "end", 0.5, 1),
    ("B1", "B1", 7, "word", "answer", 3.5, 2),
]


def written(tmp_path, rows):
    columns = ("model", "level", "document", "kind", "part", "nats", "tokens")
    path = tmp_path / "losses.parquet"
    pq.write_table(pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))), path)
    return path


def test_losses_are_summed_per_document_and_metric(tmp_path):
    """infill counts answers and their ends, infill_textonly the text of answers, context the rest."""
    table = read_losses(written(tmp_path, ROWS), ["A1", "B1", "C1"])
    assert (table.models, table.levels) == (("general", "B1"), ("A1", "B1"))
    b1 = table.select("infill")["B1"]
    assert (b1.documents.tolist(), b1.tokens.tolist(), b1.nats.tolist()) == ([7], [5], [[8.0, 6.5]])
    assert table.select("infill_textonly")["B1"].nats.tolist() == [[7.0, 6.0]]
    assert table.select("context")["A1"].nats.tolist() == [[20.0, 22.0]]
    assert table.select("infill", "ngram")["B1"].tokens.tolist() == [2]


def test_bytes_are_summed_if_they_were_counted(tmp_path):
    """Scores of an earlier version lack them, which is no error: bits per byte are left out."""
    path = written(tmp_path, ROWS)
    assert read_losses(path, ["A1", "B1"]).select("infill")["B1"].bytes is None
    table = pq.read_table(path)
    sizes = pa.array([0 if row[4] == "end" else 4 * row[6] for row in ROWS])
    pq.write_table(table.append_column("bytes", sizes), path)
    assert read_losses(path, ["A1", "B1"]).select("infill")["B1"].bytes.tolist() == [16]
    assert read_losses(path, ["A1", "B1"]).select("context")["A1"].bytes.tolist() == [36]
    pq.write_table(table.append_column("bytes", pa.array([None, *sizes.to_pylist()[1:]], pa.int64())), path)
    with pytest.raises(InputError, match="column 'bytes' has rows without a value"):
        read_losses(path, ["A1", "B1"])


def test_row_order_does_not_change_the_sums_bitwise(tmp_path):
    """Pairs of kind and part are added in one order, whatever the order of rows; documents are sorted."""
    rows = [("m", "B1", d, k, p, 0.1 * d + 1 / 3, 2) for d in (9, 4) for k in KINDS for p in ("answer", "end")]
    (there, back) = (read_losses(written(tmp_path, some), ["B1"]).select("infill")["B1"] for some in (rows, rows[::-1]))
    assert (there.documents.tolist(), there.tokens.tolist()) == ([4, 9], [20, 20])
    assert (there.nats == back.nats).all()


def test_a_document_without_an_answer_is_not_counted(tmp_path):
    """A1's only document has no blank, so the level has no test documents for infilling."""
    assert list(read_losses(written(tmp_path, ROWS), ["A1", "B1"]).select("infill")) == ["B1"]


def test_dictionary_encoded_names_are_read_like_plain_ones(tmp_path):
    """Writers may encode repeated names; the sums do not depend on it."""
    path = written(tmp_path, ROWS)
    table = pq.read_table(path)
    for index, name in enumerate(table.column_names):
        if pa.types.is_string(table.schema.field(name).type):
            table = table.set_column(index, name, table.column(name).dictionary_encode())
    plain = read_losses(path, ["A1", "B1"]).select("infill")["B1"].nats.tolist()
    pq.write_table(table, path)
    assert read_losses(path, ["A1", "B1"]).select("infill")["B1"].nats.tolist() == plain
    assert read_losses(path, ["B1"], only="B1").select("infill")["B1"].nats.tolist() == plain


@pytest.mark.parametrize("rows", [ROWS, sorted(ROWS, key=lambda row: row[1])])
def test_a_file_read_in_batches_gives_the_same_table(tmp_path, monkeypatch, rows):
    """Parts begin within and between row groups; names, levels and documents continue across parts."""
    path = written(tmp_path, rows)
    whole, b1 = (read_losses(path, ["A1", "B1"], only=only) for only in (None, "B1"))
    monkeypatch.setattr(loss_table, "_ROWS_PER_BATCH", 2)
    pq.write_table(pq.read_table(path), path, row_group_size=3)
    for before, only in ((whole, None), (b1, "B1")):
        after = read_losses(path, ["A1", "B1"], only=only)
        assert (after.models, after.levels, after.documents.tolist()) == (
            before.models,
            before.levels,
            before.documents.tolist(),
        )
        assert (after.kinds.tolist(), after.parts.tolist()) == (before.kinds.tolist(), before.parts.tolist())
        assert (after.nats.tolist(), after.tokens.tolist()) == (before.nats.tolist(), before.tokens.tolist())
    assert (b1.levels, b1.documents.tolist(), b1.nats.sum()) == (("B1",), [7], 77.5)


def test_row_groups_of_other_levels_are_not_read(tmp_path):
    """In a file sorted by level, reading one level reads only its rows; other rows may be damaged."""
    path = written(tmp_path, sorted(ROWS, key=lambda row: row[1]))
    pq.write_table(pq.read_table(path), path, row_group_size=2, write_page_checksum=True)
    first = pq.ParquetFile(path).metadata.row_group(0).column(0)
    content = bytearray(path.read_bytes())
    content[first.data_page_offset + first.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(OSError, match="CRC"):
        read_losses(path, ["A1", "B1"])
    assert read_losses(path, ["B1"], only="B1").documents.tolist() == [7]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:-1], "document 7: model 'B1' was scored on 3 tokens, model 'general' on 5"),
        (
            [*ROWS[:-1], ("B1", "B1", 7, "word", "answer", float("nan"), 2)],
            "model 'B1', document 7: found a loss of nan",
        ),
        ([*ROWS, ("B1", "X9", 8, "word", "end", 1.0, 1)], "found level 'X9'; known levels are A1, B1"),
        ([*ROWS, ("B1", "B1", 7, None, "end", 1.0, 1)], "column 'kind' has rows without a value"),
        ([*ROWS, ("B1", "B1", 7, "word", "end", None, 1)], "column 'nats' has rows without a value"),
        ([*ROWS, ("B1", "B1", 7, "word", "end", 1.0, None)], "column 'tokens' has rows without a value"),
        ([*ROWS, ("B1", "A1", 7, "word", "end", 1.0, 1)], "document 7: has rows of level 'B1' and of level 'A1'"),
    ],
)
def test_incomparable_losses_are_refused(tmp_path, rows, message):
    """Cases: other masks, a loss that is not finite, an unknown level; the message names model and document."""
    with pytest.raises(InputError, match=message):
        read_losses(written(tmp_path, rows), ["A1", "B1"]).select("infill")


@pytest.mark.parametrize("at_once", [1, 100])
def test_a_document_on_two_levels_is_refused(tmp_path, monkeypatch, at_once):
    """It is refused wherever its rows are; otherwise it would count for the level of its last row."""
    monkeypatch.setattr(loss_table, "_ROWS_PER_BATCH", at_once)
    rows = [("m", "A1", 7, "", "context", 1.0, 1), ("m", "B1", 7, "", "context", 1.0, 1)]
    for some in (rows, [*rows, rows[0]]):
        with pytest.raises(InputError, match=r"document 7: has rows of level '(A1|B1)' and of level '(?!\1)(A1|B1)'"):
            read_losses(written(tmp_path, some), ["A1", "B1"])


def test_a_file_without_rows_of_the_level_is_refused_with_its_levels(tmp_path):
    """The file is valid, but was made with another selection of levels."""
    with pytest.raises(InputError, match=r"has no rows of level 'C1' \(it has A1, B1\); evaluate again"):
        read_losses(written(tmp_path, ROWS), ["C1"], only="C1")


def test_a_missing_file_column_or_row_is_reported_with_the_fix(tmp_path):
    """Each message names the file."""
    with pytest.raises(InputError, match="run the evaluate stage first"):
        read_losses(tmp_path / "losses.parquet", ["A1"])
    path = written(tmp_path, ROWS)
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["part"]), path)
    with pytest.raises(InputError, match="column 'part' is missing"):
        read_losses(path, ["A1"])
    pq.write_table(table.slice(0, 0), path)
    with pytest.raises(InputError, match="has no rows"):
        read_losses(path, ["A1"])
