"""Generates synthetic examples with the lengths, blanks and answers of EFCAMDAT's examples, for benchmarks."""

from pathlib import Path

import numpy as np

from raysweep.config.training_settings import GPT2_TOKENIZER
from raysweep.errors import ConfigError
from raysweep.masking.example_store import ExampleStore
from raysweep.masking.shards import Shard
from raysweep.masking.vocabulary import Kind, Vocabulary, gpt2
from raysweep.model.start_tokenizer import own_vocabulary, shortened
from raysweep.seeding import generator_for

MEAN_TOKENS, SPREAD, SHORTEST = 75.0, 0.45, 12
"""Parameters of a log-normal distribution; EFCAMDAT's examples have 75 tokens on average."""
ANSWER_SHARE = 0.15
"""Share of an example's tokens that are answers, including the token that ends each."""
_BLANKS = 2  # per example


def benchmark_vocabulary(tokenizer: str) -> Vocabulary:
    """Return the vocabulary that `bench --tokenizer` names; a benchmark has neither a corpus nor a start.

    Raises:
        ConfigError: the name is neither 'gpt2' nor a folder.
        InputError: the tokenizer of the folder cannot be used.
    """
    if tokenizer == GPT2_TOKENIZER:
        return gpt2()
    place, folder = f"--tokenizer: found '{shortened(tokenizer)}'", Path(tokenizer).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"{place}; must be 'gpt2' or a folder with a tokenizer.json, such as a run's runs/NAME/trials/TRIAL/model"
        )
    return own_vocabulary(folder, place)[0]


def synthetic_examples(
    count: int, *, max_tokens: int = 256, seed: int = 0, vocabulary: Vocabulary | None = None
) -> ExampleStore:
    """Generate `count` documents with one example of two blanks each in memory, as a function of the seed.

    Args:
        max_tokens: length of the longest example.
        vocabulary: the vocabulary from which tokens are drawn uniformly; None: GPT-2's.
    """
    vocabulary = vocabulary or gpt2()
    random = generator_for(seed, "synthetic")
    lengths = random.lognormal(np.log(MEAN_TOKENS) - SPREAD**2 / 2, SPREAD, size=count)
    lengths = np.clip(lengths, SHORTEST, max_tokens).astype(np.int64)
    # A blank and an end for each answer, and the start token, are not part of the document.
    tokens = lengths - 2 * _BLANKS - 1
    answers = np.maximum(_BLANKS, (ANSWER_SHARE * lengths).astype(np.int64) - _BLANKS)
    firsts, context = answers // 2, tokens - answers
    starts = np.stack((context // 3, 2 * context // 3 + firsts), axis=1)
    numbers, none = np.arange(count + 1), np.zeros(0, dtype=np.int64)
    arrays = {
        "tokens": random.integers(0, vocabulary.own_size, size=tokens.sum(), dtype=vocabulary.id_type),
        "document_tokens": np.concatenate(([0], np.cumsum(tokens))),
        "document_examples": numbers,
        "document_spans": _BLANKS * numbers,
        "span_counts": np.full(count, _BLANKS),
        "span_starts": starts.reshape(-1),
        "span_lengths": np.stack((firsts, answers - firsts), axis=1).reshape(-1),
        "span_kinds": np.full(_BLANKS * count, Kind.WORD, dtype=np.uint8),
        **dict.fromkeys(("window_examples", "window_starts", "window_ends"), none),
        **dict.fromkeys(("levels", "splits"), np.zeros(count, dtype=np.uint8)),
        "seeds": numbers[:-1],
    }
    return ExampleStore(
        [Shard(header={"levels": ["A1"], "splits": ["train"], "max_tokens": max_tokens}, arrays=arrays)], vocabulary
    )
