"""A small store of real examples, and a GPT-2 of one layer and eight numbers a token to train on them."""

import dataclasses

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from raysweep.config.data_settings import MaskingConfig
from raysweep.config.training_settings import ModelConfig, TrainingConfig
from raysweep.masking.example_store import ExampleStore
from raysweep.masking.mask_shard import mask_shard
from raysweep.masking.shards import write_manifest
from raysweep.masking.vocabulary import gpt2
from raysweep.model.gpt2 import build_model
from raysweep.storage.run_folder import TrialFolder
from raysweep.training.hardware import make_kernels
from raysweep.training.job import TrainingJob
from tests.gpt2_tokens import VOCABULARY_SIZE
from tests.one_thread import one_thread as one_thread

MAX_TOKENS = 64
_NAMES = ["Ana", "Bo", "Chen", "Dora", "Emil", "Fatma", "Gus", "Hui", "Ivo", "Jana"]
_ENDINGS = [
    "like to eat apples.",
    "was going to the park yesterday with a dog!",
    "have never seen such a big city. It was raining all day long and we was very tired.\nBut we had fun.",
    "live here.",
]


@pytest.fixture
def folder(tmp_path):
    return TrialFolder(tmp_path / "A1")


@pytest.fixture(scope="session")
def make_store(tmp_path_factory):
    """Makes an example store of (level, split, text) documents."""

    def make(documents, **policy):
        folder = tmp_path_factory.mktemp("store")
        ids = [f"{number:04d}" for number in range(len(documents))]
        levels, splits, texts = zip(*documents, strict=True)
        table = pa.table({"writing_id": ids, "level": levels, "split": splits, "text": texts})
        pq.write_table(table, folder / "documents.parquet")
        summary = mask_shard(
            documents=folder / "documents.parquet",
            rows=(0, len(documents)),
            shard=0,
            folder=folder / "examples",
            policy=MaskingConfig(max_tokens=MAX_TOKENS, **policy),
            seed=0,
        )
        write_manifest(folder / "examples", fingerprint="made for a test", identity={}, summaries=[summary])
        return folder / "examples"

    return make


@pytest.fixture(scope="session")
def store_folder(make_store):
    """Two levels of 40 documents, four examples of each; every fifth document is in the valid split."""
    documents = [
        (level, "valid" if number % 5 == 0 else "train", f"My name is {_NAMES[number % 10]}. We {_ENDINGS[number % 4]}")
        for level in ("A1", "B1")
        for number in range(40)
    ]
    return make_store(documents, examples_per_document=4, word=0.1, min_spans=1)


@pytest.fixture(scope="session")
def store(store_folder):
    return ExampleStore.open(store_folder)


@pytest.fixture(scope="session")
def small_start(tmp_path_factory):
    """A folder with a GPT-2 whose step takes some 20 ms."""
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCABULARY_SIZE, n_positions=MAX_TOKENS, n_layer=1, n_embd=8, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def build_small_model(small_start):
    """Builds that GPT-2 for training."""

    def build(dropout=0.0):
        return build_model(
            str(small_start), model=ModelConfig(dropout=dropout), vocabulary=gpt2(), max_tokens=MAX_TOKENS, seed=0
        )

    return build


@pytest.fixture
def make_job(store_folder, small_start, tmp_path):
    """Makes a job of 12 steps; settings and fields may be changed."""

    def make(*, dropout=0.1, fields=None, **settings):
        defaults = {"steps": 12, "batch_size": 4, "learning_rate": 1e-2, "evaluate_every": 4, "checkpoint_every": 3}
        job = TrainingJob(
            trial="A1",
            folder=tmp_path / "trials" / "A1",
            examples=store_folder,
            levels=("A1",),
            settings=TrainingConfig(**defaults | {"valid_examples": 8, "window_batches": 4} | settings),
            model=ModelConfig(dropout=dropout),
            start=str(small_start),
            seed=0,
            max_tokens=MAX_TOKENS,
            fingerprint="work-1",
        )
        return dataclasses.replace(job, **fields or {})

    return make


@pytest.fixture
def compiled_kernels():
    """Kernels that torch.compile traces but does not compile, and a list that gets each graph that it makes."""
    torch._dynamo.reset()
    graphs = []

    def trace(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    return make_kernels(True, torch.device("cpu"), backend=trace), graphs
