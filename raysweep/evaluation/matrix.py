"""Puts the models' scores together: the table of losses, and the matrix of perplexities.

A perplexity is exp(nats / tokens) over all of a cell's documents: sums are added first and divided
once.  The matrix has a row for every model and a column for every level, for the metric that the
hypotheses are about; the long table beside it has all three metrics with their nats and tokens.
Pure pandas: no torch.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from raysweep.config.scored_metrics import METRIC_PARTS
from raysweep.errors import InputError
from raysweep.storage.atomic_files import atomic_file, write_text


def merge_losses(cells: Sequence[Path], out: Path) -> None:
    """Write all models' tables as one, in the order given.

    Raises:
        InputError: a model's table is missing.
    """
    for path in cells:
        if not path.exists():
            raise InputError(f"{path}: not there; score the model again (raysweep evaluate)")
    table = pa.concat_tables(pq.read_table(path) for path in cells)
    with atomic_file(out) as beside:
        pq.write_table(table, beside, compression="zstd")


def write_features(losses: Path, documents: Path, out: Path) -> None:
    """Write what every model makes of every document, for classifiers of one's own: a row per document, no text.

    Columns: document, writing_id, level, split, tokens of the context and of the answers with their
    ends, and for each model `context_MODEL` and `infill_MODEL`: nats per token, NaN where a document
    has none.  The context is that of the first mask.
    """
    table = pd.read_parquet(losses, columns=["model", "document", "part", "nats", "tokens"])
    sums = {}
    for metric, parts in {"context": ("first_context",), "infill": METRIC_PARTS["infill"]}.items():
        chosen = table[table["part"].isin(parts)]
        sums[metric] = chosen.groupby(["document", "model"], sort=False)[["nats", "tokens"]].sum()
    models = table["model"].unique()
    numbers = np.sort(table["document"].unique())
    columns: dict[str, pd.Series] = {}
    for metric, found in sums.items():
        tokens = found["tokens"].groupby("document").first()
        columns[f"{metric}_tokens"] = tokens.reindex(numbers, fill_value=0)
    for metric, found in sums.items():
        means = (found["nats"] / found["tokens"]).unstack("model").reindex(index=numbers, columns=models)
        columns |= {f"{metric}_{model}": means[model] for model in models}
    known = pd.read_parquet(documents, columns=["writing_id", "level", "split"]).iloc[numbers].set_index(numbers)
    features = pd.concat([known, pd.DataFrame(columns, index=numbers)], axis=1).rename_axis("document").reset_index()
    with atomic_file(out) as beside:
        features.to_parquet(beside, index=False)


def long_matrix(losses: Path) -> pd.DataFrame:
    """One row per model, level and metric: documents, tokens, nats, perplexity.

    Models and levels stand in the order of the table.  A cell without a token of a metric has no row.
    """
    table = pd.read_parquet(losses, columns=["model", "level", "document", "part", "nats", "tokens"])
    tables = []
    for metric, parts in METRIC_PARTS.items():
        cells = table[table["part"].isin(parts)].groupby(["model", "level"], sort=False)
        sums = cells.agg(documents=("document", "nunique"), tokens=("tokens", "sum"), nats=("nats", "sum"))
        tables.append(sums.assign(metric=metric).reset_index())
    found = pd.concat(tables, ignore_index=True)
    with np.errstate(over="ignore"):  # a diverged model's perplexity is infinite, and said to be
        found["perplexity"] = np.exp(found["nats"] / found["tokens"])
    for name in ("model", "level"):
        found[name] = pd.Categorical(found[name], categories=table[name].unique(), ordered=True)
    found = found.sort_values(["model", "level"], kind="stable", ignore_index=True)
    found = found.astype({"model": str, "level": str})
    return found[["model", "level", "metric", "documents", "tokens", "nats", "perplexity"]]


def build_matrix(losses: Path, *, metric: str) -> pd.DataFrame:
    """Perplexities: a row per model, a column per level; NaN where a cell has no token of the metric."""
    return _widen(long_matrix(losses), metric)


def write_matrix(losses: Path, out: Path, *, metric: str, long_out: Path | None = None) -> None:
    """Write the matrix of one metric (CSV: model, then a perplexity per level), and the long table.

    Args:
        long_out: where the long table goes, all metrics with nats and tokens; nowhere if absent.
    """
    cells = long_matrix(losses)
    write_text(out, _widen(cells, metric).reset_index().to_csv(index=False, lineterminator="\n"))
    if long_out is not None:
        write_text(long_out, cells.to_csv(index=False, lineterminator="\n"))


def _widen(cells: pd.DataFrame, metric: str) -> pd.DataFrame:
    models, levels = cells["model"].unique(), cells["level"].unique()
    wide = cells[cells["metric"] == metric].pivot(index="model", columns="level", values="perplexity")
    return wide.reindex(index=models, columns=levels).rename_axis(index="model", columns=None)
