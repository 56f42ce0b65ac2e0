"""Decompresses gzip, Zstandard and ZIP data within limits, because a few MB can hold many GB."""

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa

from raysweep.errors import InputError

MOST_UNPACKED_BYTES = 16 << 30
MOST_UNPACKED_RATIO = 100
"""Texts shrink to a third or a quarter; a ratio of 100 or more is a decompression bomb."""
RATIO_COUNTS_FROM = 64 << 20  # unpacked bytes; a small repetitive corpus is allowed
MOST_WRAPS = 3  # layers of compression

GZIP, ZSTANDARD, ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
WORKBOOK_MEMBERS = ("xl/workbook.xml", "xl/workbook.bin", "content.xml")


def unpack(name: str, data: bytes) -> bytes:
    """Decompress gzip and Zstandard, also when nested; other data is returned unchanged.

    Raises:
        InputError: the data is damaged, cut short, too large, or a tar archive.
    """
    for _ in range(MOST_WRAPS):
        if data.startswith(GZIP):
            data = _read_within_limits(name, "gzip", len(data), partial(gzip.GzipFile, fileobj=io.BytesIO(data)))
        elif data.startswith(ZSTANDARD):
            opened = partial(pa.CompressedInputStream, pa.BufferReader(data), "zstd")
            data = _read_within_limits(name, "Zstandard", len(data), opened)
        else:
            break
    if data[257:262] == b"ustar":
        raise InputError(f"{name}: is a tar archive; must be a file, or a ZIP archive of files. Unpack it: tar -xf")
    return data


def zip_members(name: str, data: bytes) -> list[zipfile.ZipInfo] | None:
    """List a ZIP archive's files by name, None for a workbook or no archive; InputError if damaged or encrypted."""
    if not data.startswith(ZIP):
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OverflowError) as error:
        raise InputError(f"{name}: its ZIP data is damaged or cut short ({error}). Copy it again") from error
    if any(member.filename in WORKBOOK_MEMBERS for member in members):
        return None
    if any(member.filename == "word/document.xml" for member in members):
        raise InputError(
            f"{name}: is a Word document; must be a table, or plain text: save each text as .txt in "
            "UTF-8, in a folder that is named like its level (A1/anna.txt)"
        )
    if any(member.flag_bits & 1 for member in members):
        raise InputError(f"{name}: is protected by a password; must be open. Unpack it, and name the files in it")
    return sorted((member for member in members if not member.is_dir()), key=lambda member: member.filename)


def read_member(name: str, data: bytes, member: zipfile.ZipInfo) -> bytes:
    """Decompress one file of a ZIP archive, which may itself be compressed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        packed = _read_within_limits(name, "ZIP", max(1, member.compress_size), lambda: archive.open(member))
    return unpack(name, packed)


def _read_within_limits(name: str, kind: str, size: int, open_: Callable[[], Any]) -> bytes:
    parts, unpacked = [], 0
    try:
        with open_() as file:
            while part := file.read(1 << 22):
                parts.append(part)
                unpacked += len(part)
                is_bomb = unpacked > max(RATIO_COUNTS_FROM, MOST_UNPACKED_RATIO * size)
                if is_bomb or unpacked > MOST_UNPACKED_BYTES:
                    raise InputError(
                        f"{name}: its {size:,} bytes of {kind} data unpack to more than {unpacked:,}; at most "
                        f"{MOST_UNPACKED_RATIO} times their size and {MOST_UNPACKED_BYTES >> 30} GiB are read. "
                        "If it is a real corpus, unpack it"
                    )
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, pa.ArrowException) as error:
        raise InputError(f"{name}: its {kind} data is damaged or cut short ({error}). Copy it again") from error
    return b"".join(parts)
