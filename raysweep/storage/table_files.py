"""Writes a table in pieces as Parquet, CSV or JSON Lines, depending on the suffix of its name, and by rename.

CSV files are opened in spreadsheets, so their texts are made safe for them; the other formats keep texts unchanged.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from raysweep.errors import ConfigError
from raysweep.storage.atomic_files import atomic_file
from raysweep.storage.printable import spreadsheet_safe

TABLE_SUFFIXES = (".parquet", ".csv", ".jsonl")


def check_suffix(path: Path) -> None:
    """Raise ConfigError if the suffix of `--out` is none of the known formats, or it is a malformed address."""
    if re.match(r"[a-z0-9+.-]+:/", str(path)):
        raise ConfigError(f"--out: found '{path!s:.60}'; must be a path, s3://bucket/name or gs://bucket/name")
    if path.suffix not in TABLE_SUFFIXES:
        raise ConfigError(f"--out: found '{path.name[:60]}'; must end in {', '.join(TABLE_SUFFIXES)}")


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse an output that would replace a file that is read, by whatever path or link it is named.

    Raises:
        ConfigError: the message names the file.
    """
    read = {(status.st_dev, status.st_ino) for status in (path.stat() for path in inputs if path.exists())}
    for out in outputs:
        if out.exists() and (out.stat().st_dev, out.stat().st_ino) in read:
            raise ConfigError(f"--out: would replace {out!s:.80}, which is a file that is read; give another --out")


@contextmanager
def table_writer(path: Path) -> Iterator[Callable[[pa.Table], None]]:
    """Yield a function that appends a piece; all pieces have the same columns, and there must be at least one."""
    with ExitStack() as stack:
        temporary = stack.enter_context(atomic_file(path))
        if path.suffix == ".jsonl":
            yield _json_lines(stack, temporary)
            return
        parquet = partial(pq.ParquetWriter, compression="zstd", write_page_checksum=True)
        open_writer = pa_csv.CSVWriter if path.suffix == ".csv" else parquet
        writers: list[pq.ParquetWriter | pa_csv.CSVWriter] = []

        def write(piece: pa.Table) -> None:
            if not writers:
                writers.append(stack.enter_context(open_writer(temporary, piece.schema)))
            writers[0].write_table(_spreadsheet_safe(piece) if path.suffix == ".csv" else piece)

        yield write


def _spreadsheet_safe(piece: pa.Table) -> pa.Table:
    for number, field in enumerate(piece.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            encoded = pa.array(piece.column(number).combine_chunks()).dictionary_encode()  # most cells are repeated
            texts = pa.array(map(spreadsheet_safe, encoded.dictionary.to_pylist()), field.type)
            column = pa.DictionaryArray.from_arrays(encoded.indices, texts).dictionary_decode()
            piece = piece.set_column(number, field, column)
    return piece


def _json_lines(stack: ExitStack, temporary: Path) -> Callable[[pa.Table], None]:
    file = stack.enter_context(temporary.open("w", encoding="utf-8", newline="\n"))

    def write(piece: pa.Table) -> None:
        file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in piece.to_pylist())

    return write
