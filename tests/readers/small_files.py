"""Writes the same few records in every format, without a library that raysweep does not need."""

import csv
import gzip
import io
import json
import zipfile
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = ("writing_id", "l1", "cefr_level", "text")
RECORDS = [
    ("1", "Spanish", "A1", "I am here, and you?"),
    ("2", "German", "B1", 'We "were" there.\n\nTwo paragraphs; one semicolon.'),
    ("3", "Turkish", "C1", "Çok güzel 👋\ttab"),
]


def delimited(delimiter, records=RECORDS, columns=COLUMNS) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", delimiter=delimiter).writerows([columns, *records])
    return out.getvalue().encode()


def json_lines(records=RECORDS, columns=COLUMNS) -> bytes:
    return "".join(json.dumps(dict(zip(columns, record, strict=True))) + "\n" for record in records).encode()


def json_list(records=RECORDS, columns=COLUMNS) -> bytes:
    return json.dumps([dict(zip(columns, record, strict=True)) for record in records], indent=1).encode()


def parquet(records=RECORDS, columns=COLUMNS) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(dict(zip(columns, map(list, zip(*records, strict=True)), strict=True))), out)
    return out.getvalue()


def zipped(members) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def workbook(sheets) -> bytes:
    """An .xlsx file: sheet name → rows of strings and numbers."""
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    content = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    members = {
        "[Content_Types].xml": f'{head}<Types xmlns="{package}/content-types"><Default Extension="rels" '
        f'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{content}.sheet.main+xml"/>'
        + "".join(
            f'<Override PartName="/xl/worksheets/sheet{n}.xml" ContentType="{content}.worksheet+xml"/>'
            for n, _ in enumerate(sheets, 1)
        )
        + "</Types>",
        "_rels/.rels": f'{head}<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{relations}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'{head}<workbook xmlns="{main}" xmlns:r="{relations}"><sheets>'
        + "".join(f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in enumerate(sheets, 1))
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'{head}<Relationships xmlns="{package}/relationships">'
        + "".join(
            f'<Relationship Id="r{n}" Type="{relations}/worksheet" Target="worksheets/sheet{n}.xml"/>'
            for n, _ in enumerate(sheets, 1)
        )
        + "</Relationships>",
    }
    for number, rows in enumerate(sheets.values(), 1):
        lines = "".join(f"<row>{''.join(map(_cell, row))}</row>" for row in rows)
        members[f"xl/worksheets/sheet{number}.xml"] = (
            f'{head}<worksheet xmlns="{main}"><sheetData>{lines}</sheetData></worksheet>'
        )
    return zipped(members)


def _cell(value) -> str:
    if isinstance(value, int | float):
        return f"<c><v>{value}</v></c>"
    return f'<c t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'


FORMS = {
    "CSV": ("texts.csv", delimited(",")),
    "semicolons": ("texts.csv", delimited(";")),
    "tabs": ("texts.tsv", delimited("\t")),
    "bars": ("texts.txt", delimited("|")),
    "Excel's line about semicolons": ("texts.csv", b"\xef\xbb\xbfsep=;\r\n" + delimited(";")),
    "Excel's line about commas": ("texts.csv", b"sep=,\r\n" + delimited(",")),
    "JSON Lines": ("texts.jsonl", json_lines()),
    "JSON": ("texts.json", json_list()),
    "JSON with the list under a key": ("texts.json", b'{"version": 2, "data": ' + json_list() + b"}"),
    "Parquet": ("texts.parquet", parquet()),
    "Excel": ("texts.xlsx", workbook({"Texts": [COLUMNS, *RECORDS]})),
    "Excel with an empty sheet": ("texts.xlsx", workbook({"Notes": [], "Texts": [COLUMNS, *RECORDS]})),
    "gzip": ("texts.csv.gz", gzip.compress(delimited(","))),
    "Zstandard": ("texts.jsonl.zst", pa.Codec("zstd").compress(json_lines(), asbytes=True)),
    "ZIP": (
        "texts.zip",
        zipped({"texts.csv": delimited(","), "README.txt": b"Read me.", "__MACOSX/._x.csv": b"", "~$t.xlsx": b"me"}),
    ),
    "ZIP of gzip": ("texts.zip", zipped({"data/texts.csv.gz": gzip.compress(delimited(","))})),
    "a name that says nothing": ("texts", parquet()),
}
"""A file's name and bytes; all hold `RECORDS`."""
