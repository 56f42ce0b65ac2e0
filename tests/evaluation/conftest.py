"""A tiny GPT-2, hand-made examples, and a store that holds them."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from raysweep.masking.vocabulary import Kind, TargetType, gpt2
from tests.gpt2_tokens import END_OF_INFILL, FIRST_BLANK, START_OF_INFILL, VOCABULARY_SIZE, document_tokenizer
from tests.one_thread import one_thread as one_thread

CONTEXT, BLANK, START, INFILL, END = (
    int(kind)
    for kind in (
        TargetType.CONTEXT,
        TargetType.CONTEXT_SPECIAL,
        TargetType.START,
        TargetType.INFILL,
        TargetType.INFILL_SPECIAL,
    )
)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One example, written out by hand."""

    document: int
    ids: list[int]
    types: list[int]
    kinds: list[int]


def make_example(document: int, *parts: str | tuple[Kind, str]) -> Example:
    """An example of text pieces and (kind, answer) spans, laid out as REFERENCE's section on ILM says."""
    encode = document_tokenizer().encode
    ids, types, answers = [], [], []
    for part in parts:
        if isinstance(part, str):
            tokens = encode(part).ids
            ids, types = ids + tokens, types + [CONTEXT] * len(tokens)
        else:
            ids, types = [*ids, FIRST_BLANK + part[0]], [*types, BLANK]
            answers.append((part[0], encode(part[1]).ids))
    ids, types = [*ids, START_OF_INFILL], [*types, START]
    kinds = [255] * len(ids)
    for kind, tokens in answers:
        ids, types = [*ids, *tokens, END_OF_INFILL], types + [INFILL] * len(tokens) + [END]
        kinds += [int(kind)] * (len(tokens) + 1)
    return Example(document=document, ids=ids, types=types, kinds=kinds)


class HandMadeStore:
    """Answers what scoring asks of an example store, from a list of examples."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples, self.vocabulary = list(examples), gpt2()

    @property
    def all(self):
        return np.arange(len(self.examples))

    def lengths(self, examples):
        return np.array([len(self.examples[number].ids) for number in examples])

    def documents_of(self, examples):
        return np.array([self.examples[number].document for number in examples])

    def assemble(self, examples):
        chosen = [self.examples[number] for number in examples]
        longest = max(len(example.ids) for example in chosen)

        def pad(rows, filler, dtype):
            return np.array([row + [filler] * (longest - len(row)) for row in rows], dtype=dtype)

        return SimpleNamespace(
            ids_BT=pad([example.ids for example in chosen], 0, np.int32),
            types_BT=pad([example.types for example in chosen], 0, np.uint8),
            kinds_BT=pad([example.kinds for example in chosen], 255, np.uint8),
            lengths_B=self.lengths(examples),
        )


def make_model(*, positions: int = 64, width: int = 8, spread: float = 0.3) -> GPT2LMHeadModel:
    """A GPT-2 of random weights; `spread` far above GPT-2's own 0.02, so that its answers differ."""
    config = GPT2Config(
        vocab_size=VOCABULARY_SIZE,
        n_positions=positions,
        n_embd=width,
        n_layer=2,
        n_head=2,
        initializer_range=spread,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="session")
def model():
    return make_model()


@pytest.fixture(scope="session")
def hand_made():
    """The makers above, for tests that need their own."""
    return SimpleNamespace(example=make_example, store=HandMadeStore, model=make_model)


@pytest.fixture
def store():
    """Seven examples of three documents, of all sorts."""
    return HandMadeStore(
        [
            make_example(4, "I like", (Kind.WORD, " pizza"), " because it is good."),
            make_example(4, "I", (Kind.NGRAM, " like pizza because"), " it is", (Kind.WORD, " good"), "."),
            make_example(9, (Kind.SENTENCE, "Hello!"), " How are you?"),
            make_example(9, "Hello! How are you?"),
            make_example(2, (Kind.DOCUMENT, "My name is Ana.")),
            make_example(2, "My name", (Kind.WORD, " is"), " Ana."),
            make_example(2, (Kind.PARAGRAPH, "My name is Ana.")),
        ]
    )
