"""Scores one model on documents of the requested levels: nats and tokens, summed per document.

A model is loaded once and scores the examples of all levels in one pass.  The result is a table of sums, one row
per (document, kind of span, part), see `document_sums`.  The record is renamed into place after the
table; without it the model is scored again.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysweep.config.evaluation_settings import EvaluationConfig
from raysweep.config.fingerprints import fingerprint
from raysweep.config.training_settings import ModelConfig
from raysweep.errors import InputError, TrainingError
from raysweep.evaluation.document_sums import CELLS, FIRST, DocumentSums, score_examples
from raysweep.evaluation.generation import score_generation
from raysweep.masking.example_store import ExampleStore
from raysweep.model.freed_memory import keep_freed_memory
from raysweep.model.gpt2 import build_model, load_model, parameter_count
from raysweep.model.interpolation import interpolate_weights
from raysweep.model.token_losses import full_precision
from raysweep.model.torch_devices import device_name, select_device
from raysweep.scheduling.trials import START_MODEL
from raysweep.storage.atomic_files import atomic_file, write_json
from raysweep.storage.digests import describe_outputs, write_sealed
from raysweep.storage.run_folder import samples_beside

logger = logging.getLogger(__name__)

SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("level", pa.string()),
        ("document", pa.int64()),
        ("writing_id", pa.string()),
        ("kind", pa.string()),
        ("part", pa.string()),
        ("nats", pa.float64()),
        ("tokens", pa.int64()),
        ("bytes", pa.int64()),
    ]
)


class StartRecipe(Protocol):
    """The fields of a training job that define the common start of the trials."""

    @property
    def model(self) -> ModelConfig: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def start_digest(self) -> str: ...


def score_model(
    *,
    model: str,
    start: str,
    job: StartRecipe,
    examples: Path,
    documents: Path,
    levels: tuple[str, ...],
    evaluation: EvaluationConfig,
    seed: int,
    out: Path,
    record: Path,
    identity: Mapping[str, Any],
    made_from: Mapping[str, str],
    splits: tuple[str, ...] = ("test",),
    general: Path | None = None,
    weight: float = 1.0,
    device: str | None = None,
) -> None:
    """Score one model on documents of these levels, and write its table, then its record.

    Args:
        model: the trial's name, or `START_MODEL` for the baseline row.
        start: the folder with the model; for the baseline, the trials' start.
        job: the settings from which the baseline is built; not used for a trained model.
        identity, made_from: its settings and the digests of its inputs, for the record.
        splits: the splits whose documents are scored; the table does not distinguish them.
        general, weight: the folder of a second model, and how far the weights go from it (0) to those of `start` (1).
        device: 'cpu', 'cuda' …; a GPU if there is one.

    Raises:
        InputError: there is no document to score, or the model's files cannot be read.
        TrainingError: the model's loss is not a number.
    """
    began = time.perf_counter()
    torch_device = select_device(device)
    keep_freed_memory(torch_device)
    store = ExampleStore.open(examples)
    if model == START_MODEL:
        network: Any = build_model(
            start,
            model=job.model,
            vocabulary=store.vocabulary,
            max_tokens=job.max_tokens,
            seed=job.seed,
            start_digest=job.start_digest,
        )
    else:
        network = load_model(Path(start))
    if general is not None:
        interpolate_weights(load_model(general), network, weight)
    network.to(torch_device).eval()
    limits = evaluation.model_dump(include={"examples_per_document", "documents_per_level"})
    parts = {split: store.select(levels, split, **limits) for split in splits}
    for split, part in parts.items():
        if not len(part):
            raise InputError(
                f"{examples}: no {split} example of {', '.join(levels)}; give more documents, or a larger split"
            )
    chosen = np.sort(np.concatenate(list(parts.values())))
    texts = pq.read_table(documents, columns=["writing_id", "level"], page_checksum_verification=True)
    level_of = np.array(texts["level"].to_pylist(), dtype=np.str_)
    with full_precision():
        sums = score_examples(
            network, store, chosen, batch_tokens=evaluation.batch_tokens, context_examples=evaluation.context_examples
        )
        check_finite(model, sums)
        by_level = {level: chosen[level_of[store.documents_of(chosen)] == level] for level in levels}
        samples: list[dict[str, Any]] = []
        generation = score_generation(
            network, store, by_level, documents=evaluation.generation_documents, seed=seed, samples=samples
        )
    # A record of earlier scores must not exist next to the new table.
    record.unlink(missing_ok=True)
    write_table(out, model, levels, sums, level_of=level_of, writing_ids=texts["writing_id"])
    write_json(samples_beside(out), samples)
    seconds = time.perf_counter() - began
    counts = {
        "documents": len(sums.documents),
        "examples": len(chosen),
        "tokens": int(sums.tokens[:, : -len(FIRST)].sum()),
    }
    logger.info("%s: scored %s tokens in %.1f s on %s", model, f"{counts['tokens']:,}", seconds, torch_device)
    write_sealed(
        record,
        {
            "fingerprint": fingerprint(identity),
            "identity": identity,
            "made_from": made_from,
            "outputs": describe_outputs(record.parent, [out, samples_beside(out)]),
            "model": model,
            **counts,
            "parameters": parameter_count(network),
            "device": device_name(torch_device),
            "seconds": round(seconds, 3),
            "generation": generation,
        },
    )


def check_finite(model: str, sums: DocumentSums) -> None:
    bad = np.flatnonzero(~np.isfinite(sums.nats).all(axis=1))
    if len(bad):
        trial = model.partition("@")[0]
        raise TrainingError(
            f"{model}: found a loss that is not a finite number on {len(bad):,} of {len(sums.documents):,} "
            f"documents; its training has diverged. Lower its learning_rate and train it again (--force {trial})"
        )


def write_table(
    out: Path, model: str, levels: Sequence[str], sums: DocumentSums, *, level_of: Any, writing_ids: Any
) -> None:
    """Write one row per level, document, kind and part that has tokens, in this order."""
    row_levels = level_of[sums.documents]
    rank_D = np.array([levels.index(level) for level in row_levels], dtype=np.int64)
    order_D = np.lexsort((sums.documents, rank_D))
    tokens_DP, nats_DP = sums.tokens[order_D], sums.nats[order_D]
    rows, cells = np.nonzero(tokens_DP)
    numbers = sums.documents[order_D][rows]
    kinds, parts = (np.array(names) for names in zip(*CELLS, strict=True))
    table = pa.table(
        {
            "model": np.full(len(rows), model),
            "level": level_of[numbers],
            "document": numbers,
            "writing_id": writing_ids.take(pa.array(numbers)).cast(pa.string()),
            "kind": kinds[cells],
            "part": parts[cells],
            "nats": nats_DP[rows, cells],
            "tokens": tokens_DP[rows, cells],
            "bytes": sums.bytes[order_D][rows, cells],
        },
        schema=SCHEMA,
    )
    with atomic_file(out) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
