"""Provides the tokenizer that the config names: GPT-2's, the start's own, that of a folder, or one trained on the
corpus."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq

from raysweep.config.schema import Config
from raysweep.config.training_settings import CORPUS_TOKENIZER, START_TOKENIZER, ModelConfig
from raysweep.masking.characters import join_texts
from raysweep.masking.corpus_tokenizer import train_tokenizer
from raysweep.masking.example_store import run_vocabulary
from raysweep.masking.tokenizer_folder import write_tokenizer
from raysweep.masking.tokens import tokenise
from raysweep.masking.vocabulary import Vocabulary, gpt2
from raysweep.model.start_folder import find_folder, place_of, read_start
from raysweep.model.start_tokenizer import named_vocabulary
from raysweep.storage.run_folder import ExamplesFolder

_TEXTS_AT_ONCE = 4096


def configured_vocabulary(model: ModelConfig) -> Vocabulary | None:
    """Return the configured vocabulary, None if it must be trained on the corpus; raises InputError if unusable."""
    if model.tokenizer == CORPUS_TOKENIZER:
        return None
    if model.tokenizer == START_TOKENIZER:
        return read_start(find_folder(model.start), place_of(model.start), vocabulary=None).vocabulary
    return named_vocabulary(model.tokenizer)


def make_tokenizer(config: Config, documents: Path, examples: Path) -> Vocabulary:
    """Find or train the run's tokenizer, and write it next to the examples if it is not GPT-2's.

    Raises:
        InputError: it cannot be used, or is not lossless on the documents.
    """
    shutil.rmtree(ExamplesFolder(examples).tokenizer, ignore_errors=True)
    vocabulary = configured_vocabulary(config.model) or train_tokenizer(documents)
    return _write_tokenizer(examples, vocabulary, documents, config.masking.max_tokens)


def copy_tokenizer(config: Config, run_examples: Path, documents: Path, examples: Path) -> Vocabulary:
    """Copy the run's tokenizer to the examples of a further corpus if it is not GPT-2's; returns its vocabulary.

    Raises:
        InputError: it is not lossless on the documents, or the run's examples are damaged.
    """
    vocabulary = run_vocabulary(run_examples, config.model.tokenizer)
    return _write_tokenizer(examples, vocabulary, documents, config.masking.max_tokens)


def _write_tokenizer(examples: Path, vocabulary: Vocabulary, documents: Path, max_tokens: int) -> Vocabulary:
    if vocabulary is not gpt2():
        if not vocabulary.cuts_like_gpt2:
            _refuse_lossy(vocabulary, documents)
        write_tokenizer(ExamplesFolder(examples).tokenizer, vocabulary, max_tokens)
    return vocabulary


def _refuse_lossy(vocabulary: Vocabulary, documents: Path) -> None:
    """Raise InputError if a document changes when it is encoded and decoded."""
    with pq.ParquetFile(documents, page_checksum_verification=True) as file:
        for batch in file.iter_batches(_TEXTS_AT_ONCE, columns=["text"]):
            tokenise(*join_texts(batch["text"].to_pylist()), vocabulary)
