"""The example store: a folder of shards and a manifest, and batches out of them.

What is stored is tokens and spans, not padded sequences: an example of any task is put together when
a batch is asked for.  The store holds no text.  An *example number* counts all examples of the store
in the order of documents.parquet; a *document* is a row of it.

The manifest is renamed into place last, so a folder with one is complete.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raysweep.config.fingerprints import file_fingerprint
from raysweep.errors import InputError
from raysweep.masking.assembling import COLUMNS, NO_KIND, TASKS, expand_runs, fill, find_examples, measure
from raysweep.masking.shards import FIELDS, FIX, VERSION, Array, Shard, read_shard, record_path, shard_path
from raysweep.masking.vocabulary import Kind, TargetType
from raysweep.storage.atomic_files import read_json, write_json

MANIFEST = "manifest.json"
_BLOCK = 1 << 16
"""Examples that are looked up at once where there may be millions: 4 MB of places."""
Examples = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Examples as rows, padded on the right: B examples, T tokens in the longest of them."""

    ids_BT: npt.NDArray[np.int32]  # noqa: N815
    """Token ids; padding is 0."""
    types_BT: npt.NDArray[np.uint8]  # noqa: N815
    """`TargetType` of each position."""
    kinds_BT: npt.NDArray[np.uint8]  # noqa: N815
    """`Kind` of the span that an answer's position belongs to, its end included; 255 elsewhere."""
    lengths_B: npt.NDArray[np.int32]  # noqa: N815
    """Tokens without padding."""
    documents_B: npt.NDArray[np.int64]  # noqa: N815
    """Rows of documents.parquet."""


def plan_shards(documents: int, shard_documents: int) -> list[tuple[int, int]]:
    """The row ranges of the shards: first row and the one after the last."""
    return [(start, min(start + shard_documents, documents)) for start in range(0, documents, shard_documents)]


def read_shard_summary(folder: Path, shard: int) -> dict[str, Any] | None:
    """What `mask_shard` returned for a shard that is done; None if it must be made."""
    record = record_path(folder, shard)
    if not record.exists():
        return None
    try:
        summary: dict[str, Any] = read_json(record)
        size = shard_path(folder, shard).stat().st_size
    except (InputError, OSError):
        return None
    return summary if summary.get("bytes") == size else None


def write_manifest(
    folder: Path, *, fingerprint: str, identity: Mapping[str, Any], summaries: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Write the manifest of a complete folder, by rename; returns it.

    Args:
        fingerprint, identity: of what the examples were made from.
        summaries: what `mask_shard` returned for every shard.

    Raises:
        InputError: a range of rows is missing or stands twice.
    """
    # How long it took is no part of what was made: equal examples give equal manifests.
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
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a complete folder.

    Raises:
        InputError: there is none, or it is of another version.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise InputError(f"{path}: missing; the examples are not complete. Run the mask stage")
    manifest: dict[str, Any] = read_json(path)
    if manifest.get("version") != VERSION:
        raise InputError(
            f"{path}: found version {manifest.get('version')!r}; this raysweep reads {VERSION}. "
            "Run the mask stage again with --force mask"
        )
    return manifest


def _add_up(values: Sequence[Any]) -> Any:
    if values and isinstance(values[0], Mapping):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: _add_up([value.get(key, 0) for value in values]) for key in keys}
    return sum(values) if values and isinstance(values[0], int) else round(float(sum(values)), 4) if values else {}


class ExampleStore:
    """A complete folder of examples, memory-mapped: cheap to open, shared between processes."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._max_tokens = int(shards[0].header["max_tokens"]) if shards else 1
        documents = [len(shard.arrays["levels"]) for shard in shards]
        examples = [len(shard.arrays["span_counts"]) for shard in shards]
        self._first_documents = np.concatenate(([0], np.cumsum(documents, dtype=np.int64)))
        self._first_examples = np.concatenate(([0], np.cumsum(examples, dtype=np.int64)))
        self._level_names, self._levels = self._names("levels")
        self._split_names, self._splits = self._names("splits")
        self._document_examples = self._begins()
        self._table = np.array([_addresses(shard) for shard in shards], dtype=np.int64).reshape(-1, COLUMNS)

    @classmethod
    def open(cls, folder: Path, *, verify: bool = True) -> "ExampleStore":
        """Map all shards of a complete folder.

        Args:
            verify: read every shard and compare its checksum (a second for a gigabyte).

        Raises:
            InputError: the manifest or a shard is missing, damaged, or of another version.
        """
        shards = []
        for summary in read_manifest(folder)["shards"]:
            path = shard_path(folder, summary["shard"])
            shards.append(read_shard(path))
            if verify and file_fingerprint(path) != summary["checksum"]:
                raise InputError(f"{path}: damaged, its checksum is not the manifest's; {FIX}")
        return cls(shards)

    def __len__(self) -> int:
        """Examples."""
        return int(self._first_examples[-1])

    @property
    def documents(self) -> int:
        return int(self._first_documents[-1])

    @property
    def max_tokens(self) -> int:
        """Tokens in the longest example there may be."""
        return self._max_tokens

    def select(
        self,
        levels: Collection[str],
        split: str,
        *,
        examples_per_document: int | None = None,
        documents_per_level: int | None = None,
    ) -> Examples:
        """The examples of some levels' documents in one split, ascending.

        Args:
            examples_per_document: the first so many of each document; all if None.
            documents_per_level: so many of each level's documents, chosen by their seeds; all if None.
        """
        chosen = np.isin(self._levels, [self._level_names.index(name) for name in levels if name in self._level_names])
        chosen &= self._splits == (
            self._split_names.index(split) if split in self._split_names else len(self._split_names)
        )
        if documents_per_level is not None:
            chosen &= self._are_first_by_seed(chosen, documents_per_level)
        counts = np.diff(self._document_examples)[chosen]
        if examples_per_document is not None:
            counts = np.minimum(counts, examples_per_document)
        return expand_runs(self._document_examples[:-1][chosen], counts)

    def lengths(self, examples: Examples, task: str = "ilm") -> npt.NDArray[np.int32]:
        """Tokens of each example, never more than `max_tokens`."""
        blocks = np.split(np.asarray(examples), range(_BLOCK, len(examples), _BLOCK))
        return np.concatenate([measure(self._places(block), TASKS[task], self._max_tokens) for block in blocks])

    def documents_of(self, examples: Examples) -> npt.NDArray[np.int64]:
        """The document of each example: its row in documents.parquet."""
        # Documents without examples begin where the next one does, so the last that begins there is the owner.
        return np.asarray(np.searchsorted(self._document_examples, examples, side="right") - 1, dtype=np.int64)

    def levels_of(self, documents: npt.NDArray[np.int64]) -> npt.NDArray[np.str_]:
        """The level of each document."""
        return np.array(self._level_names, dtype=np.str_)[self._levels[documents]]

    def assemble(self, examples: Examples, *, task: str = "ilm", pad_multiple: int = 1) -> Batch:
        """The examples as a batch, in their order.

        Args:
            task: a key of `assembling.TASKS`.
            pad_multiple: the batch is as long as its longest example, rounded up to this.
        """
        places = self._places(examples)
        lengths_B = measure(places, TASKS[task], self._max_tokens)
        longest = -(-int(lengths_B.max(initial=0)) // pad_multiple) * pad_multiple
        shape = (len(lengths_B), longest)
        ids_BT = np.zeros(shape, dtype=np.int32)
        types_BT = np.full(shape, TargetType.PADDING, dtype=np.uint8)
        kinds_BT = np.full(shape, NO_KIND, dtype=np.uint8)
        fill(self._table, places, TASKS[task], lengths_B, ids_BT, types_BT, kinds_BT)
        documents_B = self._first_documents[places[:, 0]] + places[:, 1]
        return Batch(ids_BT=ids_BT, types_BT=types_BT, kinds_BT=kinds_BT, lengths_B=lengths_B, documents_B=documents_B)

    def spans_of(self, example: int) -> list[tuple[Kind, int, int]]:
        """An example's spans: kind, first token and length, counted from its document's first token."""
        shard, _, _, _, _, span, spans, _ = (int(value) for value in self._places(np.array([example]))[0])
        arrays = self._shards[shard].arrays
        rows = zip(
            *(arrays[name][span : span + spans] for name in ("span_kinds", "span_starts", "span_lengths")), strict=True
        )
        return [(Kind(int(kind)), int(start), int(length)) for kind, start, length in rows]

    def window_of(self, example: int) -> tuple[int, int]:
        """The tokens of its document that the example is made of: first, and the one after the last."""
        place = self._places(np.array([example]))[0]
        return int(place[3]), int(place[4])

    def tokens_of(self, document: int) -> list[int]:
        """A document's token ids."""
        shard = int(np.searchsorted(self._first_documents, document, side="right")) - 1
        arrays, local = self._shards[shard].arrays, document - int(self._first_documents[shard])
        begin, end = arrays["document_tokens"][local : local + 2]
        return [int(token) for token in arrays["tokens"][begin:end]]

    def _places(self, examples: Examples) -> npt.NDArray[np.int64]:
        numbers = np.ascontiguousarray(examples, dtype=np.int64)
        # The kernels trust addresses, so a number that is no example must not reach them.
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(self):
            raise IndexError(f"example numbers must be from 0 to {len(self) - 1}")
        return find_examples(self._table, self._first_examples, numbers, self._max_tokens)

    def _begins(self) -> Examples:
        """Where each document's examples begin in the store; one more entry than documents."""
        parts = [
            shard.arrays["document_examples"][:-1].astype(np.int64) + first
            for shard, first in zip(self._shards, self._first_examples, strict=False)
        ]
        return np.concatenate([*parts, self._first_examples[-1:]])

    def _names(self, field: str) -> tuple[list[str], npt.NDArray[np.uint8]]:
        """The names in all shards, and each document's as an index into them."""
        names = sorted({name for shard in self._shards for name in shard.header[field]})
        parts = [
            np.array([names.index(name) for name in shard.header[field]], dtype=np.uint8)[shard.arrays[field]]
            for shard in self._shards
        ]
        return names, np.concatenate([*parts, np.zeros(0, dtype=np.uint8)])

    def _are_first_by_seed(self, chosen: npt.NDArray[np.bool_], per_level: int) -> npt.NDArray[np.bool_]:
        """Of each level's chosen documents those with the smallest seeds: random, but always the same."""
        seeds = np.concatenate([shard.arrays["seeds"] for shard in self._shards])
        kept = np.zeros(len(chosen), dtype=np.bool_)
        for level in np.unique(self._levels[chosen]):
            rows = np.flatnonzero(chosen & (self._levels == level))
            kept[rows[np.argsort(seeds[rows], kind="stable")[:per_level]]] = True
        return kept


def _addresses(shard: Shard) -> list[int]:
    """A row of the kernels' table."""
    arrays: Mapping[str, Array] = shard.arrays
    sizes = [len(arrays["levels"]), len(arrays["window_examples"]), int(shard.is_wide)]
    return [int(arrays[name].ctypes.data) for name in FIELDS] + sizes
