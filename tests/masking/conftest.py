"""Golden data of the original, and tiny corpora on disk."""

import gzip
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysweep.config.data_settings import MaskingConfig
from raysweep.masking.custom_masks import masks_from_lists
from raysweep.masking.encoding import encode_masks
from raysweep.masking.example_store import ExampleStore
from raysweep.masking.mask_shard import mask_shard, pack_examples
from raysweep.masking.segmentation import segment
from raysweep.masking.shards import Shard, plan_shards, write_manifest
from raysweep.masking.tokens import tokenise
from raysweep.masking.vocabulary import gpt2

TEXTS = [
    "I like my school. It is very big, and the teachers are nice! Do you like it?",
    "Dear Sir,\nI am writing to you about the job. I don't have experience, but I'll learn.\nBest,\nAnna",
    "My name's Li. I live in Beijing with my family... We have a dog 😀 and two cats.",
    "“Hello,” he said. ‘It's late’ — she didn't answer.",
    "Yesterday I went to the cinema with my friends. We saw a film about a man who couldn't sleep. It was boring. "
    "After the film we ate pizza, and then we went home.",
    "word",
    "¿Qué? ¡Hola! 我喜欢学习英语。",
    "He said ''no'' and left. Then he said \"yes\".",
]


def golden_folder() -> Path:
    return Path(os.environ.get("RAYSWEEP_GOLDEN", Path(__file__).parents[2].parent / "shared" / "reference"))


@pytest.fixture(scope="session")
def golden() -> list[dict[str, Any]]:
    path = golden_folder() / "golden.jsonl.gz"
    if not path.exists():
        pytest.skip(f"the larger golden set, of the original, is not at {path}; set RAYSWEEP_GOLDEN to its folder")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _write_documents(path: Path, texts: Sequence[str], *, ids: Sequence[str] | None = None) -> Path:
    """A documents.parquet: sorted by writing_id, small row groups, levels and splits by id."""
    ids = ids if ids is not None else [f"w{number:05d}" for number in range(len(texts))]
    rows = sorted(zip(ids, texts, strict=True))
    table = pa.table(
        {
            "document": pa.array(range(len(rows)), pa.int64()),
            "writing_id": pa.array([name for name, _ in rows], pa.string()),
            "l1": pa.array(["Spanish"] * len(rows), pa.string()),
            "level": pa.array([("A1", "B2")[int(name[1:]) % 2] for name, _ in rows], pa.string()),
            "split": pa.array([("train", "train", "test")[int(name[1:]) % 3] for name, _ in rows], pa.string()),
            "text": pa.array([text for _, text in rows], pa.string()),
        }
    )
    pq.write_table(table, path, row_group_size=7)
    return path


def _make_store(
    folder: Path, documents: Path, policy: MaskingConfig, *, shard_documents: int = 8192, seed: int = 0
) -> ExampleStore:
    """All shards of a corpus, one after the other."""
    rows = pq.read_metadata(documents).num_rows
    summaries = [
        mask_shard(documents=documents, rows=part, shard=shard, folder=folder, policy=policy, seed=seed)
        for shard, part in enumerate(plan_shards(rows, shard_documents))
    ]
    write_manifest(folder, fingerprint="f", identity={"seed": seed}, summaries=summaries)
    return ExampleStore.open(folder)


def _store_of(texts: Sequence[str], masks: Sequence[Any], policy: MaskingConfig) -> ExampleStore:
    """A store in memory of examples whose masks are given."""
    segments = segment(texts)
    tokens, offsets = tokenise(segments.codes, segments.documents, gpt2())
    given = masks_from_lists(segments, masks, [f"text {number}" for number in range(len(texts))], drop_repeated=False)
    seeds = np.arange(len(texts), dtype=np.uint64)
    encoded = encode_masks(segments, tokens, offsets, given, seeds, policy=policy, vocabulary=gpt2())
    arrays = pack_examples(tokens, offsets, encoded)
    plain = np.zeros(len(texts), dtype=np.uint8)
    arrays |= {"levels": plain, "splits": plain, "seeds": seeds}
    header = {"levels": ["A1"], "splits": ["train"], "max_tokens": policy.max_tokens}
    return ExampleStore([Shard(header=header, arrays=arrays)], gpt2())


@pytest.fixture
def write_documents() -> Callable[..., Path]:
    return _write_documents


@pytest.fixture
def make_store() -> Callable[..., ExampleStore]:
    return _make_store


@pytest.fixture(scope="session")
def store_of() -> Callable[..., ExampleStore]:
    return _store_of


@pytest.fixture
def texts() -> list[str]:
    """48 short documents, some of them odd."""
    return [f"{text} Text {number}." for number in range(6) for text in TEXTS]


@pytest.fixture
def corpus(tmp_path: Path, texts: list[str]) -> Path:
    """The texts as documents.parquet."""
    return _write_documents(tmp_path / "documents.parquet", texts)
