"""Opens the files of a corpus, recognises their format by their content, and reads them, one after the other.

The format is recognised by the first bytes; `data.format` overrides this.  The encoding is never guessed: it is UTF-8
or `data.encoding`.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partial
from itertools import chain
from pathlib import Path

import pyarrow as pa

from raysweep.config.data_settings import Format
from raysweep.errors import InputError
from raysweep.readers.csv_files import read_delimited, read_delimited_pieces
from raysweep.readers.json_files import read_json, read_json_lines
from raysweep.readers.locations import is_data_file
from raysweep.readers.parquet_files import read_parquet
from raysweep.readers.raw_columns import CELL, FILE, IS_EMPTY, RawColumns, ReadOptions, short_name
from raysweep.readers.text_files import read_text
from raysweep.readers.unpacking import GZIP, ZIP, ZSTANDARD, read_member, unpack, zip_members
from raysweep.readers.workbooks import read_workbook
from raysweep.readers.xml_files import read_xml

PIECE_BYTES = 8 << 20
"""Bytes of a large file that are read at once."""
_READERS: dict[str, Callable[[str, bytes, ReadOptions], RawColumns]] = {
    "csv": read_delimited,
    "tsv": partial(read_delimited, delimiter="\t"),
    "json": read_json,
    "jsonl": read_json_lines,
    "parquet": read_parquet,
    "excel": read_workbook,
    "xml": read_xml,
    "text": read_text,
}
_BINARY = ("parquet", "excel")
_OLD_WORKBOOK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_BYTE_ORDER_MARKS = (
    codecs.BOM_UTF8,
    codecs.BOM_UTF32_LE,
    codecs.BOM_UTF32_BE,
    codecs.BOM_UTF16_LE,
    codecs.BOM_UTF16_BE,
)
_LOOKED_AT = 200
"""Bytes whose zeros identify UTF-16 and UTF-32 without a byte order mark."""
_HTML = re.compile(rb"\s*<(!doctype\s+html|html|meta|table)[\s>]", re.IGNORECASE)
_JSON = re.compile(rb"\s*(\[\s*([\[{\]\"]|-?[\d.]+\s*,)|\{)")


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedFile:
    """A file, or one file of an archive."""

    name: str  # for messages
    read: Callable[[], bytes]  # returns the decompressed content
    path: Path | None = None  # None for a file of an archive

    @property
    def is_large(self) -> bool:
        """Whether the file is large enough to be read a piece at a time."""
        return self.path is not None and self.path.stat().st_size >= PIECE_BYTES

    @property
    def short(self) -> str:
        """The name without its folder."""
        return short_name(self.name)

    @property
    def stem(self) -> str:
        """The name without folder and suffixes."""
        return re.sub(r"(\.(gz|zst))?\.\w{1,7}$", "", self.short)


def open_files(paths: Sequence[Path], pattern: str | None = None) -> Iterator[OpenedFile]:
    """Open each file; the files of a ZIP archive one after the other.

    Args:
        pattern: a glob that the names of files in archives, and of several files, must match.

    Raises:
        InputError: a file cannot be read, or an archive holds no data file, or several kinds of them.
    """
    for path in paths:
        if pattern and len(paths) > 1 and path.suffix != ".zip" and not fnmatch(path.name, pattern):
            continue
        data = _read_bytes(path) if _read_bytes(path, len(ZIP)) == ZIP else b""
        members = zip_members(str(path), data)
        if members is None:
            yield OpenedFile(name=str(path), read=partial(_read_unpacked, path), path=path)
            continue
        chosen = [member for member in members if is_data_file(member.filename)]
        chosen = [member for member in chosen if fnmatch(member.filename.rpartition("/")[2], pattern or "*")]
        kinds = {re.sub(r"\.(gz|zst)$", "", member.filename).rpartition(".")[2].lower() for member in chosen}
        if not chosen or len(kinds) > 1:
            names = ", ".join(member.filename for member in members[:3])[:80]
            what = "no data file" if not chosen else f"{len(chosen):,} files of {len(kinds)} kinds"
            raise InputError(
                f"{path}: holds {what} ({names}, …); must hold files of one kind. Unpack it, and name them"
            )
        for member in chosen:
            name = f"{path}: {member.filename}"
            yield OpenedFile(name=name, read=partial(read_member, name, data, member))


def read_file(file: OpenedFile, options: ReadOptions) -> RawColumns:
    """Read the chosen columns of a file; raises InputError with the fix if the whole file cannot be used."""
    data = file.read()
    kind = options.format or sniff_format(data, file.name, options)
    if kind not in _BINARY:
        data = decode(file.name, data, options.encoding)
        if kind != "text" and (not data or data.isspace()):
            raise InputError(f"{file.name}: {IS_EMPTY}")
    named = _FileNamed(options, file.stem)
    return named.with_file_name(_READERS[kind](file.name, data, named.options))


def read_pieces(file: OpenedFile, options: ReadOptions) -> Iterator[Callable[[], RawColumns]]:
    """Yield functions that read the chosen columns of a file: a piece each of a large delimited file, else all of it.

    Compressed files, and files that are not UTF-8, are read whole.

    Raises:
        InputError: as `read_file`; the functions raise it too.
    """
    start = _read_bytes(file.path, PIECE_BYTES) if file.path is not None else b""
    is_read_at_once = (
        len(start) < PIECE_BYTES or start.startswith((GZIP, ZSTANDARD, ZIP)) or not _is_utf8(options.encoding)
    )
    kind = None if is_read_at_once else options.format or sniff_format(start, file.name, options)
    if file.path is None or kind not in ("csv", "tsv"):
        yield partial(read_file, file, options)
        return
    named = _FileNamed(options, file.stem)
    blocks = _read_blocks(file.path)
    first = decode(file.name, next(blocks), options.encoding)
    while first.isspace() and (block := next(blocks, None)) is not None:
        first = block  # skip blank lines, because the first block must hold the header
    if not first.strip():
        raise InputError(f"{file.name}: {IS_EMPTY}")
    delimiter = "\t" if kind == "tsv" else None
    for piece in read_delimited_pieces(file.name, chain((first,), blocks), named.options, delimiter=delimiter):
        yield partial(named.read_piece, piece)


def sniff_format(data: bytes, name: str, options: ReadOptions) -> Format:
    """Recognise a format by its content; raises InputError if it is of no supported format."""
    if options.name_columns is not None:
        return "text"
    if data.startswith(b"PAR1"):
        return "parquet"
    if data.startswith((ZIP, _OLD_WORKBOOK)):
        return "excel"
    if data.startswith((b"%PDF", b"\x89PNG", b"{\\rtf", b"SQLite format 3", b"\x89HDF", b"ARROW1", b"Obj\x01")):
        must = "must be CSV, TSV, JSON, JSON Lines, Parquet, Excel or XML. Export it as one of them"
        raise InputError(f"{name}: is of a format that is not read ({data[:8]!r}); {must}")
    start = data[:4096]
    if not start.startswith(_BYTE_ORDER_MARKS[1:]) and options.encoding.lower().replace("-", "") in ("utf8", "utf8sig"):
        start = start.removeprefix(codecs.BOM_UTF8)
    else:
        start = start.decode(options.encoding, "ignore").encode()
    if _HTML.match(start):
        raise InputError(f"{name}: is an HTML page, whatever its name ends in. Save it as .xlsx or .csv in Excel")
    if start.lstrip().startswith(b"<"):
        return "xml"
    if not _JSON.match(start):
        return "csv"
    if start.lstrip().startswith(b"["):
        return "json"
    return "jsonl" if _is_lines(data) else "json"


def _is_lines(data: bytes) -> bool:
    """Distinguish JSON Lines from one object: the first line is complete, or the second one starts a record too.

    A single line with one object is a whole corpus if a value is a list of records, or all are lists or objects.
    """
    lines = [line.strip() for line in data.lstrip()[: 1 << 22].split(b"\n", 2)[:2]]
    if len(lines) == 2 and lines[1].startswith(b"{") and not lines[0].endswith((b"[", b"{", b",", b":")):
        return True
    try:
        first = json.loads(lines[0])
        is_alone = len(lines) == 1 or not lines[1]
        holds_records = is_alone and any(isinstance(v, list) and v and isinstance(v[0], dict) for v in first.values())
        holds_records |= is_alone and all(isinstance(v, list | dict) for v in first.values())
        return not holds_records and (not is_alone or len(data) < 1 << 22)
    except (ValueError, RecursionError):
        return False


def decode(name: str, data: bytes, encoding: str) -> bytes:
    """Convert bytes to UTF-8 without a byte order mark; UTF-8 is not validated; InputError if not in `encoding`."""
    if _is_utf8(encoding):
        if wide := _wide_encoding(data):
            raise InputError(f"{name}: is {wide.upper()}; must be UTF-8. Say so in data.encoding: {wide}")
        if (zeros := data[:_LOOKED_AT].count(0)) > len(data[:_LOOKED_AT]) // 4:
            line = data.count(b"\n", 0, data.index(0)) + 1
            raise InputError(
                f"{name} line {line}: found {zeros} NUL bytes among the first {_LOOKED_AT} bytes; must be text. "
                "Copy or export it again"
            )
        return data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode(encoding).removeprefix("\ufeff").encode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"found the byte 0x{data[error.start]:02X}" if error.start < len(data) else "found its end"
        raise InputError(f"{name} line {line}: {what}, which is not {encoding}. Change data.encoding") from error


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def _wide_encoding(data: bytes) -> str:
    """Return the name of the UTF-16 or UTF-32 encoding of the data, by its byte order mark or the positions of its zero
    bytes; '' for any other data."""
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    start = data[:_LOOKED_AT]
    are_zero = "".join(".0"[start[place::4].count(0) > len(start[place::4]) * 0.4] for place in range(4))
    return {".000": "utf-32-le", "000.": "utf-32-be", ".0.0": "utf-16-le", "0.0.": "utf-16-be"}.get(are_zero, "")


class _FileNamed:
    """Hides the column `@file` from a reader, and adds it to the columns that were read."""

    def __init__(self, options: ReadOptions, stem: str) -> None:
        self._stem = stem
        self._roles: dict[str, str] = {}
        self._choose = options.choose
        self.options = replace(options, choose=self._without_file)

    def _without_file(self, name: str, header: Sequence[str]) -> dict[str, str]:
        self._roles = dict(self._choose(name, header))
        return {role: column for role, column in self._roles.items() if column != FILE}

    def read_piece(self, read: Callable[[], RawColumns]) -> RawColumns:
        return self.with_file_name(read())

    def with_file_name(self, raw: RawColumns) -> RawColumns:
        if FILE not in self._roles.values():
            return raw
        stems = pa.array([self._stem.encode()] * raw.table.num_rows, CELL)
        return replace(raw, table=raw.table.append_column(FILE, stems), roles=self._roles)


def _read_bytes(path: Path, most: int = -1) -> bytes:
    """Read at most the first `most` bytes of a file; all of them if it is −1."""
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _read_blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(PIECE_BYTES):
            yield block


def _read_unpacked(path: Path) -> bytes:
    data = _read_bytes(path)
    unpacked = unpack(str(path), data)
    if unpacked is data and path.suffix in (".gz", ".zst"):
        kind = "gzip" if path.suffix == ".gz" else "Zstandard"
        raise InputError(
            f"{path}: is not {kind} data, although its name ends in {path.suffix}. Rename it if it is plain"
        )
    return unpacked
