"""The file of one shard: the examples of a run of documents, as flat arrays without any text.

A shard is one file, `shard-00000.examples`: a line that names the format, a JSON header with each
array's type, length and place, then the arrays, each on a 64-byte boundary so that it can be used
where it lies in a memory map.  Equal input gives equal bytes.  Beside it lies `shard-00000.json`,
the record that says it is done, renamed into place after it.
"""

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raysweep.config.fingerprints import file_fingerprint
from raysweep.errors import InputError
from raysweep.storage.atomic_files import atomic_file

FORMAT = "raysweep-examples"
VERSION = 1
ALIGNMENT = 64
NARROW = 1 << 16

FIELDS = (
    "tokens",
    "document_tokens",
    "document_examples",
    "document_spans",
    "span_counts",
    "span_starts",
    "span_lengths",
    "span_kinds",
    "window_examples",
    "window_starts",
    "window_ends",
    "levels",
    "splits",
    "seeds",
)
"""Offsets have one more entry than documents; spans and windows count tokens from their document's first."""

_MAGIC = b"raysweep-examples\n"
FIX = "delete it and run the mask stage again: only this shard is made anew"

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One shard, read-only, in memory or in a memory map."""

    header: Mapping[str, Any]
    arrays: Mapping[str, Array]

    @property
    def is_wide(self) -> bool:
        """Whether a document has more tokens, or an example more spans, than two bytes count."""
        return bool(self.arrays["span_starts"].dtype == np.uint32)


def shard_path(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}.examples"


def record_path(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}.json"


def write_shard(path: Path, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    """Write a shard by rename; returns the checksum of its bytes."""
    assert set(arrays) == set(FIELDS)
    places: dict[str, Any] = {}
    at = 0
    for name in FIELDS:
        array = arrays[name]
        places[name] = {"type": array.dtype.str, "length": len(array), "at": at}
        at += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    full = {**header, "format": FORMAT, "version": VERSION, "arrays": places, "bytes": at}
    text = _MAGIC + json.dumps(full, sort_keys=True, ensure_ascii=True).encode() + b"\n"
    with atomic_file(path) as beside:
        with beside.open("wb") as file:
            file.write(text + b" " * (-len(text) % ALIGNMENT))
            for name in FIELDS:
                data = np.ascontiguousarray(arrays[name]).tobytes()
                file.write(data + bytes(-len(data) % ALIGNMENT))
        return file_fingerprint(beside)


def read_shard(path: Path) -> Shard:
    """Map a shard into memory.

    Raises:
        InputError: it is missing, cut short, or of another version; names the file and the fix.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; run the mask stage again: only this shard is made anew") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {FIX}") from error
    header, begin = _read_header(path, data)
    if begin + header["bytes"] != len(data):
        raise InputError(f"{path}: found {len(data):,} bytes; its header says {begin + header['bytes']:,}; {FIX}")
    arrays = {
        name: np.frombuffer(data, dtype=place["type"], count=place["length"], offset=begin + place["at"])
        for name, place in header["arrays"].items()
    }
    return Shard(header=header, arrays=arrays)


def _read_header(path: Path, data: mmap.mmap) -> tuple[dict[str, Any], int]:
    end = data.find(b"\n", len(_MAGIC))
    if data[: len(_MAGIC)] != _MAGIC or end < 0:
        raise InputError(f"{path}: not a shard of examples; {FIX}")
    try:
        header = json.loads(data[len(_MAGIC) : end])
    except ValueError as error:
        raise InputError(f"{path}: its header is damaged ({error}); {FIX}") from error
    if header.get("version") != VERSION:
        raise InputError(f"{path}: found version {header.get('version')!r}; this raysweep reads {VERSION}; {FIX}")
    return header, -(-(end + 1) // ALIGNMENT) * ALIGNMENT
