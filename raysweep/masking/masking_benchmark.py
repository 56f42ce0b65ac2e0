"""Measures how fast examples are made and assembled, compared with tokenising alone.

The yardstick is `encode_batch` of the `tokenizers` library on the same texts, with one thread, in a
separate process.  Kernels are compiled before the measurement, and the cache of pieces is emptied, as in
a new worker.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from raysweep.config.data_settings import MaskingConfig
from raysweep.corpus.documents import write_documents
from raysweep.errors import InputError
from raysweep.masking.example_store import ExampleStore
from raysweep.masking.mask_shard import mask_shard
from raysweep.masking.original_shape import make_rows
from raysweep.masking.shards import plan_shards, write_manifest
from raysweep.masking.tokens import forget_pieces

BATCH = 64
_PEER_TEXTS = 1000

_YARDSTICK = """
import json, sys, time
import pyarrow.parquet as pq
from raysweep.masking.vocabulary import gpt2
texts = pq.read_table(sys.argv[1], columns=["text"])["text"].to_pylist()
tokenizer = gpt2().plain
tokenizer.encode_batch(texts[:64], add_special_tokens=False)
began = time.perf_counter()
for start in range(0, len(texts), 1000):
    tokenizer.encode_batch(texts[start : start + 1000], add_special_tokens=False)
print(json.dumps(len(texts) / (time.perf_counter() - began)))
"""


def read_texts(csv: Path, column: str, rows: int | None = None) -> list[str]:
    """Read the first `rows` texts of a CSV (None: all); raises InputError if the file or the column cannot be read."""
    try:
        table = pa_csv.read_csv(
            csv,
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(include_columns=[column], column_types={column: pa.string()}),
        )
    except (OSError, pa.ArrowException, KeyError) as error:
        raise InputError(f"{csv}: cannot be read ({error}); must be a CSV with a column {column!r}") from error
    texts: list[str] = table[column].slice(0, rows).to_pylist()
    return texts


def benchmark_masking(
    texts: Sequence[str], *, assembly_s: float = 2.0, like_original_shape: bool = False
) -> dict[str, Any]:
    """Make and assemble the examples of `texts` on one core.

    Args:
        assembly_s: how long to assemble batches, in seconds.
        like_original_shape: also time plain Python in the shape of the original code, on the first 1,000 texts.

    Returns:
        Documents and examples per second, overall and by phase; the yardstick's documents per second and the ratio
        to it; bytes of the store; examples assembled per second in batches of 64 in random order; the examples per
        second of the original's shape, and the ratio of our speed of making and assembling examples to it.
    """
    policy = MaskingConfig()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        documents = folder / "documents.parquet"
        _write_documents(documents, texts)
        warmup = (0, min(64, len(texts)))
        mask_shard(documents=documents, rows=warmup, shard=0, folder=folder / "warm", policy=policy, seed=0)
        forget_pieces()
        began = time.perf_counter()
        summaries = [
            mask_shard(documents=documents, rows=rows, shard=shard, folder=folder / "store", policy=policy, seed=0)
            for shard, rows in enumerate(plan_shards(len(texts), policy.shard_documents))
        ]
        seconds = time.perf_counter() - began
        manifest = write_manifest(folder / "store", fingerprint="benchmark", identity={}, summaries=summaries)
        yardstick = _measure_yardstick(documents)
        totals = manifest["totals"]
        phases = {phase: sum(summary["seconds"][phase] for summary in summaries) for phase in summaries[0]["seconds"]}
        measured = {
            "documents": len(texts),
            "examples": totals["examples"],
            "seconds": seconds,
            "documents_per_s": len(texts) / seconds,
            "examples_per_s": totals["examples"] / seconds,
            "documents_per_s_by_phase": {phase: len(texts) / max(value, 1e-9) for phase, value in phases.items()},
            "yardstick_documents_per_s": yardstick,
            "ratio_to_yardstick": len(texts) / seconds / yardstick,
            "store_bytes": totals["bytes"],
            "assembled_examples_per_s": _measure_assembly(folder / "store", assembly_s),
            "totals": totals,
        }
    if like_original_shape:
        make_rows(texts[:64], policy)
        began = time.perf_counter()
        peer = len(make_rows(texts[:_PEER_TEXTS], policy)) / (time.perf_counter() - began)
        ours = 1 / (1 / measured["examples_per_s"] + 1 / measured["assembled_examples_per_s"])
        measured |= {"original_shape_examples_per_s": peer, "ratio_to_original_shape": ours / peer}
    return measured


def _write_documents(path: Path, texts: Sequence[str]) -> None:
    count = len(texts)
    nothing = pa.nulls(count, pa.string())
    same = {"l1": ["unknown"] * count, "level": ["A1"] * count}
    same |= dict.fromkeys(("learner", "prompt", "date", "score"), nothing)
    table = pa.table({"writing_id": [f"{number:08d}" for number in range(count)], **same, "text": list(texts)})
    write_documents(path, table, np.zeros(count, dtype=np.int64), lambda *_: None)


def _measure_yardstick(documents: Path) -> float:
    environment = {**os.environ, "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, "-c", _YARDSTICK, str(documents)], env=environment, check=True, capture_output=True, text=True
    )
    return float(json.loads(done.stdout))


def _measure_assembly(folder: Path, seconds: float) -> float:
    store = ExampleStore.open(folder)
    order = np.random.default_rng(0).permutation(len(store))
    store.assemble(order[:BATCH])
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(16):
            start = count % max(1, len(order) - BATCH)
            count += len(store.assemble(order[start : start + BATCH]).lengths_B)
    return count / (time.perf_counter() - began)
