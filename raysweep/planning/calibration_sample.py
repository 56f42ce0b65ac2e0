"""The examples that a calibration trains on: a sample of the config's own corpus, prepared and masked as a run does."""

import time
from pathlib import Path

from raysweep.config.schema import Config
from raysweep.planning.forecast import DataSize
from raysweep.storage.run_folder import RunFolder

SAMPLE_DOCUMENTS = 60
"""Of each level."""


def make_examples(config: Config, folder: RunFolder) -> tuple[DataSize, float, float, dict[str, int]]:
    """Mask a sample of the corpus; returns the data's size, seconds an example and to begin with, test documents."""
    import numpy as np
    import pyarrow as pa

    from raysweep.corpus.csv_documents import read_corpus
    from raysweep.corpus.documents import sort_documents, write_documents
    from raysweep.corpus.sample import SAMPLE_COLUMNS, write_sample
    from raysweep.corpus.splits import SPLITS
    from raysweep.masking.example_store import ExampleStore
    from raysweep.masking.mask_shard import mask_shard
    from raysweep.masking.shards import write_manifest

    levels, csv, columns, rows = config.data.levels, config.data.csv, None, 0
    if csv is None:
        csv, columns, rows = str(folder.sample_csv), SAMPLE_COLUMNS, config.data.sample.rows
        shares = config.data.sample.level_shares
        sampled = SAMPLE_DOCUMENTS * len(levels) * 2
        write_sample(folder.sample_csv, rows=sampled, seed=config.seed, level_shares=shares, levels=levels)
    corpus = read_corpus(Path(csv).expanduser(), config.data, columns)
    names = np.array(corpus.documents["level"].to_pylist(), dtype=np.str_)
    rng = np.random.default_rng(0)
    chosen = [rng.permutation(np.flatnonzero(names == level))[:SAMPLE_DOCUMENTS] for level in levels]
    documents = sort_documents(corpus.documents.take(pa.array(np.concatenate(chosen))))
    # Every tenth document is for validation and two of ten for tests: timing needs no fair split.
    parts = np.array(["train"] * 7 + ["valid"] + ["test"] * 2)[np.arange(len(documents)) % 10]
    splits = np.array([SPLITS.index(str(part)) for part in parts])
    write_documents(folder.documents, documents, splits, lambda *_: None)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        summary = mask_shard(
            documents=folder.documents,
            rows=(0, len(documents)),
            shard=0,
            folder=folder.examples,
            policy=config.masking,
            seed=config.seed,
        )
        seconds.append(time.perf_counter() - began)
    write_manifest(folder.examples, fingerprint="calibration", identity={}, summaries=[summary])
    store = ExampleStore.open(folder.examples)
    lengths = {level: store.lengths(store.select([level], "train")) for level in levels}
    taken = np.array(documents["level"].to_pylist(), dtype=np.str_)
    scale = rows / corpus.rows if rows else 1.0
    size = DataSize(
        tokens={level: float(each.mean()) for level, each in lengths.items() if len(each)},
        documents={level: round(int((names == level).sum()) * scale) for level in levels},
        rows=rows or corpus.rows,
        is_measured=True,
    )
    tested = {level: int(((taken == level) & (parts == "test")).sum()) for level in levels}
    mask_s = seconds[1] / max(1, summary["examples"])
    return size, mask_s, max(0.0, seconds[0] - seconds[1]), {name: count for name, count in tested.items() if count}
