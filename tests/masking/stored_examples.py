"""What a store holds of one example, for the tests to compare with."""

import numpy as np

from raysweep.masking.characters import join_texts
from raysweep.masking.tokens import tokenise
from raysweep.masking.vocabulary import Kind, gpt2


def tokenise_texts(texts):
    """The ids of each text, without special tokens."""
    ids, offsets = tokenise(*join_texts(texts), gpt2())
    return [part.tolist() for part in np.split(ids, offsets[1:-1])] if texts else []


def spans_of(store, example):
    """An example's spans: kind, first token and length, counted from its document's first token."""
    arrays = store._shards[int(np.searchsorted(store._first_examples, example, side="right")) - 1]
    begin = int(store._example_spans[example])
    rows = slice(begin, begin + int(store._span_counts[example]))
    columns = (arrays[name][rows].tolist() for name in ("span_kinds", "span_starts", "span_lengths"))
    return [(Kind(kind), start, length) for kind, start, length in zip(*columns, strict=True)]


def window_of(store, example):
    """The tokens of its document that the example is made of: first, and the one after the last."""
    numbers = np.array([example])
    first, last = store._windows_of(numbers, store.documents_of(numbers))
    return int(first[0]), int(last[0])
