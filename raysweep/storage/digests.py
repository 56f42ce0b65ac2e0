"""Digests of files, and records that contain a digest of themselves.

A record's `outputs` hold the size and the BLAKE3 digest of every file that it lists.  Before such a file
is read, `find_damage` compares it with the record and names files that are missing, cut short or changed.  The
record itself is sealed: it contains a digest of its own fields, so that damage to the record is noticed as well.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from blake3 import blake3

from raysweep.errors import DamagedError, EarlierVersionError
from raysweep.storage.atomic_files import dump_json, write_text

RECORDS_VERSION = 2
"""Version of run.json, trial.json and the scores' records; raised when their fields change."""
_SEAL = "digest"
_PIECE_BYTES = 1 << 24
EARLIER_FIX = "give the run a new --name, or do all of it again with --force prepare"

Outputs = Mapping[str, Mapping[str, Any]]
"""`bytes` and `digest` of each file, by path relative to the record's folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """A recorded file that is missing or was changed."""

    path: Path
    what: str
    is_missing: bool = False


def digest_file(path: Path) -> str:
    """Return the BLAKE3 of a file's bytes: 128 bits in hexadecimal, computed on all cores, a piece at a time.

    A memory map would count as memory of this process with all its bytes.
    """
    hasher, piece = blake3(max_threads=blake3.AUTO), memoryview(bytearray(min(_PIECE_BYTES, path.stat().st_size + 1)))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(piece):
            hasher.update(piece[:count])
    digest: str = hasher.hexdigest(length=16)
    return digest


def digest_text(text: str) -> str:
    """Return the BLAKE3 of a text's UTF-8 bytes, in the form of `digest_file`."""
    digest: str = blake3(text.encode("utf-8", "surrogatepass")).hexdigest(length=16)
    return digest


def describe_outputs(root: Path, paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Return the size and digest of each file, and of every file in each folder; missing paths are left out."""
    files = sorted({file for path in paths for file in _files_of(path)})
    return {
        file.relative_to(root).as_posix(): {"bytes": file.stat().st_size, "digest": digest_file(file)} for file in files
    }


def combine_digests(outputs: Outputs, pattern: str = "") -> str:
    """Return one digest of all files whose path matches the pattern from its start."""
    lines = [f"{name} {values['digest']}\n" for name, values in sorted(outputs.items()) if re.match(pattern, name)]
    return digest_text("".join(lines))


@cache
def digest_code() -> str:
    """Digest all files of the installed package, since versions under development share a version number."""
    root = Path(__file__).parents[1]
    # Leave out the caches of Python and numba.
    files = (file for file in root.rglob("*") if "__pycache__" not in file.parts and not file.name.startswith("."))
    return combine_digests(describe_outputs(root, (file for file in files if file.is_file())))


def find_damage(root: Path, outputs: Outputs, *, by_size: bool = False) -> list[Damage]:
    """List the files that are missing or differ from the record; reads every file.

    Args:
        by_size: compare only sizes, without reading the files.
    """
    damages = (_damage_of(root / name, values, by_size=by_size) for name, values in outputs.items())
    return [damage for damage in damages if damage is not None]


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Write a record by rename, with its version and a digest of its own fields."""
    full = {**values, "version": RECORDS_VERSION}
    write_text(path, dump_json({**full, _SEAL: digest_text(dump_json(full))}))


def read_sealed(path: Path, *, fix: str) -> dict[str, Any]:
    """Read a record written by `write_sealed`; return its fields without version and digest.

    Args:
        fix: end of the message, such as "make it again with --force A1".

    Raises:
        DamagedError: the file was changed since it was written.
        EarlierVersionError: another version of raysweep wrote it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text)
    except ValueError as error:
        raise DamagedError(f"{path}: is damaged (not valid JSON); {fix}") from error
    if not isinstance(values, dict) or (_SEAL not in values and text == dump_json(values)):
        raise EarlierVersionError(f"{path}: was written by an earlier raysweep; {EARLIER_FIX}")
    seal = values.pop(_SEAL, None)
    # The text without the seal's line is what was sealed; serialising the values again takes twenty times as long.
    if digest_text(text.replace(f'\n  "{_SEAL}": "{seal}",\n', "\n", 1)) != seal:
        raise DamagedError(f"{path}: is damaged or was edited (its digest differs); {fix}")
    if (version := values.pop("version")) != RECORDS_VERSION:
        raise EarlierVersionError(
            f"{path}: has version {version}; this raysweep writes {RECORDS_VERSION}; {EARLIER_FIX}"
        )
    return values


def _files_of(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file())


def _damage_of(path: Path, values: Mapping[str, Any], *, by_size: bool) -> Damage | None:
    if not path.is_file():
        return Damage(path=path, what="is missing", is_missing=True)
    size = path.stat().st_size
    if size != values["bytes"]:
        return Damage(path=path, what=f"is damaged (has {size:,} bytes; was made with {values['bytes']:,})")
    is_sound = by_size or digest_file(path) == values["digest"]
    return None if is_sound else Damage(path=path, what="is damaged (its digest differs)")
