"""Merges the models' scores into the table of losses, the documents' features, and the matrix of perplexities.

A perplexity is exp(nats / tokens) over all documents of a cell: sums are added first and divided once.
The matrix has a row per model and a column per level, for the metric of the hypotheses.  This module needs no torch.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysweep.config.scored_metrics import METRIC_PARTS, perplexity
from raysweep.errors import InputError
from raysweep.storage.atomic_files import atomic_file, write_text


def merge_losses(cells: Sequence[Path], out: Path) -> None:
    """Concatenate the models' tables in the given order; if there are none, an existing file is removed.

    Models of a single level, such as those between a general and a fine-tuned model, have separate row groups for each
    level, because the report reads such a file level by level, and only the row groups of that level.

    Raises:
        InputError: a model's table is missing.
    """
    for path in cells:
        if not path.exists():
            raise InputError(f"{path}: not there; score the model again (raysweep evaluate)")
    if not cells:
        out.unlink(missing_ok=True)
        return
    tables = [pq.read_table(path, page_checksum_verification=True) for path in cells]
    with (
        atomic_file(out) as temporary,
        pq.ParquetWriter(temporary, tables[0].schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for _, of_level in groupby(tables, key=_only_level):
            writer.write_table(pa.concat_tables(of_level))


def _only_level(table: pa.Table) -> str | None:
    levels = pc.unique(table["level"]).to_pylist()
    return levels[0] if len(levels) == 1 else None


def write_features(losses: Path, documents: Path, out: Path) -> None:
    """Write the losses of every document under every model as features for classifiers: a row per document, no text.

    Columns: document, writing_id, level, split, numbers of tokens of the context and of the answers with their
    ends, and for each model `context_MODEL` and `infill_MODEL`: nats per token, NaN if a document
    has no tokens.  The context is that of the first mask.
    """
    table = pd.read_parquet(
        losses, columns=["model", "document", "part", "nats", "tokens"], page_checksum_verification=True
    )
    sums = {}
    for metric, parts in {"context": ("first_context",), "infill": METRIC_PARTS["infill"]}.items():
        chosen = table[table["part"].isin(parts)]
        sums[metric] = chosen.groupby(["document", "model"], sort=False)[["nats", "tokens"]].sum()
    models = table["model"].unique()
    numbers = np.sort(table["document"].unique())
    columns: dict[str, pd.Series] = {}
    for metric, document_losses in sums.items():
        tokens = document_losses["tokens"].groupby("document").first()
        columns[f"{metric}_tokens"] = tokens.reindex(numbers, fill_value=0)
    for metric, document_losses in sums.items():
        means = (document_losses["nats"] / document_losses["tokens"]).unstack("model")
        means = means.reindex(index=numbers, columns=models)
        columns |= {f"{metric}_{model}": means[model] for model in models}
    facts = pd.read_parquet(documents, columns=["writing_id", "level", "split"], page_checksum_verification=True)
    facts = facts.iloc[numbers].set_index(numbers)
    features = pd.concat([facts, pd.DataFrame(columns, index=numbers)], axis=1).rename_axis("document").reset_index()
    with atomic_file(out) as temporary:
        features.to_parquet(temporary, index=False, write_page_checksum=True)


def build_matrix(losses: Path, *, metric: str) -> pd.DataFrame:
    """Compute the perplexities, a row per model and a column per level; NaN if a cell has no token of the metric.

    Models and levels are in the order of the table.
    """
    table = pd.read_parquet(
        losses, columns=["model", "level", "part", "nats", "tokens"], page_checksum_verification=True
    )
    cells = table[table["part"].isin(METRIC_PARTS[metric])].groupby(["model", "level"])[["nats", "tokens"]].sum()
    perplexities = (cells["nats"] / cells["tokens"]).map(perplexity).unstack("level")
    matrix = perplexities.reindex(index=table["model"].unique(), columns=table["level"].unique())
    return matrix.rename_axis(index="model", columns=None)


def write_matrix(losses: Path, out: Path, *, metric: str) -> None:
    """Write the matrix of a metric as CSV: the model, then a perplexity per level."""
    write_text(out, build_matrix(losses, metric=metric).reset_index().to_csv(index=False, lineterminator="\n"))
