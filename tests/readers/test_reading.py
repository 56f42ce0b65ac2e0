"""The same records come out of every format, row by row, and nothing is lost on the way."""

import codecs
import csv
from contextlib import ExitStack

import pytest

from raysweep.config.data_settings import ColumnsConfig, DataConfig
from raysweep.corpus.corpus_rows import read_corpus
from raysweep.corpus.new_texts import read_new_texts
from raysweep.corpus.quarantine import count_by_reason
from raysweep.errors import InputError
from raysweep.readers import json_files
from raysweep.readers.csv_files import fields_up_to
from raysweep.readers.locations import find_files
from tests.readers.small_files import (
    COLUMNS,
    FORMS,
    RECORDS,
    delimited,
    json_lines,
    json_list,
    parquet,
    workbook,
    zipped,
)


def corpus_of(folder, name, content, data=None):
    path = folder / name
    path.write_bytes(content)
    return read_corpus(path, data or DataConfig())


def records_of(corpus):
    return [tuple(row.values()) for row in corpus.documents.select(["writing_id", "l1", "level", "text"]).to_pylist()]


@pytest.mark.parametrize(("name", "content"), FORMS.values(), ids=FORMS)
def test_every_format_is_recognised_by_content_and_gives_the_same_documents(tmp_path, name, content):
    """The texts contain quotes, line breaks, tabs and emoji."""
    corpus = corpus_of(tmp_path, name, content)
    assert records_of(corpus) == RECORDS
    assert corpus.bad_rows == ()
    assert corpus.row_of.tolist() == [1, 2, 3]


BAD = [*RECORDS[:1], ("", "Thai", "A1", "No id."), ("4", "Thai", "Z9", "No level."), *RECORDS[1:], ("6", "", "A1", "")]


@pytest.mark.parametrize(
    ("name", "content"),
    {
        "csv": ("a.csv", delimited(",", BAD)),
        "tsv": ("a.tsv", delimited("\t", BAD)),
        "jsonl": ("a.jsonl", json_lines(BAD)),
        "json": ("a.json", json_list(BAD)),
        "parquet": ("a.parquet", parquet(BAD)),
        "xlsx": ("a.xlsx", workbook({"S": [COLUMNS, *BAD]})),
    }.values(),
)
def test_every_row_becomes_a_document_or_a_quarantine_entry_with_its_place(tmp_path, name, content):
    """Rows are counted from 1, without the header, in every format alike."""
    corpus = corpus_of(tmp_path, name, content)
    assert records_of(corpus) == RECORDS
    assert [(bad.file, bad.row, bad.reason) for bad in corpus.bad_rows] == [
        (name, 2, "missing value"), (name, 3, "unknown level"), (name, 6, "empty text"),
    ]  # fmt: skip
    assert corpus.rows == len(BAD)


def test_broken_json_lines_are_quarantined_and_others_are_kept(tmp_path):
    """One broken line of a large download is no reason to refuse it."""
    good = json_lines().splitlines()
    nested = b'{"writing_id": "9", "l1": "Thai", "cefr_level": "A1", "text": {"draft": "Hi."}}'
    twice = b'{"writing_id": "9", "writing_id": "8", "l1": "Thai", "cefr_level": "A1", "text": "Hi."}'
    half = b'{"writing_id": "9", "l1": "Thai", "cefr_level": "A1", "text": "\\ud800"}'
    content = b"\n".join([good[0], b'{"writing_id": "7", "text', b"", *good[1:], nested, b"[1]", twice, half])
    corpus = corpus_of(tmp_path, "a.jsonl", content)
    assert records_of(corpus) == RECORDS
    assert [(bad.row, bad.reason) for bad in corpus.bad_rows] == [
        (2, "not JSON"), (5, "nested value"), (6, "not JSON"), (7, "not JSON"), (8, "not UTF-8"),
    ]  # fmt: skip
    assert corpus.rows == 8


def test_the_fast_and_the_strict_json_lines_readers_agree(tmp_path, monkeypatch):
    """Numbers, missing keys, null, a text longer than a block, and keys of no use here."""
    long = "word " * 40_000
    lines = [
        '{"writing_id": 1, "l1": null, "cefr_level": "A1", "text": "' + long + '", "edits": [[0, [[3, 3, ","]]]]}',
        '{"cefr_level": "B1", "text": "caf\\u00e9", "writing_id": 22, "extra": {"a": 1.5}}',
    ]
    content = ("\n".join(lines) + "\n").encode()
    monkeypatch.setattr(json_files, "BLOCK_BYTES", 1 << 16)
    fast = corpus_of(tmp_path, "a.jsonl", content)
    monkeypatch.setattr(json_files, "_read_fast", lambda *_: None)
    careful = corpus_of(tmp_path, "a.jsonl", content)
    assert fast.documents.equals(careful.documents)
    assert records_of(fast) == [("1", "unknown", "A1", long), ("22", "unknown", "B1", "café")]


def test_numbers_and_categories_are_converted_to_text_as_a_person_writes_them(tmp_path):
    """A workbook stores 12 as 12.0, Parquet may hold categories and whole numbers."""
    rows = [["writing_id", "l1", "cefr_level", "text"], [12, "Thai", "A1", "Hi."], [13.5, "Thai", "A1", 42]]
    assert records_of(corpus_of(tmp_path, "a.xlsx", workbook({"S": rows}))) == [
        ("12", "Thai", "A1", "Hi."), ("13.5", "Thai", "A1", "42"),
    ]  # fmt: skip
    numbers = [(1.0, "Thai", "A1", "Hi."), (2.0, "Thai", "A1", "Ho.")]
    assert [row[0] for row in records_of(corpus_of(tmp_path, "a.parquet", parquet(numbers)))] == ["1", "2"]


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.parquet", parquet), ("a.jsonl", json_lines), ("a.json", json_list)],
)
def test_a_number_that_is_missing_is_an_empty_cell(tmp_path, name, write):
    """pandas stores a column of whole numbers with missing values as floats with NaN; 'nan' would be one learner."""
    nan, columns = float("nan"), ("writing_id", "score", "cefr_level", "text")
    data = DataConfig(columns={"score": "score"})
    rows = [(1.0, 7.0, "A1", "Hi."), (2.0, nan, "A1", "Ho."), (3.0, 8.0, "A1", "Hu.")]
    assert corpus_of(tmp_path, name, write(rows, columns), data).documents["score"].to_pylist() == ["7", None, "8"]
    rows = [(1.0, 7.5, "A1", "Hi."), (2.0, nan, "A1", "Ho."), (3.0, 1e300, "A1", "Hu.")]
    scores = corpus_of(tmp_path, name, write(rows, columns), data).documents["score"].to_pylist()
    assert (scores[:2], float(scores[2])) == (["7.5", None], 1e300)


def test_the_configured_encoding_is_used_and_never_guessed(tmp_path):
    """Latin-1 read as UTF-8 is set aside row by row; with `data.encoding` all of it is read."""
    content = delimited(",", [("1", "French", "A1", "Café déjà vu"), ("2", "French", "A1", "Plain")]).decode()
    corpus = corpus_of(tmp_path, "a.csv", content.encode("latin-1"))
    assert count_by_reason(corpus.bad_rows) == {"not UTF-8": 1}
    for encoding, mark in (("cp1252", b""), ("utf-16", b""), ("utf-16-le", codecs.BOM_UTF16_LE)):
        read = corpus_of(tmp_path, "a.csv", mark + content.encode(encoding), DataConfig(encoding=encoding))
        assert read.documents["text"].to_pylist() == ["Café déjà vu", "Plain"]
    with pytest.raises(InputError, match=r"a\.csv line 2: found the byte 0xC3, which is not ascii"):
        corpus_of(tmp_path, "a.csv", content.encode(), DataConfig(encoding="ascii"))


def test_a_configured_format_is_not_detected(tmp_path):
    """A CSV whose first column begins with a bracket looks like JSON."""
    content = b"{n},l1,cefr_level,text\nx,Thai,A1,Hi.\n"
    with pytest.raises(
        InputError, match=r"is not JSON: Expecting property name enclosed in double quotes at line 1, column 2"
    ):
        corpus_of(tmp_path, "a.csv", content)
    assert records_of(corpus_of(tmp_path, "a.csv", content, DataConfig(format="csv"))) == [
        ("row00000001", "Thai", "A1", "Hi.")
    ]


@pytest.mark.parametrize("root", ["body", "head", "meta-data"])
def test_xml_is_no_web_page_although_a_name_is_one_of_html(tmp_path, root):
    """A learner corpus may have such an element."""
    texts = "".join(f'<writing id="{n}" level="{n}"><text>Hello, I am {n}.</text></writing>' for n in (1, 4))
    (tmp_path / "a.xml").write_text(f"<{root}>{texts}</{root}>")
    assert read_new_texts([tmp_path / "a.xml"], DataConfig()).documents.num_rows == 2


def test_quotation_marks_are_plain_characters_if_quotes_are_off(tmp_path):
    """Tables of tweets or of sentences are often written so."""
    content = b'writing_id\tl1\tcefr_level\ttext\n1\tThai\tA1\t"Hi" she said\n2\tThai\tA1\t5" long\n'
    assert count_by_reason(corpus_of(tmp_path, "a.tsv", content).bad_rows) == {"misplaced quotes": 2}
    corpus = corpus_of(tmp_path, "a.tsv", content, DataConfig(quotes="none"))
    assert corpus.documents["text"].to_pylist() == ['"Hi" she said', '5" long']


def test_several_files_form_one_corpus_and_rows_keep_their_place(tmp_path):
    """They may have different formats, and be named, matched by a glob, or in a folder or an archive."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.csv").write_bytes(delimited(",", RECORDS[:1]))
    (tmp_path / "d" / "b.jsonl").write_bytes(json_lines([*RECORDS[1:], ("1", "Thai", "A1", "The id of a.csv.")]))
    (tmp_path / "d" / "README.txt").write_text("No data.")
    for path in (str(tmp_path / "d"), f"{tmp_path}/d/[ab].*", [f"{tmp_path}/d/a.csv", f"{tmp_path}/d/b.jsonl"]):
        corpus = read_corpus(find_files(path), DataConfig())
        assert records_of(corpus) == RECORDS
        assert list(zip(corpus.file_of.tolist(), corpus.row_of.tolist(), strict=True)) == [(0, 1), (1, 1), (1, 2)]
        (bad,) = corpus.bad_rows
        assert (bad.file, bad.row, bad.first_row) == ("b.jsonl", 3, "a.csv row 1")
    halves = {f"part/{n}.csv": delimited(",", [record]) for n, record in enumerate(RECORDS)}
    assert records_of(corpus_of(tmp_path, "all.zip", zipped(halves))) == RECORDS


def test_every_file_must_have_the_columns_of_the_first_file(tmp_path):
    """Otherwise half of the ids would be row numbers."""
    content = zipped({"a.csv": delimited(","), "b.csv": b"cefr_level,text\nA1,Hi.\n"})
    with pytest.raises(InputError, match=r"all\.zip: b\.csv: no column 'writing_id'; no column 'l1'\. Found"):
        corpus_of(tmp_path, "all.zip", content)


def test_missing_ids_and_first_languages_are_filled_in_and_noted(tmp_path):
    """Ids are then the rows, first languages are unknown, and both are said."""
    content = b"cefr_level,text,grade\nA1,Hi.,5\nB1,Ho.,6\n"
    corpus = corpus_of(tmp_path, "a.csv", content)
    assert records_of(corpus) == [("row00000001", "unknown", "A1", "Hi."), ("row00000002", "unknown", "B1", "Ho.")]
    assert corpus.notes == {
        "documents are named by their rows, for there are no ids: another order is another corpus": 2,
        "documents have no first language: taken as 'unknown'": 2,
        "documents have no known learner: one writer's texts may be in two splits, and intervals count texts": 2,
        "columns are there and not used: grade": 1,
    }
    several = corpus_of(tmp_path, "a.zip", zipped({"a.csv": content, "b.csv": content}))
    assert several.documents["writing_id"].to_pylist() == [
        "1-row00000001", "1-row00000002", "2-row00000001", "2-row00000002",
    ]  # fmt: skip


def test_a_configured_column_must_exist(tmp_path):
    """Only usual names may be missing; a name that somebody typed is no guess."""
    with pytest.raises(InputError, match=r"no column 'l_1' \(did you mean 'l1'\?\)"):
        corpus_of(tmp_path, "a.csv", delimited(","), DataConfig(columns=ColumnsConfig(l1="l_1")))


def test_levels_match_in_any_case_and_can_be_left_out(tmp_path):
    """Rows that are left out are listed, and are no bad rows."""
    levels = ["a1", "A1", "c2", "", "B1", "Z9"]
    records = [(str(n), "Thai", level, f"Text {n}.") for n, level in enumerate(levels)]
    corpus = corpus_of(tmp_path, "a.csv", delimited(",", records), DataConfig(leave_out=("C2", "")))
    assert corpus.documents["level"].to_pylist() == ["A1", "A1", "B1"]
    assert count_by_reason(corpus.bad_rows) == {"level left out": 2, "unknown level": 1}


def test_concurrent_header_reads_keep_the_csv_field_size_limit():
    """The csv module has one limit for the process; after all of them it is what it was."""
    before = csv.field_size_limit()
    first, second = ExitStack(), ExitStack()
    first.enter_context(fields_up_to(2_000_000))
    second.enter_context(fields_up_to(1_000_000))
    first.close()
    assert csv.field_size_limit() == 1_000_000
    second.close()
    assert csv.field_size_limit() == before
