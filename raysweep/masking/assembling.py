"""Assembles examples as the padded rows of a batch in NumPy, without Python code per token.

A row is a sequence of parts, such as context, start token and answers.  Each part is built for the whole batch at once,
as one array over all examples, and then copied to its position in every row.

Axes: B examples, T positions of the longest row, N tokens and S spans of all examples, M tokens under blanks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raysweep.masking.vocabulary import TargetType, Vocabulary

Longs = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

NO_KIND = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedTokens:
    """The tokens and spans of B examples, concatenated."""

    vocabulary: Vocabulary
    tokens_N: Array  # noqa: N815
    token_counts_B: Longs  # noqa: N815
    span_counts_B: Longs  # noqa: N815
    span_starts_S: Longs  # noqa: N815
    """Indices into `tokens_N`, ascending; spans do not overlap."""
    span_lengths_S: Longs  # noqa: N815
    """In tokens, at least 1."""
    span_kinds_S: npt.NDArray[np.uint8]  # noqa: N815


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """A part of every row, with `counts_B` positions for each example."""

    counts_B: Longs  # noqa: N815
    ids: Array
    types: Array
    kinds: Array | None = None


def measure(task: str, tokens: Longs, spans: Longs, answers: Array | int = 0) -> Longs:
    """Compute the length of each example before it is cut.

    Args:
        tokens: number of tokens of each example's text.
        spans: number of blanks of each example.
        answers: number of tokens under the blanks of each example; only `lm_all` and `no_context_ilm` need it.
    """
    return {
        "ilm": tokens + 2 * spans + 1,
        "lm": tokens,
        "reverse_lm": tokens,
        "lm_all": 2 * tokens - answers + spans + 1,
        "no_context_ilm": answers + spans + 1,
    }[task]


def lay_out(
    source: MaskedTokens, task: str, *, max_tokens: int, pad_multiple: int
) -> tuple[Array, Array, Array, Array]:
    """Arrange the examples as rows, each cut at `max_tokens`.

    Returns:
        Ids (int32), target types (uint8) and kinds (uint8) as (B, T), and the length of each row (B,).
    """
    parts = [make_part(source) for make_part in _PARTS[task]]
    lengths_B = np.minimum(sum(part.counts_B for part in parts), max_tokens)
    longest = -(-int(lengths_B.max(initial=0)) // pad_multiple) * pad_multiple
    shape = (len(lengths_B), longest)
    ids_BT = np.zeros(shape, dtype=np.int32)
    types_BT = np.full(shape, TargetType.PADDING, dtype=np.uint8)
    kinds_BT = np.full(shape, NO_KIND, dtype=np.uint8)
    rows_B, filled_B = np.arange(shape[0]) * longest, np.zeros(shape[0], dtype=np.int64)
    for part in parts:
        counts_B = np.minimum(part.counts_B, lengths_B - filled_B)
        places = expand_runs(rows_B + filled_B, counts_B)
        is_cut = len(places) < len(part.ids)
        kept = expand_runs(_begins(part.counts_B), counts_B) if is_cut else slice(None)
        ids_BT.reshape(-1)[places] = part.ids[kept]
        types_BT.reshape(-1)[places] = part.types[kept]
        if part.kinds is not None:
            kinds_BT.reshape(-1)[places] = part.kinds[kept]
        filled_B += counts_B
    return ids_BT, types_BT, kinds_BT, lengths_B.astype(np.int32)


def expand_runs(begins: Longs, counts: Longs) -> Longs:
    """List the numbers of runs of consecutive numbers, each given by its first number and its length."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(begins - ends + counts, counts)


def _begins(counts: Longs) -> Longs:
    return np.cumsum(counts) - counts


def _text(source: MaskedTokens) -> _Part:
    types = np.full(len(source.tokens_N), TargetType.CONTEXT, dtype=np.uint8)
    return _Part(counts_B=source.token_counts_B, ids=source.tokens_N, types=types)


def _reversed_text(source: MaskedTokens) -> _Part:
    text = _text(source)
    begins_B, counts_B = _begins(text.counts_B), text.counts_B
    mirrored = np.repeat(2 * begins_B + counts_B - 1, counts_B) - np.arange(len(text.ids))
    return _Part(counts_B=counts_B, ids=text.ids[mirrored], types=text.types)


def _context(source: MaskedTokens) -> _Part:
    """Build the text with a blank in place of each span."""
    masked_M = expand_runs(source.span_starts_S, source.span_lengths_S)
    ids, types = source.tokens_N.astype(np.int32), np.full(len(source.tokens_N), TargetType.CONTEXT, dtype=np.uint8)
    is_kept = np.ones(len(ids), dtype=np.bool_)
    is_kept[masked_M] = False
    # A blank replaces the first token of its span.
    is_kept[source.span_starts_S] = True
    ids[source.span_starts_S] = source.span_kinds_S.astype(np.int32) + source.vocabulary.first_blank
    types[source.span_starts_S] = TargetType.CONTEXT_SPECIAL
    kept_before = np.concatenate(([0], np.cumsum(is_kept)))
    ends_B = np.cumsum(source.token_counts_B)
    counts_B = kept_before[ends_B] - kept_before[ends_B - source.token_counts_B]
    return _Part(counts_B=counts_B, ids=ids[is_kept], types=types[is_kept])


def _start(source: MaskedTokens) -> _Part:
    ones = np.ones(len(source.token_counts_B), dtype=np.int64)
    return _Part(counts_B=ones, ids=ones * source.vocabulary.start_of_infill, types=ones * TargetType.START)


def _answers(source: MaskedTokens) -> _Part:
    """Build the tokens of each span, followed by the token that ends an answer."""
    sizes_S = source.span_lengths_S + 1
    # The token after each span is copied and then overwritten; the appended 0 stands for the one after the last token.
    ids = np.append(source.tokens_N, 0).astype(np.int32)[expand_runs(source.span_starts_S, sizes_S)]
    types = np.full(len(ids), TargetType.INFILL, dtype=np.uint8)
    stops_S = np.cumsum(sizes_S)
    ids[stops_S - 1], types[stops_S - 1] = source.vocabulary.end_of_infill, TargetType.INFILL_SPECIAL
    before = np.concatenate(([0], stops_S))
    ends_B = np.cumsum(source.span_counts_B)
    return _Part(
        counts_B=before[ends_B] - before[ends_B - source.span_counts_B],
        ids=ids,
        types=types,
        kinds=np.repeat(source.span_kinds_S, sizes_S),
    )


def _text_as_answer(source: MaskedTokens) -> _Part:
    """Build the whole text again; only the tokens under blanks are answers."""
    masked_M = expand_runs(source.span_starts_S, source.span_lengths_S)
    types = np.full(len(source.tokens_N), TargetType.REDUNDANT, dtype=np.uint8)
    kinds = np.full(len(source.tokens_N), NO_KIND, dtype=np.uint8)
    types[masked_M] = TargetType.INFILL
    kinds[masked_M] = np.repeat(source.span_kinds_S, source.span_lengths_S)
    return _Part(counts_B=source.token_counts_B, ids=source.tokens_N, types=types, kinds=kinds)


_PARTS = {
    "ilm": (_context, _start, _answers),
    "lm": (_text,),
    "reverse_lm": (_reversed_text,),
    "lm_all": (_context, _start, _text_as_answer),
    "no_context_ilm": (_start, _answers),
}
"""The parts of the rows of each task: infilling and its baselines (Donahue, Lee and Liang 2020)."""
