"""Scores one part of a corpus under one model: the unit of work that `score` distributes over processes.

Texts and scores are sent as the bytes of their files, so that a process needs access to neither folder; the sender of
the texts renames the scores into place.  A process keeps the last model that it used, so parts are distributed model by
model.
"""

from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raysweep.errors import InputError
from raysweep.inference.level_classifier import model_digest_of
from raysweep.inference.loaded_run import open_run
from raysweep.inference.part_scores import PartScores
from raysweep.inference.text_scores import TextScores
from raysweep.inference.trained_model import TrainedModel
from raysweep.model.freed_memory import keep_freed_memory
from raysweep.scheduling.trials import START_MODEL
from raysweep.storage.run_folder import RunFolder


def score_part(
    *,
    run: Path,
    model: str,
    model_digest: str,
    texts: bytes,
    with_tokens: bool,
    infills: bool = True,
    device: str | None = None,
) -> PartScores:
    """Score the texts of a part.

    Args:
        run: the run folder.
        model: the name of a trial, or 'start'.
        model_digest: the digest of the model that the sender expects; see `model_digest_of`.
        texts: the part, as a Parquet file with the columns `writing_id` and `text`.
        with_tokens: also return the nats of each token.
        infills: also score the answers to masks; otherwise their sums are 0.
        device: 'cpu', 'cuda' …; None: a GPU if there is one.

    Raises:
        DamagedError: a file of the model is missing or was changed.
        InputError: the trial was trained again since then, or the run has another tokenizer.
        TrainingError: a loss is not finite.
    """
    columns = ["writing_id", "text"]
    table = pq.read_table(pa.BufferReader(texts), columns=columns, page_checksum_verification=True)
    ids, listed = (table[name].to_pylist() for name in columns)
    _refuse_change(run, model, model_digest)
    network = _load(run, model, device, model_digest)
    scores = network.score_texts(listed, ids, infills=infills)
    return PartScores(
        texts=len(listed),
        sums=_packed(_sums(scores)),
        tokens=_packed(pa.table({"nats": scores.token_nats})) if with_tokens else None,
    )


@lru_cache(maxsize=1)
def _load(run: Path, model: str, device: str | None, digest: str) -> TrainedModel:
    opened = open_run(run, device)
    keep_freed_memory(opened.device)
    loaded = opened[model]
    _ = loaded.network
    _refuse_change(run, model, digest)  # it may have been made again in the meantime, and this model is cached
    return loaded


def _refuse_change(run: Path, model: str, digest: str) -> None:
    current = model_digest_of(RunFolder(run), model)
    if current != digest:
        what = "its tokenizer was made" if model == START_MODEL else f"trial '{model:.40}' was trained"
        raise InputError(
            f"{run}: {what} again while texts were scored (digest {digest[:8] or 'none'} → "
            f"{current[:8] or 'none'}); the same command scores them again"
        )


def _sums(scores: TextScores) -> pa.Table:
    names = ("nats", "tokens", "bytes", "infill_nats", "infill_tokens", "infill_bytes")
    return pa.table({name: getattr(scores, name) for name in names})


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed
