"""Take a bundle apart, change it and pack it again, as a forger would."""

import hashlib
import io
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq

from raysweep.evidence.rounding import as_text, in_order
from raysweep.publishing.archive import write_archive

Files = dict[str, bytes]


def pack(path, files: Files):
    """Pack files as `raysweep bundle` does; a forger would do the same."""
    write_archive(files, path)
    return path


def with_new_hashes(files: Files) -> Files:
    """Recompute the manifest's hashes, as a forger who knows of the manifest would."""
    manifest = json.loads(files["manifest.json"])
    manifest["files"] = {n: hashlib.sha256(content).hexdigest() for n, content in files.items() if n != "manifest.json"}
    return {**files, "manifest.json": edit_json(json.dumps(manifest).encode(), lambda value: None)}


def change_digit(text: bytes, pattern: str) -> bytes:
    """Change the last digit of the first number that the pattern's group matches."""
    match = re.search(pattern, text.decode())
    assert match, pattern
    place = match.end(1) - 1
    digit = text.decode()[place]
    assert digit.isdigit()
    return (text.decode()[:place] + str((int(digit) + 1) % 10) + text.decode()[place + 1 :]).encode()


def edit_json(content: bytes, change) -> bytes:
    value = json.loads(content)
    change(value)
    return as_text(in_order(value)).encode()


def edit_table(content: bytes, column: str, change) -> bytes:
    table = pq.read_table(io.BytesIO(content))
    values = table[column].to_numpy().copy()
    change(values)
    table = table.set_column(table.column_names.index(column), column, pa.array(values, table[column].type))
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()
