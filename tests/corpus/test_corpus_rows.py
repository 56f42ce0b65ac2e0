"""What a corpus CSV may look like, what is set aside from it, and what is said of one that cannot be used."""

import csv
import gzip
import os
from pathlib import Path

import pytest

from raysweep.config.data_settings import ColumnsConfig, DataConfig
from raysweep.corpus.corpus_rows import read_corpus
from raysweep.corpus.quarantine import LEFT_OUT, count_by_reason, write_quarantine
from raysweep.errors import InputError
from tests.corpus.odd_csv import csv_bytes, refuse_bad_rows

HEADER = b"writing_id,l1,cefr_level,text\n"
GOOD = b"1,Spanish,A1,I am here.\n2,German,B1,We were there.\n"
SHARED = Path(os.environ.get("RAYSWEEP_SHARED", Path(__file__).parents[2] / ".." / "shared"))

# name, the file's name, its bytes (None: a folder; missing if absent), the message with {path}
BROKEN_FILES = [
    ("nothing in it", "corpus.csv", b"", "{path}: is empty; must hold a header and a row per document"),
    ("only line breaks", "corpus.csv", b"\n \n", "{path}: is empty; must hold a header and a row per document"),
    ("only a header", "corpus.csv", HEADER, "{path}: has a header and no rows"),
    (
        "a misspelt column",
        "corpus.csv",
        b"writing_id,l1,CEFR Level,text\n" + GOOD,
        "{path}: no column 'cefr_level' (did you mean 'CEFR Level'?). Found the columns 'writing_id', 'l1', "
        "'CEFR Level', 'text'. Name yours in data.columns",
    ),
    (
        "two columns missing",
        "corpus.csv",
        b"writing_id,grade,essay,cefr_level\n1,2,3,4\n",
        "{path}: no column 'text'. Found the columns 'writing_id', 'grade', 'essay', "
        "'cefr_level'. Name yours in data.columns",
    ),
    (
        "a column twice",
        "corpus.csv",
        b"writing_id,l1,cefr_level,text,text\n1,Spanish,A1,Hi.,Ho.\n",
        "{path}: the column 'text' appears 2 times in the header; must appear once",
    ),
    (
        "UTF-16",
        "corpus.csv",
        (HEADER + GOOD).decode().encode("utf-16"),
        "{path}: is UTF-16; must be UTF-8. Say so in data.encoding: utf-16",
    ),
    (
        "UTF-16 without a mark",
        "corpus.csv",
        (HEADER + GOOD).decode().encode("utf-16-le"),
        "{path}: is UTF-16-LE; must be UTF-8. Say so in data.encoding: utf-16-le",
    ),
    (
        "a header in Latin-1",
        "corpus.csv",
        "writing_id,l1,cefr_level,text,état\n".encode("latin-1") + b"1,Spanish,A1,Hi.,x\n",
        "{path}: its header is not UTF-8. Say what it is in data.encoding, such as cp1252",
    ),
    (
        "a name that promises gzip",
        "corpus.csv.gz",
        HEADER + GOOD,
        "{path}: is not gzip data, although its name ends in .gz. Rename it if it is plain",
    ),
    (
        "gzip cut short",
        "corpus.csv.gz",
        gzip.compress(HEADER + GOOD * 50, mtime=0)[:-12],
        "{path}: its gzip data is damaged or cut short (Compressed file ended before the end-of-stream marker was "
        "reached). Copy it again",
    ),
    (
        "a spreadsheet cut short",
        "corpus.csv",
        b"PK\x03\x04\x14\x00\x06\x00",
        "{path}: its ZIP data is damaged or cut short (File is not a zip file). Copy it again",
    ),
    (
        "an open quote",
        "corpus.csv",
        HEADER + GOOD + b'3,Spanish,A2,"It never ends.\n4,German,A1,Hi.\n5,German,A1,Ho.\n',
        "corpus.csv row 3: a quote opens and never closes, so the rest of the file (4 lines) became one field. "
        'Close it, or double the quotes inside quoted text ("")',
    ),
    (
        "an open quote in an earlier column",
        "corpus.csv",
        HEADER + GOOD + b'3,"Spanish,A2,It never ends.',
        "corpus.csv row 3: a quote opens and never closes, so the rest of the file (1 line) became one field. "
        'Close it, or double the quotes inside quoted text ("")',
    ),
    (
        "JSON lines without levels",
        "corpus.json",
        b'{"text": "I am here.", "id": "1"}\n' * 40,
        "{path}: no column 'cefr_level'. Found the columns 'text', 'id'. Name yours in data.columns",
    ),
    (
        "a JSON list without levels",
        "corpus.json",
        b'[\n  {"text": "I am here."}]',
        "{path}: no column 'cefr_level'. Found the columns 'text'. Name yours in data.columns",
    ),
    (
        "a comment above the header",
        "corpus.csv",
        b"# Learner corpus, release 2, for research only\n" + HEADER + GOOD,
        "{path}: its first line is a comment; must be the header. Delete the lines that start with #",
    ),
    (
        "semicolons and other names",
        "corpus.csv",
        b'TextID;Muttersprache;Niveau;Text\n1;German;A1;"Hi; you, too."\n',
        "{path}: no column 'cefr_level'; no column 'text' (did you mean 'Text'?). Found the columns 'TextID', "
        "'Muttersprache', 'Niveau', 'Text'. Name yours in data.columns",
    ),
    (
        "tabs and no header",
        "corpus.txt",
        b"Our team paints the bridge.\t1\t1\nOur team collects the kitchen.\t2\t2\n",
        "{path}: no column 'cefr_level'; no column 'text'. Found a first line of 3 cells that looks like a "
        "text. Name yours in data.columns",
    ),
    (
        "no header",
        "corpus.csv",
        GOOD,
        "{path}: has no header: its first line holds the level 'A1', as a row does. Put a line above it that names "
        "the columns, such as writing_id,l1,cefr_level,text",
    ),
    (
        "a header of many names",
        "corpus.csv",
        ",".join(f"column{n}" for n in range(200)).encode() + b"\n1\n",
        "{path}: no column 'cefr_level'; no column 'text'. Found the columns "
        "'column0', 'column1', 'column2', 'column3', 'column4', 'column5', 'column6', 'co… (200 in all). "
        "Name yours in data.columns",
    ),
    (
        "a small gzip file that unpacks to much",
        "corpus.csv.gz",
        gzip.compress(b"\0" * (80 << 20), mtime=0),
        "{path}: its 81,557 bytes of gzip data unpack to more than 71,303,168; at most 100 times their size and 16 GiB "
        "are read. If it is a real corpus, unpack it",
    ),
]

# name, the third data row, the reason, and what is said of it
BROKEN_ROWS = [
    (
        "an unknown level",
        b"3,Spanish,B3,Hi.",
        "unknown level",
        "column 'cefr_level': found 'B3'; known levels are A1, A2, B1, B2, C1. "
        "Add it to data.levels or data.level_aliases, or to data.leave_out to do without such rows",
    ),
    ("no id", b",Spanish,A1,Hi.", "missing value", "column 'writing_id': found no value; must not be empty. "
     "Fill it in, or name another column in data.columns"),
    ("no level", b"3,Spanish,,Hi.", "missing value", "column 'cefr_level': found no value; must not be empty. "
     "Fill it in, or name another column in data.columns"),
    ("no text", b"3,Spanish,A1,", "empty text", "column 'text': found no text; must hold one. Leave such rows out"),
    ("a text of white space", b'3,Spanish,A1," \n\t"', "empty text",
     "column 'text': found no text; must hold one. Leave such rows out"),
    ("a NUL byte", b"3,Spanish,A1,Hi\x00.", "NUL byte",
     "column 'text': found a NUL byte; must not hold any. Remove them"),
    ("Latin-1", "3,Spanish,A1,Café.".encode("latin-1"), "not UTF-8",
     "column 'text': is not UTF-8. If the whole file has another encoding, say so in data.encoding, such as cp1252"),
    ("a half of a surrogate pair", b"3,Spanish,A1,\xed\xa0\x80", "not UTF-8",
     "column 'text': is not UTF-8. If the whole file has another encoding, say so in data.encoding, such as cp1252"),
    ("an id again", b" 1 ,Spanish,A1,Hi.", "duplicate id",
     "column 'writing_id': found ' 1 '; row 1 has the same id. Give every document its own"),
    ("a field too few", b"3,Spanish,A1", "wrong number of fields", "found 3 fields instead of 4. "
     "Texts with commas, quotes or newlines must be quoted, with quotes inside them doubled"),
    ("an unquoted comma", b"3,Spanish,A1,Hi, you, there.", "wrong number of fields",
     "found 6 fields instead of 4. "
     "Texts with commas, quotes or newlines must be quoted, with quotes inside them doubled"),
    ("a long text in the wrong place", b"3,Spanish," + b"x" * 90 + b",Hi.", "unknown level",
     "column 'cefr_level': found a long value; known levels are A1, A2, B1, B2, C1. "
     "Add it to data.levels or data.level_aliases, or to data.leave_out to do without such rows"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "message"), [row[1:] for row in BROKEN_FILES], ids=[r[0] for r in BROKEN_FILES]
)
def test_an_unusable_file_is_refused_with_the_reason_and_the_fix(tmp_path, name, content, message):
    """Before anything is computed, and in words that say what to do."""
    path = tmp_path / name
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_corpus(path, DataConfig())
    assert str(caught.value) == message.replace("{path}", str(path))


def test_a_missing_file_is_refused(tmp_path):
    """The message repeats the reason that the operating system gives."""
    with pytest.raises(InputError, match=r"nowhere\.csv: cannot be read \(No such file or directory\)"):
        read_corpus(tmp_path / "nowhere.csv", DataConfig())


def test_an_unreadable_file_is_refused(tmp_path, monkeypatch):
    """The message repeats the reason that the operating system gives."""
    path = tmp_path / "corpus.csv"
    path.write_bytes(HEADER + GOOD)

    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"corpus\.csv: cannot be read \(Permission denied\)"):
        read_corpus(path, DataConfig())


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize(
    ("row", "reason", "message"), [row[1:] for row in BROKEN_ROWS], ids=[r[0] for r in BROKEN_ROWS]
)
def test_a_bad_row_is_quarantined_and_other_rows_are_kept(tmp_path, row, reason, message, ending):
    """One entry in the quarantine, with its place and reason; if bad rows are too many, that is what is said."""
    path = tmp_path / "corpus.csv"
    path.write_bytes(HEADER + GOOD + row + ending + b"4,Turkish,C1,Last.\n")
    corpus = read_corpus(path, DataConfig())
    assert corpus.documents["writing_id"].to_pylist() == ["1", "2", "4"]
    assert [(bad.row, bad.reason) for bad in corpus.bad_rows] == [(3, reason)]
    place = "corpus.csv row 3: " if message.startswith("found") else "corpus.csv row 3, "
    with pytest.raises(InputError) as caught:
        refuse_bad_rows(corpus, path, DataConfig(), tmp_path / "quarantine.csv")
    assert str(caught.value) == (
        f"{place}{message}\ncorpus.csv: 1 of 4 rows are bad (25.0 %; data.max_bad_fraction allows 1 %): 1 {reason}. "
        f"All of them are listed in {tmp_path / 'quarantine.csv'}"
    )


def test_a_run_continues_if_bad_rows_are_within_max_bad_fraction(tmp_path):
    """`data.max_bad_fraction` is the largest share that is accepted."""
    path = tmp_path / "corpus.csv"
    path.write_bytes(HEADER + GOOD + b"3,Spanish,B3,Hi.\n4,Spanish,A1,Hi.\n")
    corpus = read_corpus(path, DataConfig())
    refuse_bad_rows(corpus, path, DataConfig(max_bad_fraction=0.25), tmp_path / "quarantine.csv")
    with pytest.raises(InputError):
        refuse_bad_rows(corpus, path, DataConfig(max_bad_fraction=0.24), tmp_path / "quarantine.csv")


def test_a_corpus_without_any_good_row_is_always_refused(tmp_path):
    """Without a good row there is nothing to split."""
    path = tmp_path / "corpus.csv"
    path.write_bytes(HEADER + b"1,Spanish,D1,Hi.\n")
    with pytest.raises(InputError, match=r"1 of 1 rows are bad"):
        refuse_bad_rows(read_corpus(path, DataConfig()), path, DataConfig(max_bad_fraction=1.0), tmp_path / "q.csv")


def test_every_row_becomes_a_document_or_a_quarantine_entry(tmp_path):
    """With all kinds of bad rows in one file, nothing is lost and the first thing wrong with a row is named."""
    path, quarantine = tmp_path / "corpus.csv", tmp_path / "quarantine.csv"
    path.write_bytes(HEADER + GOOD + b"\n".join(row for _, row, _, _ in BROKEN_ROWS) + b"\n")
    corpus = read_corpus(path, DataConfig())
    assert corpus.rows == 2 + len(BROKEN_ROWS)
    assert [bad.reason for bad in corpus.bad_rows] == [reason for _, _, reason, _ in BROKEN_ROWS]
    assert sum(count_by_reason(corpus.bad_rows).values()) == len(BROKEN_ROWS)
    write_quarantine(quarantine, corpus.bad_rows)
    with quarantine.open(newline="", encoding="utf-8") as file:
        listed = list(csv.DictReader(file))
    assert [int(row["row"]) for row in listed] == list(range(3, 3 + len(BROKEN_ROWS)))
    assert listed[0] == {
        "row": "3", "writing_id": "3", "column": "cefr_level", "reason": "unknown level", "value": "'B3'",
        "file": "corpus.csv",
    }  # fmt: skip
    assert listed[-1]["value"] == "'" + "x" * 80 + "'…"


def test_the_first_good_row_of_a_duplicate_id_is_kept(tmp_path):
    """A row that is bad for another reason does not take its id away from a good one."""
    path = tmp_path / "corpus.csv"
    path.write_bytes(HEADER + b"7,Spanish,X,Bad.\n7,Spanish,A1,First.\n7,Spanish,A1,Second.\n7,Spanish,A1,Third.\n")
    corpus = read_corpus(path, DataConfig())
    assert corpus.documents["text"].to_pylist() == ["First."]
    assert [(bad.row, bad.reason, bad.first_row) for bad in corpus.bad_rows] == [
        (1, "unknown level", ""),
        (3, "duplicate id", "row 2"),
        (4, "duplicate id", "row 2"),
    ]


def test_levels_are_matched_by_name_or_alias_after_stripping_white_space(tmp_path):
    """A corpus may spell its levels in its own way."""
    path = tmp_path / "corpus.csv"
    path.write_bytes(HEADER + b"1,Spanish, A1,Hi.\n2,Spanish,beginner,Ho.\n3,Spanish,2 ,Hu.\n")
    data = DataConfig(level_aliases={"beginner": "A1", "2": "A2"})
    assert read_corpus(path, data).documents["level"].to_pylist() == ["A1", "A1", "A2"]


def test_levels_match_whatever_characters_that_nobody_sees_are_in_the_config_or_the_corpus(tmp_path):
    """An emoji may have a variation selector, and a Persian word a zero-width non-joiner."""
    path, word = tmp_path / "corpus.csv", "\u0645\u06cc\u200c\u0634\u0648\u062f"
    rows = [f"{number},Spanish,{level},Hi.\n" for number, level in enumerate(("\u2b50\ufe0f", "\u2b50", word))]
    path.write_bytes(HEADER + "".join(rows).encode())
    corpus = read_corpus(path, DataConfig(level_aliases={"\u2b50\ufe0f": "A1"}, leave_out=(word,)))
    assert corpus.documents["level"].to_pylist() == ["A1", "A1"]
    assert count_by_reason(corpus.bad_rows) == {LEFT_OUT: 1}


def test_texts_are_read_unchanged(tmp_path):
    """Quoted newlines, doubled quotes, commas, emoji, a mere number, and white space at the ends."""
    texts = [
        'Dear Ann,\n\nI am "here".\r\nBye 👋',
        "42",
        "  two  spaces ",
        "NA",
        "null",
        '"',
        "日本語、です。",
        "a\u2028b",
    ]
    path = tmp_path / "my corpus's.csv"
    path.write_bytes(csv_bytes([(i, "unknown", "A1", text) for i, text in enumerate(texts)]))
    corpus = read_corpus(path, DataConfig())
    assert corpus.documents["text"].to_pylist() == texts
    assert corpus.bad_rows == ()


FORMS = {
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "gzip": gzip.compress,
    "gzip of several members": lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:]),
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "no last line break": lambda data: data.rstrip(b"\n"),
    "empty lines": lambda data: data.replace(b"\n", b"\n\n"),
}


@pytest.mark.parametrize("wrap", FORMS.values(), ids=FORMS)
def test_byte_order_marks_compression_and_crlf_do_not_change_the_documents(tmp_path, wrap):
    """Excel's byte order mark, a compressed download, Windows' line ends."""
    plain, wrapped = tmp_path / "plain.csv", tmp_path / "wrapped.csv"
    plain.write_bytes(HEADER + GOOD)
    wrapped.write_bytes(wrap(HEADER + GOOD))
    assert read_corpus(wrapped, DataConfig()).documents.equals(read_corpus(plain, DataConfig()).documents)


def test_columns_are_found_by_their_configured_names_in_any_order(tmp_path):
    """Other releases of the corpus have other columns, and some of no use here."""
    header = ("grade", "essay", "who", "id", "mother tongue", "level", "topic")
    path = tmp_path / "corpus.csv"
    path.write_bytes(
        csv_bytes([("5", "Hi.", "w1", "x", "Thai", "A1", "t9"), ("4", "Ho.", "w2", "y", "Thai", "B1", "")], header)
    )
    columns = ColumnsConfig(
        id="id", l1="mother tongue", level="level", text="essay", learner="who", prompt="topic", score="grade"
    )  # fmt: skip
    documents = read_corpus(path, DataConfig(columns=columns)).documents.to_pylist()
    assert documents == [
        {
            "writing_id": "x",
            "l1": "Thai",
            "level": "A1",
            "learner": "w1",
            "prompt": "t9",
            "date": None,
            "score": "5",
            "text": "Hi.",
        },
        {
            "writing_id": "y",
            "l1": "Thai",
            "level": "B1",
            "learner": "w2",
            "prompt": None,
            "date": None,
            "score": "4",
            "text": "Ho.",
        },
    ]


def test_a_document_without_a_learner_is_quarantined_if_the_config_names_a_learner_column(tmp_path):
    """It could be anyone's, so it cannot be kept apart from the writer's other documents."""
    path = tmp_path / "corpus.csv"
    path.write_bytes(b"writing_id,l1,cefr_level,text,learner_id\n1,Thai,A1,Hi.,w1\n2,Thai,A1,Ho., \n")
    corpus = read_corpus(path, DataConfig(), ColumnsConfig(learner="learner_id"))
    assert [(bad.row, bad.column, bad.reason) for bad in corpus.bad_rows] == [(2, "learner_id", "missing value")]


def test_a_field_longer_than_a_parser_block_is_read(tmp_path, monkeypatch):
    """pyarrow refuses a record that does not fit its block; Python's csv module one over 131,072 characters."""
    monkeypatch.setattr("raysweep.readers.csv_files.BLOCK_BYTES", 1 << 16)
    path = tmp_path / "corpus.csv"
    path.write_bytes(csv_bytes([(1, "Thai", "A1", "word " * 60_000), (2, "Thai", "A1", "Hi.")]))
    corpus = read_corpus(path, DataConfig())
    assert [len(text) for text in corpus.documents["text"].to_pylist()] == [300_000, 3]
    assert csv.field_size_limit() == 131_072


def test_real_learner_texts_are_read_as_by_the_csv_module():
    """2,571 essays with quoted newlines, against Python's own csv module."""
    path = SHARED / "data" / "ellipse.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there; set RAYSWEEP_SHARED to the folder that holds data/ellipse.csv")
    corpus = read_corpus(path, DataConfig())
    with path.open(newline="", encoding="utf-8") as file:
        expected = [(row["writing_id"], row["cefr_level"], row["text"]) for row in csv.DictReader(file)]
    documents = corpus.documents.select(["writing_id", "level", "text"]).to_pydict()
    assert list(zip(*documents.values(), strict=True)) == expected
    assert corpus.bad_rows == ()
