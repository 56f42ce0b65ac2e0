"""Quotes in the wrong place: no row vanishes, and no document is made of two rows."""

import csv
import io
import random
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raysweep.config.data_settings import DataConfig
from raysweep.corpus.corpus_rows import read_corpus
from raysweep.errors import InputError
from raysweep.readers.csv_files import WRONG_QUOTES, read_delimited
from raysweep.readers.raw_columns import ReadOptions
from tests.corpus.odd_csv import HEADER, csv_bytes, refuse_bad_rows

CELL = st.text(alphabet=st.sampled_from("ab\"\n\r, é👋\t\0'\\;"), max_size=8)
HEAD = b"writing_id,l1,cefr_level,text\n"


def records_of(content: bytes) -> list[list[bytes]]:
    """The records as Python's lenient csv module reads them, the header first."""
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="surrogateescape", newline="")
    return [[cell.encode("utf-8", "surrogateescape") for cell in record] for record in csv.reader(text) if record]


def check_against_the_csv_module(path, content: bytes) -> None:
    """Kept rows are what Python reads at the same row; every row is counted once, kept or not."""
    refusal = ""
    options = ReadOptions(choose=lambda *_: {"text": "a", "level": "b"}, levels=frozenset())
    try:
        raw = read_delimited("corpus.csv", content, options, delimiter=",")
    except InputError as error:
        refusal = str(error)
    if refusal:
        assert re.search("never closes|has a header and no rows|is UTF-16|JSON", refusal)
        return
    expected = records_of(content.removeprefix(b"\xef\xbb\xbf"))
    assert raw.rows == len(expected) - 1
    kept = [expected[row] for row in raw.row_numbers.tolist()]
    assert [list(cells.values()) for cells in raw.table.to_pylist()] == [cells[:2] for cells in kept]
    aside = [expected[bad.row] for bad in raw.malformed]
    assert all(
        bad.reason == WRONG_QUOTES or len(cells) != len(expected[0])
        for bad, cells in zip(raw.malformed, aside, strict=True)
    )
    assert all(
        bad.value.startswith(f"{len(cells)} field")
        for bad, cells in zip(raw.malformed, aside, strict=True)
        if bad.reason != WRONG_QUOTES
    )


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=6), junk=st.binary(max_size=6), tail=st.booleans()
)
def test_cells_equal_those_that_the_csv_module_reads(tmp_path_factory, rows, junk, tail):
    """Whatever stands in the cells, well quoted or followed by rubbish."""
    content = csv_bytes(rows, header=("a", "b", "c")) + (junk + b",x,y" if tail else b"")
    check_against_the_csv_module(tmp_path_factory.mktemp("csv") / "corpus.csv", content)


@settings(max_examples=300, deadline=None)
@given(content=st.text(alphabet=st.sampled_from('a",\n\r "'), max_size=30))
@example('"a"a,a\na,"a""a"\n')
def test_rows_with_sloppy_quotes_are_counted_as_the_csv_module_counts_them(tmp_path_factory, content):
    """The independent count of rows, whether they are kept or set aside."""
    check_against_the_csv_module(tmp_path_factory.mktemp("csv") / "corpus.csv", b"a,b\n" + content.encode())


ODD_ROWS = [
    ("text after the closing quote", b'3,Thai,A1,"Hi" there\n', ['3,Thai,A1,"Hi" there']),
    ("a quote in an unquoted field", b'3,Thai,A1,Hi "there"\n', ['3,Thai,A1,Hi "there"']),
    ("a space before the quote", b'3,Thai,A1, "Hi"\n', ['3,Thai,A1, "Hi"']),
    ("backslashes instead of doubled quotes", b'3,Thai,A1,"He said \\"Hi\\""\n', ['3,Thai,A1,"He said \\"Hi\\""']),
    (
        "a closing quote left out",
        b'3,Thai,A1,"I am, here.\n4,Thai,A2,You are.\n5,Thai,B1,"He, too."\n',
        ['3,Thai,A1,"I am, here.', "4,Thai,A2,You are.", '5,Thai,B1,"He, too."'],
    ),
    (
        "a field that swallows rows and is well-formed",
        b'3,Thai,A1,"I am, here.\n4,Thai,A2,You are.\n5,Thai,B1,"\n',
        ['3,Thai,A1,"I am, here.', "4,Thai,A2,You are.", '5,Thai,B1,"'],
    ),
    (
        "a quote opened in the first language",
        b'3,"Thai,A1,I am.\n4,Thai,A2,You are.\n5,Thai,B1,"He, too."\n',
        ['3,"Thai,A1,I am.', "4,Thai,A2,You are.", '5,Thai,B1,"He, too."'],
    ),
]  # fmt: skip


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize(("rows", "aside"), [row[1:] for row in ODD_ROWS], ids=[row[0] for row in ODD_ROWS])
def test_only_rows_with_misplaced_quotes_are_quarantined(tmp_path, rows, aside, ending):
    """Swallowed rows are counted and listed as rows; those before and after them are kept."""
    path = tmp_path / "corpus.csv"
    path.write_bytes(
        (HEAD + b"1,Thai,A1,First.\n" + rows + b'9,Thai,C1,"Last, ""really"".\nYes."\n').replace(b"\n", ending)
    )
    corpus = read_corpus(path, DataConfig())
    assert corpus.documents["writing_id"].to_pylist() == ["1", "9"]
    assert [bad.reason for bad in corpus.bad_rows] == ["misplaced quotes"] * len(aside)
    assert [bad.value for bad in corpus.bad_rows] == [repr(value) for value in aside]
    assert [(bad.row, bad.writing_id) for bad in corpus.bad_rows] == [(n + 2, str(n + 3)) for n in range(len(aside))]
    assert corpus.rows == 2 + len(aside)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            '3,Thai,A1,"Hi" there',
            "a quote is missing, is not doubled, or has a space before it. Texts with commas, quotes or newlines must",
        ),
        ('3,Thai,A1,"a \\"b\\""', "quotes after a backslash. Texts with commas, quotes or newlines must be quoted"),
    ],
)
def test_too_many_rows_with_misplaced_quotes_stop_the_run_with_a_fix(tmp_path, row, message):
    """The place of the first one is named, and what may be wrong with it, but nothing of its text."""
    path = tmp_path / "corpus.csv"
    path.write_bytes(HEAD + row.encode() + b"\n4,Thai,A1,Hi.\n")
    with pytest.raises(InputError) as caught:
        refuse_bad_rows(read_corpus(path, DataConfig()), path, DataConfig(), tmp_path / "quarantine.csv")
    assert str(caught.value).startswith(f"corpus.csv row 1: {message}")
    assert row not in str(caught.value)


def test_a_quoted_text_may_contain_lines_that_look_like_lists_or_levels(tmp_path):
    """Only a line with a known level in the level column looks like a row."""
    texts = ["My levels:\nA1, A2, B1, B2\nwell, so", "a\n1,2,A3,4", "b\nx,y\nA1", "c,d,A1,e\nthe first line is no row"]
    path = tmp_path / "corpus.csv"
    path.write_bytes(csv_bytes([(n, "Thai", "A1", text) for n, text in enumerate(texts)]))
    corpus = read_corpus(path, DataConfig())
    # "A1, A2, B1, B2" has the level B1 in third place: listed, not lost.
    assert corpus.documents["text"].to_pylist() == texts[1:]
    assert [bad.row for bad in corpus.bad_rows] == [1, 2]


def test_a_header_with_a_misplaced_or_unclosed_quote_is_refused(tmp_path):
    """The names of the columns would be unreliable."""
    path = tmp_path / "corpus.csv"
    path.write_bytes(b'writing_id,l1,cefr_level,text,"note"s\n1,Thai,A1,Hi.,x\n')
    with pytest.raises(InputError, match=r"its header has a quote in the wrong place\. Remove the quotes"):
        read_corpus(path, DataConfig())
    path.write_bytes(b'writing_id,l1,cefr_level,text,"note\n1,Thai,A1,Hi.,x\n')
    with pytest.raises(InputError, match=r"corpus\.csv header: a quote opens and never closes"):
        read_corpus(path, DataConfig())
    path.write_bytes(b'writing_id,l1,cefr_level,"text\n1,Thai,A1,Hi.\n')
    with pytest.raises(InputError, match=r"a quote in its header takes in the lines below\. Remove the quotes"):
        read_corpus(path, DataConfig())


def test_a_record_longer_than_the_parser_allows_is_refused(tmp_path, monkeypatch):
    """pyarrow counts the bytes of a block in 32 bits."""
    monkeypatch.setattr("raysweep.readers.csv_files.LONGEST_RECORD", 1000)
    path = tmp_path / "corpus.csv"
    path.write_bytes(csv_bytes([(1, "Thai", "A1", "x" * 1000)]))
    with pytest.raises(InputError, match=r"has a row of 1,010 bytes; at most 1,000 can be read"):
        read_corpus(path, DataConfig())


def random_corpus(rng: random.Random) -> tuple[bytes, list[str], list[str], int]:
    """A well-formed CSV whose words all name their row; its column order and quoting are random."""
    names = rng.choice([HEADER, ("writing_id", "cefr_level", "text", "l1"), ("text", "writing_id", "l1", "cefr_level")])
    count = rng.randint(2, 12)
    rows = []
    for row in range(count):
        word = f"w{row}w"
        pieces = [rng.choice(["", word, ", ", "\n", '"', " ", ",", "\r\n", '"']) for _ in range(rng.randint(1, 9))]
        cells = {
            "writing_id": rng.choice([f"i{row}w", f"i{row}w,x"]),
            "l1": rng.choice(["Thai", "Thai, Lao"]),
            "cefr_level": rng.choice(["A1", "B2"]),
            "text": "".join(pieces) + rng.choice(["", word]) + rng.choice(["", "\n", ",", word]),
        }
        rows.append([cells[name] for name in names])
    out = io.StringIO()
    quoting = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    csv.writer(out, lineterminator=rng.choice(["\n", "\r\n"]), quoting=quoting).writerows([names, *rows])
    texts = [row[names.index("text")] for row in rows]
    return out.getvalue().encode(), [row[names.index("writing_id")] for row in rows], texts, count


def damage(rng: random.Random, content: bytes) -> bytes:
    """Delete a quote, or insert one, after the header."""
    begins = content.index(b"\n") + 1
    quotes = [place for place in range(begins, len(content)) if content[place] == 34]
    if quotes and rng.random() < 0.7:
        place = rng.choice(quotes)
        return content[:place] + content[place + 1 :]
    place = rng.randint(begins, len(content))
    return content[:place] + b'"' + content[place:]


def read_damaged(path, seed: int) -> tuple[str, int, int]:
    """Read a damaged file; returns the outcome, the number of documents with two rows, and of rows lost."""
    rng = random.Random(seed)
    content, ids, _, count = random_corpus(rng)
    path.write_bytes(damage(rng, content))
    refusal = ""
    try:
        corpus = read_corpus(path, DataConfig())
    except InputError as error:
        refusal = str(error)
    if refusal:
        assert re.search("never closes|quote in the wrong place", refusal), refusal
        return "refused", 0, 0
    assert corpus.rows == corpus.documents.num_rows + len(corpus.bad_rows)
    mixed = 0
    for document in corpus.documents.to_pylist():
        names = set(re.findall(r"(?:w|i)(\d+)w", f"{document['writing_id']} {document['l1']} {document['text']}"))
        mixed += len(names) > 1
    seen = len(set(ids) & set(corpus.documents["writing_id"].to_pylist()))
    return "read", mixed, max(0, count - corpus.rows) + (seen > count)


def check_damaged(path, cases: int) -> None:
    outcomes = [read_damaged(path, seed) for seed in range(cases)]
    assert sum(mixed for _, mixed, _ in outcomes) == 0
    assert sum(vanished > 0 for _, _, vanished in outcomes) <= 0.01 * cases
    assert sum(outcome == "read" for outcome, _, _ in outcomes) > 0.5 * cases


def test_a_missing_or_extra_quote_never_mixes_two_rows(tmp_path):
    """Documents name their row in every word; the rows read are those kept and those set aside."""
    check_damaged(tmp_path / "corpus.csv", 300)


@pytest.mark.slow
def test_2_000_files_with_a_missing_or_extra_quote_never_mix_two_rows(tmp_path):
    """The full figure of BENCHMARKS.md."""
    check_damaged(tmp_path / "corpus.csv", 2000)
