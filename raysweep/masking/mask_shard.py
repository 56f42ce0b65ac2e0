"""Makes one shard of the example store: read, segment, tokenise, sample, encode, write.

A plain function of its inputs, so shards may be made in any order, by any number of workers, again
after a crash: a shard's bytes depend on its documents, the policy and the seed alone.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysweep.config.data_settings import MaskingConfig
from raysweep.errors import InputError
from raysweep.masking.custom_masks import own_masks
from raysweep.masking.encoding import Encoded, encode_masks
from raysweep.masking.mask_sampling import Masks, document_seeds, sample_masks
from raysweep.masking.segmentation import segment
from raysweep.masking.shards import NARROW, Array, record_path, shard_path, write_shard
from raysweep.masking.tokens import Tokens, tokenise
from raysweep.masking.vocabulary import Kind
from raysweep.storage.atomic_files import write_json

COLUMNS = ["writing_id", "level", "split", "text"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Documents:
    """The columns of documents.parquet that masks are made from."""

    ids: list[str]
    levels: list[str]
    splits: list[str]
    texts: list[str]


def mask_shard(
    *, documents: Path, rows: tuple[int, int], shard: int, folder: Path, policy: MaskingConfig, seed: int
) -> dict[str, Any]:
    """Make the examples of the documents in `rows` and write them under `folder`.

    Args:
        documents: documents.parquet, sorted by writing_id.
        rows: first row and the one after the last.
        shard: the shard's number, which names its file.

    Returns:
        The shard's record, as it now lies beside it: counts, checksum, seconds by phase.

    Raises:
        InputError: the documents cannot be read, or an own mask function gave bad spans.
    """
    seconds: dict[str, float] = {}
    with _timed(seconds, "read"):
        read = read_documents(documents, rows)
    with _timed(seconds, "segment"):
        segments = segment(read.texts)
    with _timed(seconds, "tokenise"):
        tokens, offsets = tokenise(segments.codes, segments.documents)
    with _timed(seconds, "sample"):
        seeds = document_seeds(seed, read.ids, read.splits)
        masks = own_masks(read, segments, seed, policy) if policy.function else sample_masks(segments, seeds, policy)
    with _timed(seconds, "encode"):
        encoded = encode_masks(segments, tokens, offsets, masks, seeds, policy)
    with _timed(seconds, "write"):
        levels, splits = sorted(set(read.levels)), sorted(set(read.splits))
        header = {"rows": list(rows), "levels": levels, "splits": splits, "max_tokens": policy.max_tokens}
        arrays = pack_examples(tokens, offsets, encoded)
        arrays |= {"levels": _number(read.levels, levels), "splits": _number(read.splits, splits), "seeds": seeds}
        checksum = write_shard(shard_path(folder, shard), header, arrays)
    summary = _summarise(rows, len(segments.codes), masks, encoded)
    summary |= {"shard": shard, "checksum": checksum, "tokens": len(tokens)}
    summary["bytes"] = shard_path(folder, shard).stat().st_size
    summary["seconds"] = {phase: round(value, 4) for phase, value in seconds.items()}
    write_json(record_path(folder, shard), summary)
    return summary


def read_documents(path: Path, rows: tuple[int, int]) -> Documents:
    """The documents of some rows, reading only the row groups they lie in."""
    start, stop = rows
    try:
        with pq.ParquetFile(path) as file:
            if not 0 <= start <= stop <= file.metadata.num_rows:
                raise InputError(f"{path}: rows {start} to {stop} were asked for; it has {file.metadata.num_rows}")
            groups, before, position = [], 0, 0
            for group in range(file.num_row_groups):
                end = position + file.metadata.row_group(group).num_rows
                if end <= start:
                    before = end
                elif position < stop:
                    groups.append(group)
                position = end
            table = file.read_row_groups(groups, columns=COLUMNS).slice(start - before, stop - start)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read ({error}); run the prepare stage again") from error
    columns = {name: table[name].to_pylist() for name in COLUMNS}
    return Documents(ids=columns["writing_id"], levels=columns["level"], splits=columns["split"], texts=columns["text"])


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[phase] = time.perf_counter() - began


def _number(values: list[str], names: list[str]) -> Array:
    number = {name: index for index, name in enumerate(names)}
    return np.array([number[value] for value in values], dtype=np.uint8)


def pack_examples(tokens: Tokens, offsets: Array, encoded: Encoded) -> dict[str, Array]:
    """The arrays of a shard; spans take two bytes unless a document or a mask needs four."""
    counts = np.diff(encoded.example_spans)
    longest = max(int(np.diff(offsets).max(initial=0)), int(counts.max(initial=0)))
    small = np.uint16 if longest < NARROW else np.uint32
    return {
        "tokens": tokens,
        "document_tokens": offsets.astype(np.uint32),
        "document_examples": encoded.document_examples.astype(np.uint32),
        "document_spans": encoded.example_spans[encoded.document_examples].astype(np.uint32),
        "span_counts": counts.astype(small),
        "span_starts": encoded.starts.astype(small),
        "span_lengths": encoded.lengths.astype(small),
        "span_kinds": encoded.kinds,
        "window_examples": encoded.window_examples.astype(np.uint32),
        "window_starts": encoded.window_starts.astype(small),
        "window_ends": encoded.window_ends.astype(small),
    }


def _summarise(rows: tuple[int, int], characters: int, masks: Masks, encoded: Encoded) -> dict[str, Any]:
    counts = encoded.counts
    kinds = np.bincount(encoded.kinds, minlength=len(Kind)).tolist()
    examples = len(encoded.example_spans) - 1
    empty = int((np.diff(masks.document_examples) == 0).sum())
    return {
        "rows": list(rows),
        "documents": rows[1] - rows[0],
        "documents_without_examples": empty,
        "examples": examples,
        "characters": characters,
        "characters_masked": encoded.masked_characters,
        "spans": {kind.name.lower(): kinds[kind] for kind in Kind},
        "dropped": {**masks.left_out._asdict(), "overlapping": counts.overlapping, "too_long": counts.too_long},
        "windows": counts.windows,
        "truncated": counts.truncated,
        "spans_outside_windows": counts.spans_outside,
        "spans_cut": counts.spans_cut,
        "examples_without_answer": counts.without_answer,
    }
