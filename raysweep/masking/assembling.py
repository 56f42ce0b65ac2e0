"""Batches out of memory-mapped shards, in kernels: no Python per example.

A batch takes examples from any shard, so the kernels get every shard's arrays at once: a table with
a row per shard and a column per field of `shards.FIELDS`, each cell the address of an array.  The
table is only as valid as the maps it was made from, which its owner keeps open; what the addresses
point to was checked when the store was opened.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from raysweep.masking.characters import Offsets
from raysweep.masking.kernels import kernel
from raysweep.masking.shards import FIELDS
from raysweep.masking.tokens import Tokens
from raysweep.masking.vocabulary import END_OF_INFILL, FIRST_BLANK, START_OF_INFILL, TargetType

Table = npt.NDArray[np.int64]

ILM, LM, REVERSE_LM, LM_ALL, NO_CONTEXT_ILM = range(5)
TASKS = {"ilm": ILM, "lm": LM, "reverse_lm": REVERSE_LM, "lm_all": LM_ALL, "no_context_ilm": NO_CONTEXT_ILM}
"""Of Donahue, Lee and Liang 2020: infilling, and its baselines."""

NO_KIND = 255

_COLUMN = {name: column for column, name in enumerate(FIELDS)}
_TOKENS, _DOCUMENT_TOKENS = _COLUMN["tokens"], _COLUMN["document_tokens"]
_DOCUMENT_EXAMPLES, _DOCUMENT_SPANS = _COLUMN["document_examples"], _COLUMN["document_spans"]
_COUNTS, _STARTS = _COLUMN["span_counts"], _COLUMN["span_starts"]
_LENGTHS, _KINDS = _COLUMN["span_lengths"], _COLUMN["span_kinds"]
_WINDOWS, _WINDOW_STARTS, _WINDOW_ENDS = _COLUMN["window_examples"], _COLUMN["window_starts"], _COLUMN["window_ends"]
# Columns after the fields: sizes rather than addresses.
_DOCUMENTS, _WINDOW_COUNT, _IS_WIDE = len(FIELDS), len(FIELDS) + 1, len(FIELDS) + 2
COLUMNS = len(FIELDS) + 3

_CONTEXT, _BLANK, _START = int(TargetType.CONTEXT), int(TargetType.CONTEXT_SPECIAL), int(TargetType.START)
_INFILL, _END, _REDUNDANT = int(TargetType.INFILL), int(TargetType.INFILL_SPECIAL), int(TargetType.REDUNDANT)

# What `find_examples` says about an example.
_SHARD, _DOCUMENT, _TOKEN, _FIRST, _LAST, _SPAN, _SPANS, _ANSWERS = range(8)


def _make_pointer(_typing: Any, address: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


_pointer: Any = intrinsic(_make_pointer)
"""In a kernel: an address as a pointer, which `carray` makes an array of."""


@kernel
def _at(table: Table, shard: int, column: int, index: int) -> int:
    """An entry of a four-byte array of a shard."""
    return int(np.int64(carray(_pointer(table[shard, column]), index + 1, np.uint32)[index]))


@kernel
def _at_span(table: Table, shard: int, column: int, index: int) -> int:
    """An entry of an array of spans: two bytes each, or four where a shard is wide."""
    if table[shard, _IS_WIDE]:
        return int(np.int64(carray(_pointer(table[shard, column]), index + 1, np.uint32)[index]))
    return int(np.int64(carray(_pointer(table[shard, column]), index + 1, np.uint16)[index]))


@kernel
def _at_byte(table: Table, shard: int, column: int, index: int) -> int:
    return int(np.int64(carray(_pointer(table[shard, column]), index + 1, np.uint8)[index]))


@kernel
def _owner(table: Table, shard: int, local: int, examples: int) -> int:
    """The document of a shard's example.

    Nearly all documents have equally many examples, so the search starts where the owner would be then,
    and widens its step: two or three looks instead of thirteen.
    """
    documents = int(table[shard, _DOCUMENTS])
    low = local * documents // examples
    high = low + 1
    step = 1
    while low > 0 and _at(table, shard, _DOCUMENT_EXAMPLES, low) > local:
        high = low
        low = max(0, low - step)
        step *= 2
    while high < documents and _at(table, shard, _DOCUMENT_EXAMPLES, high) <= local:
        low = high
        high = min(documents, high + step)
        step *= 2
    while high - low > 1:
        middle = (low + high) // 2
        if _at(table, shard, _DOCUMENT_EXAMPLES, middle) <= local:
            low = middle
        else:
            high = middle
    # Of documents without examples, which begin where the next one does, the search ends on the last: the owner.
    return low


@kernel
def _find_window(table: Table, shard: int, local: int, place: Offsets) -> None:
    """Replace an example's tokens by its window's, if it has one."""
    low, high = 0, int(table[shard, _WINDOW_COUNT])
    while low < high:
        middle = (low + high) // 2
        found = _at(table, shard, _WINDOWS, middle)
        if found == local:
            place[_FIRST] = _at_span(table, shard, _WINDOW_STARTS, middle)
            place[_LAST] = _at_span(table, shard, _WINDOW_ENDS, middle)
            return
        if found < local:
            low = middle + 1
        else:
            high = middle


@kernel
def find_examples(table: Table, first_examples: Offsets, examples: Offsets, max_tokens: int) -> Offsets:
    """Where each example lies, a row each: shard, document, tokens, window, spans, tokens under blanks."""
    places = np.empty((len(examples), 8), np.int64)
    for e in range(len(examples)):
        place = places[e]
        shard, above = 0, len(first_examples) - 1
        while above - shard > 1:
            middle = (shard + above) // 2
            if first_examples[middle] <= examples[e]:
                shard = middle
            else:
                above = middle
        local = int(examples[e] - first_examples[shard])
        document = _owner(table, shard, local, int(first_examples[shard + 1] - first_examples[shard]))
        span = _at(table, shard, _DOCUMENT_SPANS, document)
        for earlier in range(_at(table, shard, _DOCUMENT_EXAMPLES, document), local):
            span += _at_span(table, shard, _COUNTS, earlier)
        place[_SHARD], place[_DOCUMENT], place[_SPAN] = shard, document, span
        place[_SPANS] = _at_span(table, shard, _COUNTS, local)
        place[_TOKEN] = _at(table, shard, _DOCUMENT_TOKENS, document)
        place[_FIRST] = 0
        place[_LAST] = _at(table, shard, _DOCUMENT_TOKENS, document + 1) - place[_TOKEN]
        # A mask has at most a span per token, so a short document has no window.
        if 3 * place[_LAST] + 1 > max_tokens:
            _find_window(table, shard, local, place)
        answers = 0
        for k in range(span, span + place[_SPANS]):
            answers += _at_span(table, shard, _LENGTHS, k)
        place[_ANSWERS] = answers
    return places


@kernel
def expand_runs(begins: Offsets, counts: Offsets) -> Offsets:
    """The numbers of runs of consecutive ones, each given by its first and its length."""
    numbers = np.empty(counts.sum(), np.int64)
    at = 0
    for run in range(len(begins)):
        for k in range(counts[run]):
            numbers[at] = begins[run] + k
            at += 1
    return numbers


@kernel
def measure(places: Offsets, task: int, max_tokens: int) -> npt.NDArray[np.int32]:
    """The length of each example in tokens."""
    lengths = np.empty(len(places), np.int32)
    for e in range(len(places)):
        place = places[e]
        size, spans, answers = place[_LAST] - place[_FIRST], place[_SPANS], place[_ANSWERS]
        if task == ILM:
            size += 2 * spans + 1
        elif task == LM_ALL:
            size += size - answers + spans + 1
        elif task == NO_CONTEXT_ILM:
            size = 1 + answers + spans
        lengths[e] = min(size, max_tokens)
    return lengths


@kernel
def _copy(
    tokens: Tokens,
    first: int,
    last: int,
    ids: npt.NDArray[np.int32],
    targets: npt.NDArray[np.uint8],
    at: int,
    target: int,
) -> int:
    """Write a run of tokens, as far as the row goes; returns the position after it."""
    stop = min(at + max(last - first, 0), len(ids))
    for k in range(at, stop):
        ids[k] = tokens[first + k - at]
        targets[k] = target
    return stop


@kernel
def _put(ids: npt.NDArray[np.int32], targets: npt.NDArray[np.uint8], at: int, value: int, target: int) -> int:
    """Write one position, unless the row is full; returns the next one."""
    if at == len(ids):
        return at
    ids[at], targets[at] = value, target
    return at + 1


@kernel
def fill(
    table: Table,
    places: Offsets,
    task: int,
    lengths: npt.NDArray[np.int32],
    ids_BT: npt.NDArray[np.int32],
    types_BT: npt.NDArray[np.uint8],
    kinds_BT: npt.NDArray[np.uint8],
) -> None:
    """Write the examples into rows that hold padding; what is beyond an example's length is cut."""
    for e in range(len(places)):
        place = places[e]
        shard, first, last = place[_SHARD], place[_FIRST], place[_LAST]
        size = lengths[e]
        ids, targets, kinds = ids_BT[e, :size], types_BT[e, :size], kinds_BT[e]
        tokens = carray(_pointer(table[shard, _TOKENS]), place[_TOKEN] + last, np.uint16)[place[_TOKEN] :]
        if task == LM:
            _copy(tokens, first, last, ids, targets, 0, _CONTEXT)
            continue
        if task == REVERSE_LM:
            for k in range(size):
                ids[k], targets[k] = tokens[last - 1 - k], _CONTEXT
            continue
        at, token = 0, first
        spans = range(place[_SPAN], place[_SPAN] + place[_SPANS])
        if task != NO_CONTEXT_ILM:
            for s in spans:
                start = _at_span(table, shard, _STARTS, s)
                at = _copy(tokens, token, start, ids, targets, at, _CONTEXT)
                at = _put(ids, targets, at, FIRST_BLANK + _at_byte(table, shard, _KINDS, s), _BLANK)
                token = start + _at_span(table, shard, _LENGTHS, s)
            at = _copy(tokens, token, last, ids, targets, at, _CONTEXT)
        at = _put(ids, targets, at, START_OF_INFILL, _START)
        token = first
        for s in spans:
            start = _at_span(table, shard, _STARTS, s)
            if task == LM_ALL:
                at = _copy(tokens, token, start, ids, targets, at, _REDUNDANT)
            token = start + _at_span(table, shard, _LENGTHS, s)
            answer = at
            at = _copy(tokens, start, token, ids, targets, at, _INFILL)
            if task != LM_ALL:
                at = _put(ids, targets, at, END_OF_INFILL, _END)
            kind = _at_byte(table, shard, _KINDS, s)
            for k in range(answer, at):
                kinds[k] = kind
        if task == LM_ALL:
            _copy(tokens, token, last, ids, targets, at, _REDUNDANT)
