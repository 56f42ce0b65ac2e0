"""Files that cannot be used: each is refused with its exact message, and nothing of a learner's text is in it."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest

from raysweep.config.data_settings import DataConfig
from raysweep.corpus.corpus_rows import read_corpus
from raysweep.errors import InputError
from raysweep.readers.locations import find_files
from tests.corpus.odd_csv import refuse_bad_rows
from tests.readers.small_files import COLUMNS, RECORDS, delimited, json_lines, json_list, parquet, workbook, zipped

SECRET = "My secret diary"
DIARY = [(n, "Thai", "A1", f"{SECRET}, page {n}.") for n in range(8)]
CSV = delimited(",", DIARY)
BOM16 = CSV.decode().encode("utf-16")
OLD = bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 504  # the start of an OLE file, in which old workbooks lie

BROKEN = {
    # name → the file's name, its bytes, the message with {path}
    "empty": ("a.csv", b"", "{path}: is empty; must hold a header and a row per document"),
    "only white space": ("a.json", b" \n\n", "{path}: is empty; must hold a header and a row per document"),
    "header only": ("a.csv", delimited(",", []), "{path}: has a header and no rows"),
    "header only, workbook": ("a.xlsx", workbook({"S": [COLUMNS]}), "{path}: has a header and no rows"),
    "header only, Parquet": (
        "a.parquet",
        None,  # made below
        "{path}: has columns and no rows",
    ),
    "no column of levels": (
        "a.csv",
        delimited(",", DIARY, ("writing_id", "l1", "grade", "text")),
        "{path}: no column 'cefr_level'. Found the columns 'writing_id', 'l1', 'grade', 'text'. Name yours in "
        "data.columns",
    ),
    "columns twice": (
        "a.csv",
        delimited(",", DIARY, ("writing_id", "l1", "cefr_level", "text")).replace(b"l1", b"text", 1),
        "{path}: the column 'text' appears 2 times in the header; must appear once",
    ),
    "columns twice, workbook": (
        "a.xlsx",
        workbook({"S": [("text", "l1", "cefr_level", "text"), *DIARY]}),
        "{path}: the column 'text' appears 2 times in the header; must appear once",
    ),
    "no header": (
        "a.csv",
        CSV.partition(b"\n")[2],
        "{path}: has no header: its first line holds the level 'A1', as a row does. Put a line above it that names the "
        "columns, such as writing_id,l1,cefr_level,text",
    ),
    "wrong delimiter": (
        "a.tsv",
        CSV,
        "{path}: no column 'cefr_level' (did you mean 'writing_id,l1,cefr_level,text'?); no column 'text'. Found the "
        "columns 'writing_id,l1,cefr_level,text'. Name yours in data.columns",
    ),
    "an open quote": (
        "a.csv",
        CSV + f'9,Thai,A1,"{SECRET}'.encode(),
        "a.csv row 9: a quote opens and never closes, so the rest of the file (1 line) became one field. Close it, or "
        'double the quotes inside quoted text ("")',
    ),
    "UTF-16": ("a.csv", BOM16, "{path}: is UTF-16; must be UTF-8. Say so in data.encoding: utf-16"),
    "UTF-16 without its mark": (
        "a.csv",
        CSV.decode().encode("utf-16-be"),
        "{path}: is UTF-16-BE; must be UTF-8. Say so in data.encoding: utf-16-be",
    ),
    "UTF-32 without its mark": (
        "a.csv",
        CSV.decode().encode("utf-32-le"),
        "{path}: is UTF-32-LE; must be UTF-8. Say so in data.encoding: utf-32-le",
    ),
    "UTF-32": (
        "a.csv",
        CSV.decode().encode("utf-32"),
        "{path}: is UTF-32; must be UTF-8. Say so in data.encoding: utf-32",
    ),
    "a file that the disk lost": (
        "a.csv",
        b"\0" * 4096,
        "{path} line 1: found 200 NUL bytes among the first 200 bytes; must be text. Copy or export it again",
    ),
    "NUL bytes in the second line": (
        "a.jsonl",
        json_lines(DIARY)[:100] + b"\0" * 100 + json_lines(DIARY)[100:],
        "{path} line 2: found 100 NUL bytes among the first 200 bytes; must be text. Copy or export it again",
    ),
    "JSON in Latin-1": (
        "a.json",
        json.dumps([dict(zip(COLUMNS, ("1", "é", "A1", SECRET), strict=True))], ensure_ascii=False).encode("latin-1"),
        "{path} line 1: is not UTF-8. Say what it is in data.encoding, such as cp1252",
    ),
    "JSON cut short": (
        "a.json",
        json_list(DIARY)[:-40],
        "{path}: is not JSON: Expecting property name enclosed in double quotes at line 48, column 2 (cut short?). "
        "Copy or export it again",
    ),
    "JSON of one object": (
        "a.json",
        json.dumps({"meta": {"text": SECRET}, "count": 2}, indent=1).encode(),
        '{path}: holds an object with the keys ["meta", "count"]; must be a list of records (in pandas: '
        "orient='records'), or hold one list",
    ),
    "JSON of columns in one line": (
        "a.json",
        json.dumps({"cefr_level": ["A1"], "text": [SECRET]}).encode(),
        '{path}: holds an object with the keys ["cefr_level", "text"]; must be a list of records (in pandas: '
        "orient='records'), or hold one list",
    ),
    "JSON Lines with commas": (
        "a.jsonl",
        b'{"text": "Hi."},\n{"text": "Ho."}\n',
        "{path}: is not JSON: Extra data at line 1, column 16. Put the records into one list, or one a line without "
        "commas",
    ),
    "a JSON list of texts": (
        "a.json",
        b"[\n[" + json.dumps(SECRET).encode() + b"]]",
        '{path}: its list holds no records; must be a list of objects, such as [{"text": …}]',
    ),
    "JSON nested without end": (
        "a.json",
        b"[" * 100_000,
        "{path}: its JSON is nested too deep; must be a list of flat records",
    ),
    "gzip cut short": (
        "a.csv.gz",
        gzip.compress(CSV, mtime=0)[:-9],
        "{path}: its gzip data is damaged or cut short (Compressed file ended before the end-of-stream marker was "
        "reached). Copy it again",
    ),
    "Zstandard cut short": (
        "a.csv.zst",
        pa.Codec("zstd").compress(CSV * 9, asbytes=True)[:-9],
        "{path}: its Zstandard data is damaged or cut short (Truncated compressed stream). Copy it again",
    ),
    "a name that promises Zstandard": (
        "a.csv.zst",
        CSV,
        "{path}: is not Zstandard data, although its name ends in .zst. Rename it if it is plain",
    ),
    "ZIP cut short": (
        "a.zip",
        zipped({"a.csv": CSV})[:-30],
        "{path}: its ZIP data is damaged or cut short (File is not a zip file). Copy it again",
    ),
    "ZIP without data": (
        "a.zip",
        zipped({"photo.png": b"x", "README.md": b"y"}),
        "{path}: holds no data file (README.md, photo.png, …); must hold files of one kind. Unpack it, and name them",
    ),
    "ZIP of two kinds": (
        "a.zip",
        zipped({"a.csv": CSV, "b.json": json_list(DIARY)}),
        "{path}: holds 2 files of 2 kinds (a.csv, b.json, …); must hold files of one kind. Unpack it, and name them",
    ),
    "a ZIP bomb": (
        "a.zip",
        zipped({"a.csv": b"\0" * (80 << 20)}),
        "{path}: a.csv: its 81,539 bytes of ZIP data unpack to more than 71,303,168; at most 100 times their size and "
        "16 GiB are read. If it is a real corpus, unpack it",
    ),
    "a password": (
        "a.zip",
        zipped({"a.csv": CSV}).replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
        "{path}: is protected by a password; must be open. Unpack it, and name the files in it",
    ),
    "a tar archive": (
        "a.tar.gz",
        gzip.compress(b"a.csv".ljust(257, b"\0") + b"ustar\x0000" + CSV),
        "{path}: is a tar archive; must be a file, or a ZIP archive of files. Unpack it: tar -xf",
    ),
    "a workbook with two sheets": (
        "a.xlsx",
        workbook({"2019": [COLUMNS, *DIARY], "2020": [COLUMNS, *DIARY]}),
        "{path}: has 2 sheets, '2019', '2020'. Name the one to read in data.sheet, or put all rows into one "
        "sheet, with a column for the level",
    ),
    "a workbook with nothing in it": (
        "a.xlsx",
        workbook({"S": []}),
        "{path}: its sheet is empty; must hold a header and a row per document",
    ),
    "an old workbook, damaged": (
        "a.xls",
        OLD,
        "{path}: its workbook is damaged or of another kind (Cannot detect file format). Copy it again",
    ),
    "an OpenDocument sheet, damaged": (
        "a.ods",
        zipped({"META-INF/manifest.xml": SECRET.encode(), "content.xml": b"x"}).replace(b"META-INF", b"META-ING", 1),
        "{path}: its workbook is damaged or of another kind (Cannot detect file format). Copy it again",
    ),
    "Parquet cut short": (
        "a.parquet",
        parquet(DIARY)[:-20],
        "{path}: its Parquet data is damaged or encrypted (Parquet magic bytes not found in footer. Either the file is "
        "corrupted or this is not a parquet file.). Copy it again",
    ),
    "a Word document": (
        "a.docx",
        zipped({"word/document.xml": f"<w:t>{SECRET}</w:t>".encode(), "[Content_Types].xml": b"<Types/>"}),
        "{path}: is a Word document; must be a table, or plain text: save each text as .txt in UTF-8, in a folder that "
        "is named like its level (A1/anna.txt)",
    ),
    "a web page that is called a workbook": (
        "a.xls",
        f"\n<TABLE><tr><td>{SECRET}</td></tr></TABLE>".encode(),
        "{path}: is an HTML page, whatever its name ends in. Save it as .xlsx or .csv in Excel",
    ),
    "a PDF": (
        "a.pdf",
        b"%PDF-1.7 " + SECRET.encode(),
        "{path}: is of a format that is not read (b'%PDF-1.7'); must be CSV, TSV, JSON, JSON Lines, Parquet, Excel or "
        "XML. Export it as one of them",
    ),
    "a text": (
        "a.txt",
        f"{SECRET}, and what I did today in the town of my aunt.\nThen we went home.\n".encode(),
        "{path}: no column 'cefr_level'; no column 'text'. Found a first line of 2 cells that looks like a "
        "text. Name yours in data.columns",
    ),
}  # fmt: skip
MIXED = {
    "mixed encodings": (
        "a.csv",
        CSV + f"9,Thai,A1,{SECRET} é\n".encode("latin-1"),
        "a.csv row 9, column 'text': is not UTF-8. If the whole file has another encoding, say so in data.encoding, "
        "such as cp1252\na.csv: 1 of 9 rows are bad (11.1 %; data.max_bad_fraction allows 1 %): 1 not UTF-8. All of "
        "them are listed in q.csv",
    ),
    "nested JSON": (
        "a.jsonl",
        json_lines(DIARY) + b'{"cefr_level": "A1", "text": {"draft": "My secret diary"}, "writing_id": 1, "l1": "x"}\n',
        "a.jsonl row 9, column 'text': found an object; must be text or a number. Flatten the records\na.jsonl: 1 of 9 "
        "rows are bad (11.1 %; data.max_bad_fraction allows 1 %): 1 nested value. All of them are listed in q.csv",
    ),
    "a broken line": (
        "a.jsonl",
        json_lines(DIARY) + b'{"text": "My secret diary\n',
        "a.jsonl row 9: is no JSON object whose keys differ. Copy or export the file again\na.jsonl: 1 of 9 rows are "
        "bad (11.1 %; data.max_bad_fraction allows 1 %): 1 not JSON. All of them are listed in q.csv",
    ),
    "Parquet with lists": (
        "a.parquet",
        parquet([("1", "Thai", "A1", [SECRET])]),
        "a.parquet row 1, column 'text': found a list; must be text or a number. Flatten the records\n"
        "a.parquet: 1 of 1 rows are bad (100.0 %; data.max_bad_fraction allows 1 %): 1 nested value. All of them are "
        "listed in q.csv",
    ),
    "a text in the place of the level": (
        "a.csv",
        CSV + f"9,Thai,{SECRET} and all that I wrote in it,A1\n".encode(),
        "a.csv row 9, column 'cefr_level': found a long value; known levels are A1, A2, B1, B2, C1. Add it to "
        "data.levels or data.level_aliases, or to data.leave_out to do without such rows\na.csv: 1 of 9 rows are bad "
        "(11.1 %; data.max_bad_fraction allows 1 %): 1 unknown level. All of them are listed in q.csv",
    ),
}  # fmt: skip
"""Files of which some rows can be read."""


@pytest.mark.parametrize(("name", "content", "message"), BROKEN.values(), ids=BROKEN)
def test_an_unusable_file_is_refused_with_the_fix(tmp_path, name, content, message):
    """This holds for every format, and before anything is computed."""
    path = tmp_path / name
    if content is None:
        content = _without_rows()
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_corpus(find_files(str(path)), DataConfig(format="tsv" if name == "a.tsv" else None))
    assert str(caught.value) == message.replace("{path}", str(path))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("name", "content", "message"), MIXED.values(), ids=MIXED)
def test_a_file_with_too_many_bad_rows_is_refused_with_the_place_of_the_first(tmp_path, name, content, message):
    """The message gives the place of the row, not its text."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        refuse_bad_rows(read_corpus(path, DataConfig()), path, DataConfig(), "q.csv")
    assert str(caught.value) == message
    assert SECRET not in str(caught.value)


def test_a_protected_workbook_is_refused(tmp_path):
    """A real .xlsx (by msoffcrypto-tool, the password is "pw"), an OpenDocument sheet, and the start of an .xls."""
    manifest = (
        '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
        '<manifest:file-entry manifest:full-path="content.xml" manifest:size="9"><manifest:encryption-data/>'
        "</manifest:file-entry></manifest:manifest>"
    )
    sheet = {
        "mimetype": b"application/vnd.oasis.opendocument.spreadsheet",
        "META-INF/manifest.xml": manifest.encode(),
        "content.xml": b"encrypted",
    }
    (tmp_path / "b.ods").write_bytes(zipped(sheet))
    (tmp_path / "c.xls").write_bytes(OLD + bytes.fromhex("09081000") + b"\0" * 16 + bytes.fromhex("2f003600"))
    for path in (Path(__file__).with_name("protected.xlsx"), tmp_path / "b.ods", tmp_path / "c.xls"):
        with pytest.raises(InputError) as caught:
            read_corpus(path, DataConfig())
        assert str(caught.value) == f"{path}: is protected by a password; must be open. Save it again without one"


def test_a_sheet_is_chosen_by_name_and_an_unknown_name_is_refused(tmp_path):
    """`data.sheet` names the sheet."""
    path = tmp_path / "a.xlsx"
    path.write_bytes(workbook({"2019": [COLUMNS, *DIARY], "2020": [COLUMNS, *RECORDS]}))
    assert read_corpus(path, DataConfig(sheet="2020")).rows == len(RECORDS)
    with pytest.raises(InputError, match=r"has no sheet '2021'; its sheets are '2019', '2020'"):
        read_corpus(path, DataConfig(sheet="2021"))


def _without_rows() -> bytes:
    import io

    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.table({name: pa.array([], pa.string()) for name in COLUMNS}), out)
    return out.getvalue()
