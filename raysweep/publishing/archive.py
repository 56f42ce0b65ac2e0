"""The zip of a bundle: the same run gives the same bytes, and reading it is safe even if an attacker made it.

Reading trusts nothing that the zip says about itself: names must be plain paths within the bundle, no
name may be used twice, nothing may be a link or encrypted, and bytes are counted while they are unpacked.
"""

import hashlib
import json
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from raysweep.errors import InputError
from raysweep.storage.atomic_files import atomic_file

MANIFEST = "manifest.json"
MAX_FILES = 20_000
MAX_BYTES = 4_000_000_000
"""All files together, unpacked; EFCAMDAT's 72,329 test documents with 12 models take about 200 MB."""
MAX_MANIFEST_BYTES = 10_000_000
_DAY_ONE = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20
Values = dict[str, Any]


def write_archive(root: Path, manifest: Mapping[str, Any], out: Path) -> None:
    """Zip a folder, the manifest first and the rest by name; no time, owner or mode is kept."""
    with atomic_file(out) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, MANIFEST, json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n")
        for name in list_files(root):
            _add(archive, name, (root / name).read_bytes())


def unpack_archive(path: Path, target: Path) -> tuple[Values, dict[str, str]]:
    """Unpack a bundle into an empty folder.

    Returns:
        The manifest, and the SHA-256 of every other file.

    Raises:
        InputError: it is no zip, or is not safe to unpack.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; make one with `raysweep bundle --name RUN --out {path.name}`")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _checked_entries(archive, path)
            manifest = _read_manifest(archive, path)
            digests: dict[str, str] = {}
            room = MAX_BYTES
            for entry in entries:
                if entry.filename != MANIFEST:
                    size, digests[entry.filename] = _unpack(archive, entry, target / entry.filename, room, path)
                    room -= size
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise InputError(f"{path}: cannot be unpacked ({error}); fetch or make it again") from error
    return manifest, digests


def list_files(root: Path) -> list[str]:
    """Every file under a folder, by its path with slashes, in order."""
    return sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_json(text: str) -> Any:
    """JSON as raysweep writes it: no NaN, and no key twice.

    Raises:
        ValueError: says what is wrong.
    """
    return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_distinct_keys)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _DAY_ONE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    archive.writestr(entry, content)


def _checked_entries(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    entries = archive.infolist()
    if len(entries) > MAX_FILES:
        raise InputError(f"{path}: found {len(entries):,} files; a bundle has at most {MAX_FILES:,}")
    if sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise InputError(f"{path}: would unpack to more than {MAX_BYTES:,} bytes; not unpacked")
    seen: set[str] = set()
    for entry in entries:
        if complaint := _complaint(entry, seen):
            raise InputError(f"{path}: found {entry.filename!r}, {complaint}; not unpacked")
        seen.add(entry.filename.casefold())
    return entries


def _complaint(entry: zipfile.ZipInfo, seen: set[str]) -> str:
    """Why a file of the zip must not be unpacked; '' if it may be."""
    name, parts = entry.filename, PurePosixPath(entry.filename).parts
    if not name or name != "/".join(parts) or {"..", "."} & set(parts) or any(mark in name for mark in "\\:\0"):
        return "which is not a plain path within a bundle"
    if name.casefold() in seen:
        return "a name that is used twice"
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        return "which is a link or a device"
    return "which is encrypted" if entry.flag_bits & 0x1 else ""


def _read_manifest(archive: zipfile.ZipFile, path: Path) -> Values:
    if MANIFEST not in archive.namelist() or archive.getinfo(MANIFEST).file_size > MAX_MANIFEST_BYTES:
        raise InputError(f"{path}: holds no {MANIFEST} of a sensible size; it was not made by `raysweep bundle`")
    try:
        with archive.open(MANIFEST) as file:
            manifest = parse_json(file.read(MAX_MANIFEST_BYTES).decode("utf-8"))
        if not isinstance(manifest["files"], dict) or not isinstance(manifest["made_with"], dict):
            raise TypeError("'files' and 'made_with' must be mappings")
        int(manifest["format"]), str(manifest["run"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: {MANIFEST} cannot be read ({error}); fetch or make the bundle again") from error
    return dict(manifest)


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, room: int, path: Path) -> tuple[int, str]:
    """Write one file; return the number of its bytes, as counted, and their SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    size, digest = 0, hashlib.sha256()
    with archive.open(entry) as source, target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > min(room, entry.file_size):
                raise InputError(f"{path}: {entry.filename!r} unpacks to more than it says; not unpacked further")
            digest.update(chunk)
            file.write(chunk)
    return size, digest.hexdigest()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"found {name}, which is not a number")


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is used twice")
    return values
