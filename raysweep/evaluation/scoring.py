"""Scores one model on every level's test documents: nats and tokens, summed per document.

A model is loaded once and sees every level's examples in one pass, longest first, in batches of
similar length.  What comes out is a table of sums, one row per (document, kind of span, part): no
mean is ever taken here, so neither batch size nor padding nor the order of work can change a
number beyond float error.  The record is renamed into place after the table; without it the model
is scored again.

Parts: `answer` the tokens of an answer, `end` the token that ends it, `context` the text around
the blanks.  The ILM paper's scores are sums of parts: infill = answer + end, infill_textonly =
answer.  Blanks and the start token are never predicted, nor is an example's first token.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from raysweep.config.judging import EvaluationConfig
from raysweep.config.trials import ModelConfig
from raysweep.errors import InputError, TrainingError
from raysweep.evaluation.generation import score_generation
from raysweep.evaluation.likelihood import full_precision, label_nats
from raysweep.masking.store import ExampleStore
from raysweep.masking.vocabulary import Kind, TargetType
from raysweep.model.gpt2 import build_model, load_model, parameter_count
from raysweep.scheduling.trials import START_MODEL
from raysweep.store import write_json, written_beside

logger = logging.getLogger(__name__)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# The rows a document can have, in the order of the table: the context, then every kind's answer and end.
CELLS = [("", "context"), *((kind.name.lower(), part) for kind in Kind for part in ("answer", "end"))]
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
    ]
)


class StartRecipe(Protocol):
    """How the start that the trials share is made; a training job says it."""

    @property
    def model(self) -> ModelConfig: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def seed(self) -> int: ...


class Examples(Protocol):
    """What scoring asks of an example store."""

    def lengths(self, examples: Ints, /) -> npt.NDArray[Any]: ...
    def documents_of(self, examples: Ints, /) -> npt.NDArray[Any]: ...
    def assemble(self, examples: Ints, /) -> Any: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentSums:
    """Losses added up.  D documents; P rows that a document can have (`CELLS`)."""

    documents: Ints
    """(D,) their numbers, ascending."""
    nats: Floats
    """(D, P)"""
    tokens: Ints
    """(D, P) labels."""


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
    fingerprint: str,
    device: str | None = None,
) -> None:
    """Score one model on every level's test documents, and write its table, then its record.

    Args:
        model: the trial's name, or `START_MODEL` for the baseline row.
        start: the folder with the model; for the baseline: what the trials start from.
        job: how the baseline is made; not read for a trained model.
        device: 'cpu', 'cuda' …; a GPU if there is one.

    Raises:
        InputError: there is no test document to score, or the model's files cannot be read.
        TrainingError: the model's loss is not a number.
    """
    began = time.perf_counter()
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if model == START_MODEL:
        network: Any = build_model(start, model=job.model, max_tokens=job.max_tokens, seed=job.seed)
    else:
        network = load_model(Path(start))
    network.to(place).eval()
    store = ExampleStore.open(examples)
    chosen = store.select(
        levels,
        "test",
        examples_per_document=evaluation.examples_per_document,
        documents_per_level=evaluation.documents_per_level,
    )
    if not len(chosen):
        raise InputError(f"{examples}: no test example of {', '.join(levels)}; give more documents, or a larger split")
    texts = pq.read_table(documents, columns=["writing_id", "level"])
    level_of = np.array(texts["level"].to_pylist(), dtype=np.str_)
    with full_precision():
        sums = score_examples(
            network, store, chosen, batch_tokens=evaluation.batch_tokens, context_examples=evaluation.context_examples
        )
        check_finite(model, sums)
        by_level = {level: chosen[level_of[store.documents_of(chosen)] == level] for level in levels}
        generation = score_generation(network, store, by_level, documents=evaluation.generation_documents, seed=seed)
    # A record of earlier scores must not vouch for the new table.
    record.unlink(missing_ok=True)
    write_table(out, model, levels, sums, level_of=level_of, writing_ids=texts["writing_id"])
    seconds = time.perf_counter() - began
    counts = {"documents": len(sums.documents), "examples": len(chosen), "tokens": int(sums.tokens.sum())}
    logger.info("%s: scored %s tokens in %.1f s on %s", model, f"{counts['tokens']:,}", seconds, place)
    write_json(
        record,
        {
            "fingerprint": fingerprint,
            "model": model,
            **counts,
            "parameters": parameter_count(network),
            "device": torch.cuda.get_device_name(place) if place.type == "cuda" else place.type,
            "seconds": round(seconds, 3),
            "generation": generation,
        },
    )


def score_examples(
    model: Any, store: Examples, examples: Ints, *, batch_tokens: int, context_examples: int = 1
) -> DocumentSums:
    """Add up the losses of examples per document, kind and part.  Call it inside `full_precision()`.

    Args:
        batch_tokens: tokens in a batch, padding included; a longer example is a batch of its own.
        context_examples: of each document's examples, in their order, how many have their context
            scored too.  The context is nearly the same text under every mask, and four fifths of
            the labels.
    """
    owners = np.asarray(store.documents_of(examples), dtype=np.int64)
    documents_D, slots = np.unique(owners, return_inverse=True)
    with_context = _rank_in_group(slots) < context_examples
    nats_DP = np.zeros((len(documents_D), len(CELLS)))
    tokens_DP = np.zeros(nats_DP.shape, dtype=np.int64)
    place = next(model.parameters()).device
    for rows in _batches(np.asarray(store.lengths(examples)), batch_tokens):
        batch = store.assemble(examples[rows])
        chosen_BT = _choose_labels(batch.types_BT, with_context[rows])
        ids_BT = torch.from_numpy(batch.ids_BT.astype(np.int64)).to(place)
        nats_N = label_nats(model, ids_BT, torch.from_numpy(chosen_BT).to(place)).double().cpu().numpy()
        cells_BT = slots[rows][:, None] * len(CELLS) + _cells_of(batch.types_BT, batch.kinds_BT)
        cells_N = cells_BT[chosen_BT]
        nats_DP += np.bincount(cells_N, nats_N, minlength=nats_DP.size).reshape(nats_DP.shape)
        tokens_DP += np.bincount(cells_N, minlength=nats_DP.size).reshape(nats_DP.shape)
    return DocumentSums(documents=documents_D, nats=nats_DP, tokens=tokens_DP)


def _batches(lengths: npt.NDArray[Any], batch_tokens: int) -> Iterator[Ints]:
    """Places in `lengths`, longest first, so that what does not fit in memory fails at once."""
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    start = 0
    while start < len(order):
        stop = start + max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start:stop]
        start = stop


def _rank_in_group(groups: Ints) -> Ints:
    """Of each entry, how many earlier ones have its value."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    ranks = np.empty(len(groups), dtype=np.int64)
    ranks[order] = np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
    return ranks


def _choose_labels(types_BT: npt.NDArray[np.uint8], with_context_B: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    chosen_BT: npt.NDArray[np.bool_] = (types_BT == TargetType.INFILL) | (types_BT == TargetType.INFILL_SPECIAL)
    chosen_BT |= (types_BT == TargetType.CONTEXT) & with_context_B[:, None]
    chosen_BT[:, 0] = False
    return chosen_BT


def _cells_of(types_BT: npt.NDArray[np.uint8], kinds_BT: npt.NDArray[np.uint8]) -> Ints:
    """Places in `CELLS`; of labels alone, other positions hold anything."""
    answers_BT = 1 + 2 * kinds_BT.astype(np.int64) + (types_BT == TargetType.INFILL_SPECIAL)
    return np.where(types_BT == TargetType.CONTEXT, 0, answers_BT)


def check_finite(model: str, sums: DocumentSums) -> None:
    bad = np.flatnonzero(~np.isfinite(sums.nats).all(axis=1))
    if len(bad):
        raise TrainingError(
            f"{model}: found a loss that is not a finite number on {len(bad):,} of {len(sums.documents):,} test "
            f"documents; its training has diverged. Lower its learning_rate and train it again (--force {model})"
        )


def write_table(
    out: Path, model: str, levels: Sequence[str], sums: DocumentSums, *, level_of: Any, writing_ids: Any
) -> None:
    """One row per level, document, kind and part that has tokens, in this order."""
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
        },
        schema=SCHEMA,
    )
    with written_beside(out) as beside:
        pq.write_table(table, beside, compression="zstd")
