"""Scores one part of a corpus under one model: the piece of work that `score` spreads over processes.

A part is a file of texts that `pipeline.text_scoring` wrote; its scores are renamed into place, so a part whose scores
are there is done.  A process keeps the last model that it scored with, so parts are handed out model by model.
"""

from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raysweep.inference.loaded_run import open_run
from raysweep.inference.text_scores import TextScores
from raysweep.inference.trained_model import TrainedModel
from raysweep.model.freed_memory import keep_freed_memory
from raysweep.storage.atomic_files import atomic_file


def score_part(
    *,
    run: Path,
    model: str,
    texts: Path,
    out: Path,
    tokens_out: Path | None,
    infills: bool = True,
    device: str | None = None,
) -> int:
    """Score a part's texts; returns their number.

    Args:
        run: the run folder.
        model: a trial, or 'start'.
        texts: the part, with the columns `writing_id` and `text`.
        out: gets nats, tokens and bytes of each text.
        tokens_out: gets the nats of each token, NaN for a text's first; None: they are not written.
        infills: also score the answers to masks; else they are counted as none.
        device: a GPU if there is one.

    Raises:
        DamagedError: the model is not as it was made.
        TrainingError: a loss is not finite.
    """
    table = pq.read_table(texts, columns=["writing_id", "text"], page_checksum_verification=True)
    ids, listed = (table[name].to_pylist() for name in ("writing_id", "text"))
    scores = _load(run, model, device).score_texts(listed, ids, infills=infills)
    if tokens_out is not None:
        _write(tokens_out, pa.table({"nats": scores.token_nats}))
    _write(out, _sums(scores))
    return len(listed)


@lru_cache(maxsize=1)
def _load(run: Path, model: str, device: str | None) -> TrainedModel:
    opened = open_run(run, device)
    keep_freed_memory(opened.device)
    return opened[model]


def _sums(scores: TextScores) -> pa.Table:
    names = ("nats", "tokens", "bytes", "infill_nats", "infill_tokens", "infill_bytes")
    return pa.table({name: getattr(scores, name) for name in names})


def _write(path: Path, table: pa.Table) -> None:
    with atomic_file(path) as beside:
        pq.write_table(table, beside, compression="zstd", write_page_checksum=True)
