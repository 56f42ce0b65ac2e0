"""Sums the losses of a model per document, kind of span and part, in one pass over the examples.

Examples are scored in batches of similar length.  Only sums are computed here, so batch size, padding and
order change results only by float rounding.

The parts are: `answer`, the tokens of an answer; `end`, the token that ends it; `context`, the text around the blanks.
The scores of the ILM paper are sums of parts: infill = answer + end, infill_textonly = answer.  Blanks, the start token
and the first token of an example are never predicted.

The first mask of a document is also summed separately, as `first_context`, `first_answer` and `first_end`: for a
new learner's text only one mask is known, because the text of another mask would reveal the answers of the first one.

Bytes are the size of the labels' text in UTF-8, for bits per byte; the end of an answer has none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raysweep.masking.example_store import ExampleStore
from raysweep.masking.vocabulary import Kind
from raysweep.model.scoring_pass import score_batch
from raysweep.model.sequence_packing import alone
from raysweep.model.token_losses import CONTEXT, INFILL_END, Labels, find_labels

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FIRST = ("first_context", "first_answer", "first_end")
# The rows a document can have, in the order of the table: the context, every kind's answer and end, the first mask.
CELLS = [
    ("", "context"),
    *((kind.name.lower(), part) for kind in Kind for part in ("answer", "end")),
    *(("", part) for part in FIRST),
]
# The cells of the first mask, by the labels' classes: CONTEXT, INFILL_END, INFILL_TEXT.
_FIRST_CELLS = np.array([CELLS.index(("", f"first_{part}")) for part in ("context", "end", "answer")])


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentSums:
    """Sums of losses.  D documents; P rows that a document can have (`CELLS`)."""

    documents: Ints
    """(D,) document numbers, ascending."""
    nats: Floats
    """(D, P)"""
    tokens: Ints
    """(D, P) numbers of labels."""
    bytes: Ints
    """(D, P) bytes of the labels' text."""


def score_examples(
    model: Any, store: ExampleStore, examples: Ints, *, batch_tokens: int, context_examples: int = 1
) -> DocumentSums:
    """Sum the losses of examples per document, kind and part.  Call it inside `full_precision()`.

    Args:
        batch_tokens: tokens in a batch, including padding; a longer example is a batch of its own.
        context_examples: the context is scored only for so many of each document's examples, in order.  It is nearly
            the same text for every mask, and four fifths of the labels.
    """
    owners = store.documents_of(examples)
    documents_D, slots = np.unique(owners, return_inverse=True)
    ranks = _ranks(slots, examples)
    with_context, is_first = ranks < context_examples, ranks == 0
    shape = (len(documents_D), len(CELLS))
    nats_DP, tokens_DP, bytes_DP = np.zeros(shape), np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    device = next(model.parameters()).device
    for rows in batches_by_length(store.lengths(examples), batch_tokens):
        batch = store.assemble(examples[rows])
        labels = find_labels(batch.ids_BT, batch.types_BT, context=with_context[rows, None])
        micro_batch = alone(batch.ids_BT, batch.lengths_B, labels).to(device)
        nats_N = score_batch(model, micro_batch).cpu().numpy()
        sizes_N = store.vocabulary.byte_counts[labels.ids_N]
        examples_N = labels.positions_N // batch.ids_BT.shape[1]
        firsts_N = is_first[rows][examples_N]
        starts_N = slots[rows][examples_N] * len(CELLS)
        own_N = starts_N + _cells_of(labels, batch.kinds_BT)
        first_N = starts_N + _FIRST_CELLS[labels.classes_N]
        for cells, taken in ((own_N, slice(None)), (first_N[firsts_N], firsts_N)):
            nats_DP += _sum_cells(cells, shape, nats_N[taken])
            tokens_DP += _sum_cells(cells, shape).astype(np.int64)
            bytes_DP += _sum_cells(cells, shape, sizes_N[taken]).astype(np.int64)
    return DocumentSums(documents=documents_D, nats=nats_DP, tokens=tokens_DP, bytes=bytes_DP)


def batches_by_length(lengths: npt.NDArray[Any], batch_tokens: int) -> Iterator[Ints]:
    """Yield batches of indices into `lengths`, longest first, so that a lack of memory is noticed at once."""
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    start = 0
    while start < len(order):
        stop = start + max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start:stop]
        start = stop


def _ranks(slots: Ints, examples: Ints) -> Ints:
    """Count, for each example, the examples of its document with a lower number."""
    order = np.lexsort((examples, slots))
    starts = np.flatnonzero(np.diff(slots[order], prepend=-1))
    ranks = np.empty(len(slots), dtype=np.int64)
    ranks[order] = np.arange(len(slots)) - np.repeat(starts, np.diff(starts, append=len(slots)))
    return ranks


def _cells_of(labels: Labels, kinds_BT: npt.NDArray[np.uint8]) -> Ints:
    """Return the index of each label in `CELLS`."""
    kinds_N = kinds_BT.reshape(-1)[labels.positions_N + 1].astype(np.int64)
    return np.where(labels.classes_N == CONTEXT, 0, 1 + 2 * kinds_N + (labels.classes_N == INFILL_END))


def _sum_cells(cells_N: Ints, shape: tuple[int, int], values_N: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
    return np.bincount(cells_N, values_N, minlength=shape[0] * shape[1]).reshape(shape)
