"""The zip of a bundle: the same run gives the same bytes, and reading it is safe even if an attacker made it.

The reader does not trust what the zip says about itself: names must be plain paths within the bundle, no
name may occur twice, no entry may be a link or encrypted, and bytes are counted while they are unpacked.
Every byte other than compressed content must be what `write_archive` writes, so nothing can be hidden before,
between or after the files, in comments, extra fields, times or attributes.
"""

import hashlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pydantic import ValidationError

from raysweep.errors import InputError
from raysweep.publishing.manifest import MANIFEST, MAX_MANIFEST_BYTES, SIGNATURE, Manifest, read_manifest
from raysweep.storage.atomic_files import atomic_file
from raysweep.storage.printable import shown

MAX_FILES = 20_000
MAX_BYTES = 2_000_000_000
"""Limit on the unpacked size of all files; EFCAMDAT's 72,329 test documents with 12 models take about 200 MB."""
_CHUNK = 1 << 20
_DAY_ONE = (1980, 1, 1, 0, 0, 0)
_DOS_DAY_ONE = 0x21
_VERSION, _UNIX, _UTF8_NAME = 20, 3, 0x800
_ATTRIBUTES = (stat.S_IFREG | 0o644) << 16
_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3L2H"), struct.Struct("<4s4B4H3L5H2L"), struct.Struct("<4s4H2LH")


@dataclass(frozen=True, kw_only=True, slots=True)
class Unpacked:
    """The contents of a bundle's zip."""

    manifest: Manifest
    manifest_bytes: bytes
    """The bytes as they stand in the zip, which are what is signed."""
    signature: bytes | None
    digests: dict[str, str]
    """The SHA-256 of every file except the manifest and its signature."""


def write_archive(files: Mapping[str, bytes | Path], out: Path) -> None:
    """Zip files in order, without times, owners or modes; InputError if there are more than `verify` reads."""
    total = sum(len(content) if isinstance(content, bytes) else content.stat().st_size for content in files.values())
    if total > MAX_BYTES or len(files) > MAX_FILES:
        raise InputError(
            f"{out}: {len(files):,} files of {total:,} bytes; a bundle holds {MAX_FILES:,} of {MAX_BYTES:,}"
        )
    with atomic_file(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _DAY_ONE)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, _UNIX, _ATTRIBUTES
            archive.writestr(entry, content if isinstance(content, bytes) else content.read_bytes())


def is_bundle(path: Path) -> bool:
    """Return whether a file is a zip with a manifest, so that a new bundle may replace it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return MANIFEST in archive.namelist()
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError):
        return False


def unpack_archive(path: Path, target: Path) -> Unpacked:
    """Unpack a bundle into an empty folder; InputError if it is not a zip, is not safe, or holds other bytes."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name the zip that `raysweep bundle` wrote")
    if not path.is_file():
        raise InputError(f"{path}: no such file; make one with `raysweep bundle --name RUN --out {path.name}`")
    digests: dict[str, str] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _checked_entries(archive, path)
        with path.open("rb") as file:
            _refuse_other_bytes(file, entries, path)
            for entry, content in _contents(file, entries, path):
                place = target / entry.filename
                place.parent.mkdir(parents=True, exist_ok=True)
                digest = hashlib.sha256()
                with place.open("xb") as unpacked:
                    for chunk in content:
                        digest.update(chunk)
                        unpacked.write(chunk)
                digests[entry.filename] = digest.hexdigest()
    except (zipfile.BadZipFile, zlib.error, struct.error, ValueError, NotImplementedError, OSError) as error:
        raise InputError(f"{path}: cannot be unpacked ({shown(str(error))}); fetch or make it again") from error
    manifest_bytes = _take(target, MANIFEST)
    if digests.pop(MANIFEST, None) is None or manifest_bytes is None:
        raise InputError(f"{path}: holds no {MANIFEST}; it was not made by `raysweep bundle`")
    digests.pop(SIGNATURE, None)
    try:
        manifest = read_manifest(manifest_bytes)
    except (ValueError, ValidationError, RecursionError) as error:
        raise InputError(
            f"{path}: {MANIFEST} cannot be read ({shown(str(error))}); fetch or make the bundle again"
        ) from error
    signature = _take(target, SIGNATURE)
    return Unpacked(manifest=manifest, manifest_bytes=manifest_bytes, signature=signature, digests=digests)


def list_files(root: Path) -> list[str]:
    """List every file under a folder by its path with forward slashes, sorted."""
    return sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked_entries(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    entries = archive.infolist()
    if len(entries) > MAX_FILES:
        raise InputError(f"{path}: found {len(entries):,} files; a bundle has at most {MAX_FILES:,}")
    if sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise InputError(f"{path}: would unpack to more than {MAX_BYTES:,} bytes; not unpacked")
    seen: set[str] = set()
    for entry in entries:
        if complaint := _complaint(entry, seen):
            raise InputError(f"{path}: found {shown(entry.filename)}, {complaint}; not unpacked")
        seen.add(entry.filename.casefold())
    return entries


def _complaint(entry: zipfile.ZipInfo, seen: set[str]) -> str:
    """Say why an entry of the zip must not be unpacked; '' if it may be."""
    name, parts = entry.filename, PurePosixPath(entry.filename).parts
    if not name or name != "/".join(parts) or {"..", "."} & set(parts) or not set(name).isdisjoint("\\:\0"):
        return "which is not a plain path within a bundle"
    if len(name) > 500 or any(len(part.encode()) > 200 for part in parts):
        return "which is longer than a path within a bundle"
    if name.casefold() in seen:
        return "a name that is used twice"
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        return "which is a link or a device"
    if name in (MANIFEST, SIGNATURE) and entry.file_size > MAX_MANIFEST_BYTES:
        return f"of more than {MAX_MANIFEST_BYTES:,} bytes"
    return "which is encrypted" if entry.flag_bits & 0x1 else ""


def _refuse_other_bytes(file: BinaryIO, entries: Sequence[zipfile.ZipInfo], path: Path) -> None:
    """Compare every byte that is not content with what `write_archive` writes around that content."""
    position, directory = 0, b""
    for entry in entries:
        name, flags = _name_and_flags(entry.filename)
        sizes = (entry.CRC, entry.compress_size, entry.file_size, len(name))
        fields = (flags, zipfile.ZIP_DEFLATED, 0, _DOS_DAY_ONE)
        header = _LOCAL.pack(b"PK\3\4", _VERSION, *fields, *sizes, 0) + name
        directory += _CENTRAL.pack(
            b"PK\1\2", _VERSION, _UNIX, _VERSION, 0, *fields, *sizes, 0, 0, 0, 0, _ATTRIBUTES, position
        )
        directory += name
        file.seek(position)
        if file.read(len(header)) != header:
            raise _other_bytes(path, f"before {shown(entry.filename)}")
        position += len(header) + entry.compress_size
    file.seek(position)
    count = len(entries)
    if file.read() != directory + _END.pack(b"PK\5\6", 0, 0, count, count, len(directory), position, 0):
        raise _other_bytes(path, "after the last file")


def _contents(
    file: BinaryIO, entries: Sequence[zipfile.ZipInfo], path: Path
) -> Iterator[tuple[zipfile.ZipInfo, Iterator[bytes]]]:
    """Yield every entry with its unpacked bytes."""
    file.seek(0)
    for entry in entries:
        file.seek(_LOCAL.size + len(_name_and_flags(entry.filename)[0]), 1)
        yield entry, _inflated(file, entry, path)


def _inflated(file: BinaryIO, entry: zipfile.ZipInfo, path: Path) -> Iterator[bytes]:
    """Unpack the content that follows: read exactly the compressed bytes, and refuse any that are left over."""
    inflater, size, crc, left = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0, entry.compress_size
    while not inflater.eof:
        packed = inflater.unconsumed_tail or file.read(min(left, _CHUNK))
        left -= 0 if inflater.unconsumed_tail else len(packed)
        chunk = inflater.decompress(packed, _CHUNK)  # also without more input: zlib may still hold some output
        if not packed and not chunk and not inflater.eof:
            raise ValueError(f"{entry.filename!r} is cut short")
        size, crc = size + len(chunk), zlib.crc32(chunk, crc)
        if size > entry.file_size:
            raise InputError(f"{path}: {shown(entry.filename)} unpacks to more than it says; not unpacked further")
        yield chunk
    if inflater.unused_data or left:
        raise _other_bytes(path, f"after the content of {shown(entry.filename)}")
    if (size, crc) != (entry.file_size, entry.CRC):
        raise ValueError(f"{entry.filename!r} has another size or checksum than the zip says")


def _name_and_flags(name: str) -> tuple[bytes, int]:
    return (name.encode("ascii"), 0) if name.isascii() else (name.encode("utf-8"), _UTF8_NAME)


def _other_bytes(path: Path, where: str) -> InputError:
    return InputError(
        f"{path}: holds bytes {where} that `raysweep bundle` does not write, and that another reader of the zip could "
        "take for a file; fetch the bundle again, and do not pack it anew"
    )


def _take(folder: Path, name: str) -> bytes | None:
    """Read and delete a file of the unpacked bundle; None if it is not there."""
    path = folder / name
    if not path.is_file():
        return None
    content = path.read_bytes()
    path.unlink()
    return content
