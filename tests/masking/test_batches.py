"""Property tests of the store: what is written as shards comes back as batches, example by example."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.masking.example_store import ExampleStore
from raysweep.masking.shards import write_manifest, write_shard
from raysweep.masking.vocabulary import TargetType
from raysweep.storage.run_folder import ExamplesFolder
from tests.gpt2_tokens import END_OF_INFILL, FIRST_BLANK, START_OF_INFILL

LEVELS, SPLITS = ("A1", "B2"), ("test", "train")
TASKS = ("ilm", "lm", "reverse_lm", "lm_all", "no_context_ilm")
CONTEXT, BLANK, START = TargetType.CONTEXT, TargetType.CONTEXT_SPECIAL, TargetType.START
INFILL, END, REDUNDANT = TargetType.INFILL, TargetType.INFILL_SPECIAL, TargetType.REDUNDANT
Position = tuple[int, int, int]
"""Token id, target type, kind of the answer's span."""


@dataclass(frozen=True, kw_only=True)
class Example:
    spans: list[tuple[int, int, int]]
    """Kind, first token, length; in text order, without overlap."""
    window: tuple[int, int] | None
    """The tokens that the example is made of, where that is not the whole document."""


@dataclass(frozen=True, kw_only=True)
class Document:
    level: int
    split: int
    seed: int
    tokens: list[int]
    examples: list[Example]


@st.composite
def examples_of(draw: Any, size: int) -> Example:
    window = draw(st.none() | st.tuples(st.integers(0, size - 1), st.integers(1, size)).filter(lambda w: w[0] < w[1]))
    first, last = window or (0, size)
    bounds = sorted(draw(st.sets(st.integers(first, last), max_size=8)))
    ranges = list(zip(bounds[::2], bounds[1::2], strict=False))
    # Spans may touch: the second half of a range is then a span of its own.
    halves = [(begin, (begin + end) // 2, end) for begin, end in ranges]
    ranges = [part for begin, middle, end in halves for part in ((begin, middle), (middle, end)) if part[0] < part[1]]
    return Example(spans=[(draw(st.integers(0, 4)), begin, end - begin) for begin, end in ranges], window=window)


@st.composite
def random_documents(draw: Any) -> Document:
    tokens = draw(st.lists(st.integers(0, 50256), max_size=12))
    return Document(
        level=draw(st.integers(0, 1)),
        split=draw(st.integers(0, 1)),
        seed=draw(st.integers(0, 2**63 - 1)),
        tokens=tokens,
        examples=draw(st.lists(examples_of(len(tokens)), max_size=3)) if tokens else [],
    )


def write_store(folder: Path, shards: Sequence[Sequence[Document]], max_tokens: int) -> None:
    """Write shards as the mask stage does, every second one with four bytes a number."""
    summaries, row = [], 0
    for number, documents in enumerate(shards):
        small = (np.uint16, np.uint32)[number % 2]
        examples = [example for document in documents for example in document.examples]
        spans = [span for example in examples for span in example.spans]
        windows = [(place, *example.window) for place, example in enumerate(examples) if example.window]
        counts = [len(example.spans) for example in examples]
        firsts = np.cumsum([0, *(len(document.examples) for document in documents)])
        header = {"levels": list(LEVELS), "splits": list(SPLITS), "max_tokens": max_tokens}
        arrays = {
            "tokens": np.array([token for document in documents for token in document.tokens], np.uint16),
            "document_tokens": np.cumsum([0, *(len(document.tokens) for document in documents)], dtype=np.uint32),
            "document_examples": firsts.astype(np.uint32),
            "document_spans": np.cumsum([0, *counts], dtype=np.uint32)[firsts],
            "span_counts": np.array(counts, small),
            "span_starts": np.array([start for _, start, _ in spans], small),
            "span_lengths": np.array([length for _, _, length in spans], small),
            "span_kinds": np.array([kind for kind, _, _ in spans], np.uint8),
            "window_examples": np.array([place for place, _, _ in windows], np.uint32),
            "window_starts": np.array([first for _, first, _ in windows], small),
            "window_ends": np.array([last for _, _, last in windows], small),
            "levels": np.array([document.level for document in documents], np.uint8),
            "splits": np.array([document.split for document in documents], np.uint8),
            "seeds": np.array([document.seed for document in documents], np.uint64),
        }
        checksum = write_shard(ExamplesFolder(folder).shard(number), header, arrays)
        rows = [row, row + len(documents)]
        summaries.append({"shard": number, "rows": rows, "checksum": checksum})
        row = rows[1]
    write_manifest(folder, fingerprint="f", identity={}, summaries=summaries)


def expected_row(document: Document, example: Example, task: str, max_tokens: int) -> list[Position]:
    """Put one example together, position by position."""
    first, last = example.window or (0, len(document.tokens))
    text = [(document.tokens[place], CONTEXT, 255) for place in range(first, last)]
    if task == "lm":
        return text[:max_tokens]
    if task == "reverse_lm":
        return text[::-1][:max_tokens]
    kind_at = {place: kind for kind, start, length in example.spans for place in range(start, start + length)}
    context, answers, again = [], [], []
    for place in range(first, last):
        for kind, start, _ in example.spans:
            if start == place:
                context.append((FIRST_BLANK + kind, BLANK, 255))
        if place in kind_at:
            again.append((document.tokens[place], INFILL, kind_at[place]))
        else:
            context.append((document.tokens[place], CONTEXT, 255))
            again.append((document.tokens[place], REDUNDANT, 255))
    for kind, start, length in example.spans:
        answers += [(document.tokens[place], INFILL, kind) for place in range(start, start + length)]
        answers.append((END_OF_INFILL, END, kind))
    separator = (START_OF_INFILL, START, 255)
    row = {
        "ilm": [*context, separator, *answers],
        "lm_all": [*context, separator, *again],
        "no_context_ilm": [separator, *answers],
    }[task]
    return row[:max_tokens]


@pytest.mark.parametrize("task", TASKS)
@settings(max_examples=60, deadline=None)
@given(
    shards=st.lists(st.lists(random_documents(), min_size=1, max_size=4), min_size=1, max_size=3),
    max_tokens=st.integers(1, 40),
    pad_multiple=st.sampled_from([1, 8]),
    shuffle=st.randoms(use_true_random=False),
)
def test_batches_equal_the_stored_documents_spans_and_windows(task, shards, max_tokens, pad_multiple, shuffle):
    """Any documents, spans and windows, in any number of shards, in any order, for every task."""
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder), shards, max_tokens)
        store = ExampleStore.open(Path(folder))
    documents = [document for shard in shards for document in shard]
    written = [(row, example) for row, document in enumerate(documents) for example in document.examples]
    assert len(store) == len(written)
    order = list(range(len(written)))
    shuffle.shuffle(order)
    batch = store.assemble(np.array(order, dtype=np.int64), task=task, pad_multiple=pad_multiple)
    rows = [expected_row(documents[row], example, task, max_tokens) for row, example in (written[n] for n in order)]
    longest = -(-max(map(len, rows), default=0) // pad_multiple) * pad_multiple
    padded = [[*row, *[(0, TargetType.PADDING, 255)] * (longest - len(row))] for row in rows]
    table = np.array(padded, dtype=np.int64).reshape(len(rows), longest, 3)
    assert batch.ids_BT.tolist() == table[:, :, 0].tolist()
    assert batch.types_BT.tolist() == table[:, :, 1].tolist()
    assert batch.kinds_BT.tolist() == table[:, :, 2].tolist()
    assert batch.lengths_B.tolist() == [len(row) for row in rows]
    assert store.documents_of(np.array(order, dtype=np.int64)).tolist() == [written[number][0] for number in order]
    assert store.lengths(np.array(order, dtype=np.int64), task).tolist() == [len(row) for row in rows]


@settings(max_examples=60, deadline=None)
@given(
    shards=st.lists(st.lists(random_documents(), min_size=1, max_size=4), min_size=1, max_size=3),
    levels=st.sets(st.sampled_from(LEVELS)),
    split=st.sampled_from(SPLITS),
    per_document=st.none() | st.integers(1, 3),
    per_level=st.none() | st.integers(1, 3),
)
def test_selections_respect_levels_splits_and_limits(shards, levels, split, per_document, per_level):
    """The chosen documents of each level are those with the smallest seeds; of each, the first examples count."""
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder), shards, 16)
        store = ExampleStore.open(Path(folder))
    documents = [document for shard in shards for document in shard]
    eligible = [row for row, d in enumerate(documents) if LEVELS[d.level] in levels and SPLITS[d.split] == split]
    kept = [
        row
        for level in range(len(LEVELS))
        for row in sorted(
            (row for row in eligible if documents[row].level == level), key=lambda row: documents[row].seed
        )[:per_level]
    ]
    firsts = np.cumsum([0, *(len(document.examples) for document in documents)]).tolist()
    expected = [firsts[row] + n for row in sorted(kept) for n in range(len(documents[row].examples[:per_document]))]
    chosen = store.select(sorted(levels), split, examples_per_document=per_document, documents_per_level=per_level)
    assert chosen.tolist() == expected
