"""Makes one shard of the example store: read, segment, tokenise, sample, encode, write.

`mask_shard` is a pure function of its inputs: the bytes of a shard depend only on its documents, the policy and
the seed.  So shards can be made in any order, by any number of workers, and again after a crash.
`make_shard` makes the same shard in memory, for texts that are only scored.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from raysweep.config.data_settings import MaskingConfig
from raysweep.corpus.documents import Documents, read_documents
from raysweep.masking.custom_masks import custom_masks
from raysweep.masking.encoding import Encoded, encode_masks
from raysweep.masking.languages import ENGLISH
from raysweep.masking.mask_sampling import Masks, Seeds, document_seeds, sample_masks
from raysweep.masking.segmentation import Segments, segment
from raysweep.masking.shards import NARROW, Array, Shard, write_shard
from raysweep.masking.tokenizer_folder import unpack_vocabulary
from raysweep.masking.tokens import Tokens, tokenise
from raysweep.masking.vocabulary import Kind, Vocabulary
from raysweep.storage.atomic_files import write_json
from raysweep.storage.run_folder import ExamplesFolder


def mask_shard(
    *,
    documents: Path,
    rows: tuple[int, int],
    shard: int,
    folder: Path,
    policy: MaskingConfig,
    seed: int,
    language: str = ENGLISH,
    tokenizer: bytes | None = None,
) -> dict[str, Any]:
    """Make the examples of the documents in `rows` and write them under `folder`.

    Args:
        documents: documents.parquet, sorted by writing_id.
        rows: the first row, and the end of the range.
        shard: the number of the shard, which names its file.
        language: the language of the texts, which determines where sentences and words end.
        tokenizer: the run's tokenizer, from `pack_vocabulary`; None for GPT-2's.

    Returns:
        The shard's record, which is also written next to it: counts, checksum, seconds by phase.

    Raises:
        InputError: the documents cannot be read, or a custom mask function returned invalid spans.
    """
    store = ExamplesFolder(folder)
    seconds: dict[str, float] = {}
    with _timed(seconds, "read"):
        read = read_documents(documents, rows)
    made = _make_examples(read, policy, seed, language, unpack_vocabulary(tokenizer), seconds)
    header = {"rows": list(rows), **made.shard.header}
    with _timed(seconds, "write"):
        checksum = write_shard(store.shard(shard), header, made.shard.arrays)
    summary = _summarise(rows, made)
    summary |= {"shard": shard, "checksum": checksum, "tokens": len(made.shard.arrays["tokens"])}
    summary["bytes"] = store.shard(shard).stat().st_size
    summary["seconds"] = {phase: round(value, 4) for phase, value in seconds.items()}
    write_json(store.shard_record(shard), summary)
    return summary


def make_shard(
    documents: Documents, vocabulary: Vocabulary, *, policy: MaskingConfig, seed: int, language: str = ENGLISH
) -> Shard:
    """Make in memory the examples that `mask_shard` would write for these documents.

    Raises:
        InputError: a custom mask function returned invalid spans.
    """
    return _make_examples(documents, policy, seed, language, vocabulary, {}).shard


class _MadeShard(NamedTuple):
    """A shard, and the data for its record."""

    shard: Shard
    characters: int
    masks: Masks
    encoded: Encoded


def _make_examples(
    read: Documents,
    policy: MaskingConfig,
    seed: int,
    language: str,
    vocabulary: Vocabulary,
    seconds: dict[str, float],
) -> _MadeShard:
    with _timed(seconds, "segment"):
        segments = segment(read.texts, language)
    with _timed(seconds, "tokenise"):
        tokens, offsets = tokenise(segments.codes, segments.documents, vocabulary)
    with _timed(seconds, "sample"):
        seeds = document_seeds(seed, read.ids, read.splits)
        masks = draw_masks(read, segments, seeds, policy, seed)
    with _timed(seconds, "encode"):
        encoded = encode_masks(segments, tokens, offsets, masks, seeds, policy=policy, vocabulary=vocabulary)
    header: dict[str, Any] = {"max_tokens": policy.max_tokens}
    arrays = {**pack_examples(tokens, offsets, encoded), "seeds": seeds}
    for field, values in (("levels", read.levels), ("splits", read.splits)):
        names, codes = np.unique(values, return_inverse=True)
        header[field], arrays[field] = names.tolist(), codes.astype(np.uint8)
    return _MadeShard(Shard(header=header, arrays=arrays), len(segments.codes), masks, encoded)


def draw_masks(documents: Documents, segments: Segments, seeds: Seeds, policy: MaskingConfig, seed: int) -> Masks:
    """Draw masks by the policy's probabilities, or by the custom function that it names."""
    return custom_masks(documents, segments, seed, policy) if policy.function else sample_masks(segments, seeds, policy)


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[phase] = time.perf_counter() - began


def pack_examples(tokens: Tokens, offsets: Array, encoded: Encoded) -> dict[str, Array]:
    """Build the arrays of a shard; offsets of spans take two bytes unless a document or a mask needs four."""
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


def _summarise(rows: tuple[int, int], made: _MadeShard) -> dict[str, Any]:
    masks, encoded, counts = made.masks, made.encoded, made.encoded.counts
    kinds = np.bincount(encoded.kinds, minlength=len(Kind)).tolist()
    examples = len(encoded.example_spans) - 1
    empty = int((np.diff(masks.document_examples) == 0).sum())
    return {
        "rows": list(rows),
        "documents": rows[1] - rows[0],
        "documents_without_examples": empty,
        "examples": examples,
        "characters": made.characters,
        "characters_masked": encoded.masked_characters,
        "spans": {kind.name.lower(): kinds[kind] for kind in Kind},
        "dropped": {**masks.left_out._asdict(), "overlapping": counts.overlapping, "too_long": counts.too_long},
        "windows": counts.windows,
        "truncated": counts.truncated,
        "spans_outside_windows": counts.spans_outside,
        "spans_cut": counts.spans_cut,
        "examples_without_answer": counts.without_answer,
    }
