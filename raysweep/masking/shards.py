"""The files of the example store: shards, a record for each, and a manifest of all of them.

A shard holds the examples of consecutive documents as flat arrays, without any text: a line that names the
format, a JSON header with the type, length and offset of each array, then the arrays, each aligned to 64 bytes so
that they can be used in a memory map.  Equal input gives equal bytes.  The record of a shard is renamed into
place after the shard, and the manifest after all shards, so a folder with a manifest is complete.
"""

import json
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raysweep.config.fingerprints import file_fingerprint
from raysweep.errors import InputError
from raysweep.storage.atomic_files import atomic_file, read_json, write_json
from raysweep.storage.run_folder import ExamplesFolder

FORMAT = "raysweep-examples"
_MAGIC = f"{FORMAT}\n".encode()
VERSION = 1
ALIGNMENT = 64
NARROW = 1 << 16
"""Numbers below this fit into two bytes."""

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
"""Offsets have one more entry than documents; positions of spans and windows count tokens from the document's start."""

FIX = "delete it and run the mask stage again: only this shard will be made"

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One shard, read-only, in memory or in a memory map."""

    header: Mapping[str, Any]
    arrays: Mapping[str, Array]


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
    with atomic_file(path) as temporary:
        with temporary.open("wb") as file:
            file.write(text + b" " * (-len(text) % ALIGNMENT))
            for name in FIELDS:
                data = np.ascontiguousarray(arrays[name]).tobytes()
                file.write(data + bytes(-len(data) % ALIGNMENT))
        return file_fingerprint(temporary)


def read_shard(path: Path) -> Shard:
    """Map a shard into memory.

    Raises:
        InputError: it is missing, cut short, or of another version; the message names the file and the fix.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; run the mask stage again: only this shard will be made") from error
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


def plan_shards(documents: int, shard_documents: int) -> list[tuple[int, int]]:
    """Divide the documents into shards; returns the first row and the end of each."""
    return [(start, min(start + shard_documents, documents)) for start in range(0, documents, shard_documents)]


def read_shard_summary(folder: Path, shard: int) -> dict[str, Any] | None:
    """Read the record that `mask_shard` wrote for a finished shard; None if the shard must be made."""
    store = ExamplesFolder(folder)
    try:
        summary: dict[str, Any] = read_json(store.shard_record(shard))
        size = store.shard(shard).stat().st_size
    except (InputError, OSError):
        return None
    return summary if summary.get("bytes") == size else None


def write_manifest(
    folder: Path,
    *,
    fingerprint: str,
    identity: Mapping[str, Any],
    summaries: Sequence[Mapping[str, Any]],
    tokenizer: str | None = None,
) -> dict[str, Any]:
    """Write the manifest of a complete folder, by rename; returns it.

    Args:
        fingerprint, identity: the settings and data from which the examples were made.
        summaries: the records that `mask_shard` returned for all shards.
        tokenizer: the digest of the run's tokenizer, which is stored next to the shards; None for GPT-2's.

    Raises:
        InputError: a range of rows is missing or repeated.
    """
    # Exclude the measured times, so that equal examples give equal manifests.
    shards = [{key: value for key, value in summary.items() if key != "seconds"} for summary in summaries]
    shards.sort(key=lambda summary: int(summary["shard"]))
    row = 0
    for number, summary in enumerate(shards):
        if summary["shard"] != number or summary["rows"][0] != row:
            raise InputError(
                f"{folder}: shard {number} must begin at row {row}; found shard {summary['shard']} with rows "
                f"{summary['rows'][0]} to {summary['rows'][1]}. Run the mask stage again with --force"
            )
        row = summary["rows"][1]
    keys = [key for key in (shards[0] if shards else {}) if key not in {"shard", "rows", "checksum"}]
    totals = {key: _add_up([summary[key] for summary in shards]) for key in keys}
    manifest = {
        "version": VERSION,
        "fingerprint": fingerprint,
        "identity": dict(identity),
        "shards": shards,
        "totals": totals,
        **({} if tokenizer is None else {"tokenizer": tokenizer}),
    }
    write_json(ExamplesFolder(folder).manifest, manifest)
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a complete folder; raises InputError if it is missing, or of another version."""
    path = ExamplesFolder(folder).manifest
    if not path.exists():
        raise InputError(f"{path}: missing; the examples are not complete. Run the mask stage")
    manifest: dict[str, Any] = read_json(path)
    if manifest.get("version") != VERSION:
        raise InputError(
            f"{path}: found version {manifest.get('version')!r}; this raysweep reads {VERSION}. "
            "Run the mask stage again with --force mask"
        )
    return manifest


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


def _add_up(values: Sequence[Any]) -> Any:
    """Sum numbers, or mappings key by key."""
    if not isinstance(values[0], Mapping):
        return sum(values)
    return {key: sum(value.get(key, 0) for value in values) for key in dict.fromkeys(chain.from_iterable(values))}
