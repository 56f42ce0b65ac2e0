"""A large corpus is read, sorted, compared and written a piece at a time; where it is cut changes no byte."""

import csv
import random

import pyarrow as pa
import pytest

from raysweep.config.data_settings import ColumnsConfig, DataConfig
from raysweep.corpus import corpus_rows, document_facts, leakage, near_duplicates, passages, preparing, sorted_documents
from raysweep.corpus.corpus_rows import read_corpus
from raysweep.corpus.preparing import prepare_corpus
from raysweep.errors import InputError
from raysweep.readers import reading
from raysweep.storage.run_folder import RunFolder
from tests.corpus.odd_csv import csv_bytes

PIECE_BYTES = 7000
NAMES = ("documents", "splits", "quarantine", "untied_texts", "leakage", "leaks")
COLUMNS = ColumnsConfig(learner="who", prompt="task")


def odd_corpus(path, sample_csv):
    """The sample in another order, with what each check complains of, and texts that nobody may divide.

    Some pieces hold no good row: rows of an export with fewer columns fill more than one, and the last row is cut off.
    """
    with sample_csv.open(newline="", encoding="utf-8") as file:
        rows = [
            [row["writing_id"], row["l1"], row["cefr_level"], row["text"], row["learner_id"], row["prompt_id"]]
            for row in csv.DictReader(file)
        ]
    rows += [[f"p{n}", "", "A1", "Thank you.", f"polite {n}", "T"] for n in range(60)]
    rows += [
        [f"l{n}", "Thai", "B1", f"One <b>two</b>\n\n &amp; “three” {n}\r\n" * 9, f"W{n % 7}", "T"] for n in range(80)
    ]
    random.Random(0).shuffle(rows)
    rows[40][2], rows[700][3], rows[900][4], rows[1200][2] = "Z9", " \u200b", "", "left"
    rows.insert(800, [f" {rows[3][0]} ", "Thai", "A1", "A text with an id that is there.", "w", "T"])
    data = csv_bytes(rows, ("writing_id", "l1", "cefr_level", "text", "who", "task"))
    lines = data.splitlines(keepends=True)
    odd = [b'x1,Thai,A1,"bad" quote,w,T\n', b"x2,Thai,A1\n", b"\n"]
    other_export = [b"y%d,Thai,A1,%s\n" % (n, b"long " * 200) for n in range(3 * PIECE_BYTES // 1000)]
    cut_off = b"z1,Thai,A1," + b"long " * (PIECE_BYTES // 4)
    path.write_bytes(b"".join([*lines[:300], *odd, *lines[300:1500], *other_export, *lines[1500:], cut_off]))


@pytest.mark.parametrize("clean", [True, None])
def test_piece_size_block_size_and_threads_do_not_change_any_byte(tmp_path, sample_csv, monkeypatch, clean):
    """Documents, rows set aside, leaks and notes are the same."""
    path = tmp_path / "corpus.csv"
    odd_corpus(path, sample_csv)
    data = DataConfig(columns=COLUMNS, leave_out=("left",), clean=clean, max_bad_fraction=0.1)
    monkeypatch.setattr(pa, "cpu_count", lambda: 1)
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    summary = prepare_corpus(path, whole, data, seed=1)
    assert len(summary.bad_rows) >= 7
    monkeypatch.setattr(pa, "cpu_count", lambda: 3)
    monkeypatch.setattr(reading, "PIECE_BYTES", PIECE_BYTES)
    monkeypatch.setattr(corpus_rows, "_IDS_AT_ONCE", 50)
    monkeypatch.setattr(leakage, "_GROUPS_AT_ONCE", 1)
    monkeypatch.setattr(passages, "_DOCUMENTS_AT_ONCE", 97)
    for module in (near_duplicates, preparing, sorted_documents):
        monkeypatch.setattr(module, "BLOCK_DOCUMENTS", 97)
    pieces = []
    monkeypatch.setattr(document_facts, "_collect_facts", _counting(document_facts._collect_facts, pieces))
    assert prepare_corpus(path, cut, data, seed=1) == summary
    assert len(pieces) > 10
    for name in NAMES:
        assert getattr(cut, name).read_bytes() == getattr(whole, name).read_bytes(), name
    assert cut.cleaned_texts.exists() == whole.cleaned_texts.exists() == bool(clean)
    if clean:
        assert cut.cleaned_texts.read_bytes() == whole.cleaned_texts.read_bytes()
    assert not list(cut.corpus.glob(".*"))


def _counting(function, calls):
    def counted(*arguments, **named):
        calls.append(arguments)
        return function(*arguments, **named)

    return counted


def test_an_unclosed_quote_is_reported_with_its_row_for_every_way_of_reading(tmp_path, monkeypatch):
    """The quote opens in one block, and the file ends many blocks later; without it all rows are read."""
    path = tmp_path / "corpus.csv"
    good = b"text,cefr_level\n" + b"Hello you.,A1\n" * 400
    for size in (1 << 20, 500):
        monkeypatch.setattr(reading, "PIECE_BYTES", size)
        path.write_bytes(good)
        assert read_corpus(path, DataConfig()).rows == 400
        path.write_bytes(good + b'"never closed,A1\n' + b"b,A2\n" * 3000)
        with pytest.raises(InputError, match=r"row 401: a quote opens and never closes.*\(3,002 lines\)"):
            read_corpus(path, DataConfig())


def test_a_record_may_span_many_blocks(tmp_path, monkeypatch):
    """The record is put together; a header without rows is refused however the file is read."""
    monkeypatch.setattr(reading, "PIECE_BYTES", 64)
    path = tmp_path / "corpus.csv"
    long = 'A "text"\r\n with lines. ' * 400
    path.write_bytes(csv_bytes([("1", "Thai", "A1", long), ("2", "Thai", "A2", "Short.")]))
    assert read_corpus(path, DataConfig()).documents["text"].to_pylist() == [long, "Short."]
    path.write_bytes(b"text,cefr_level" + b"\n" * 200)
    with pytest.raises(InputError, match="has a header and no rows"):
        read_corpus(path, DataConfig())


@pytest.mark.parametrize("content", [b"\n" * 200, b" \r\n" * 50, b"sep=;\n", b"sep=;\n" + b"\n" * 100])
def test_a_file_of_blank_lines_is_refused_for_every_way_of_reading(tmp_path, monkeypatch, content):
    """Excel's line that names the delimiter is no header."""
    path = tmp_path / "corpus.csv"
    path.write_bytes(content)
    for size in (1 << 20, 64):
        monkeypatch.setattr(reading, "PIECE_BYTES", size)
        with pytest.raises(InputError, match=r"corpus\.csv: is empty; must hold a header and a row per document"):
            read_corpus(path, DataConfig())


def test_blank_lines_before_the_header_are_skipped_for_every_way_of_reading(tmp_path, monkeypatch):
    """Blank lines may fill more than a block."""
    path = tmp_path / "corpus.csv"
    path.write_bytes(b"\n" * 192 + b"text,cefr_level\n" + b"Hello you.,A1\n" * 20)
    for size in (1 << 20, 64):
        monkeypatch.setattr(reading, "PIECE_BYTES", size)
        corpus = read_corpus(path, DataConfig())
        assert (corpus.rows, corpus.row_of.tolist()) == (20, [*range(1, 21)])


def test_the_first_file_defines_the_columns_of_files_read_in_parallel(tmp_path, monkeypatch):
    """70 files of one row each are more than are read together; ids name the file and the row."""
    monkeypatch.setattr(pa, "cpu_count", lambda: 3)
    paths = [tmp_path / f"{n:02}.csv" for n in range(70)]
    for n, path in enumerate(paths):
        path.write_text(f"text,cefr_level,other\nText number {n}.,A1,x\n")
    corpus = read_corpus(paths, DataConfig())
    assert corpus.documents["writing_id"].to_pylist() == [f"{n + 1}-row00000001" for n in range(70)]
    assert corpus.file_of.tolist() == list(range(70))
    assert corpus.files[69] == "69.csv"
