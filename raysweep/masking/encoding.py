"""Turns character spans into token spans, and shortens or drops examples that are too long.

A character span becomes the smallest span of whole tokens that covers it: it grows if it divides a token, or if a
character (an emoji, a curly quote) consists of several tokens.  If two spans of a mask then overlap ("do|n't", both
masked), the example is dropped and counted.

An example of n tokens and k spans has n + 2k + 1 positions: a blank and an end token for each answer, and the start
token.  If that is more than `max_tokens`, the policy decides:

- *window*: the example uses only the part of its document around one of its spans (`windows.py`); spans outside this
  part are not blanked.
- *truncate*: the example is cut on the right, where the answers are, as in the original code.
- *drop*: the example is dropped.
"""

from typing import NamedTuple

import numpy as np

from raysweep.config.data_settings import MaskingConfig
from raysweep.masking.characters import Codes, Offsets
from raysweep.masking.kernels import kernel
from raysweep.masking.mask_sampling import Kinds, Masks, Seeds, start_stream, uniform
from raysweep.masking.segmentation import Segments
from raysweep.masking.tokens import Tokens
from raysweep.masking.vocabulary import Vocabulary
from raysweep.masking.windows import Small, choose_window, cut_points

WINDOW, TRUNCATE, DROP = 0, 1, 2
_OVERFLOW = {"window": WINDOW, "truncate": TRUNCATE, "drop": DROP}
# The draw number of the random stream that chooses a window; masks use lower numbers.
_WINDOW_DRAW = (1 << 31) - 1


class EncodingCounts(NamedTuple):
    """How many examples and spans were dropped or shortened."""

    overlapping: int
    """Examples dropped because two spans share a token."""
    too_long: int
    """Examples dropped by the policy."""
    windows: int
    truncated: int
    spans_outside: int
    """Spans not blanked because they are outside their example's window."""
    spans_cut: int
    """Spans cut to their window."""
    without_answer: int
    """Examples kept although they have no answer."""


class Encoded(NamedTuple):
    """The examples of many documents as token spans."""

    document_examples: Offsets
    """The first example of each document, and the end of the last one; one more entry than documents."""
    example_spans: Offsets
    """The first span of each example, and the end of the last one; one more entry than examples."""
    kinds: Kinds
    starts: Small
    """In tokens, from the start of the document."""
    lengths: Small
    """In tokens."""
    window_examples: Offsets
    """The examples that use only a window of their document, ascending."""
    window_starts: Small
    window_ends: Small
    counts: EncodingCounts
    masked_characters: int
    """Number of characters under blanks in all examples that were kept."""


def encode_masks(
    segments: Segments,
    tokens: Tokens,
    offsets: Offsets,
    masks: Masks,
    seeds: Seeds,
    *,
    policy: MaskingConfig,
    vocabulary: Vocabulary,
) -> Encoded:
    """Turn every mask into token spans that fit into `policy.max_tokens`.

    Args:
        tokens, offsets: the tokens of all documents, and the start of each document in them.
        seeds: the seeds of the documents, which also determine the windows.
    """
    return _encode(
        segments, tokens, offsets, vocabulary.byte_counts, masks, seeds, policy.max_tokens, _OVERFLOW[policy.overflow]
    )


@kernel
def _map_characters(codes: Codes, tokens: Tokens, sizes: Kinds, first: Small, last: Small, begins: Kinds) -> None:
    """Find the first and last token of each character, and whether a character begins at each token."""
    token, token_end, character_start = -1, 0, 0
    for t in range(len(tokens)):
        begins[t] = 0
    for c in range(len(codes)):
        code = codes[c]
        size = 1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4
        if token_end == character_start:
            token += 1
            token_end += sizes[tokens[token]]
            begins[token] = 1
        first[c] = token
        character_start += size
        while token_end < character_start:
            token += 1
            token_end += sizes[tokens[token]]
        last[c] = token


@kernel
def _encode(
    segments: Segments,
    tokens: Tokens,
    offsets: Offsets,
    token_sizes: Kinds,
    masks: Masks,
    seeds: Seeds,
    max_tokens: int,
    overflow: int,
) -> Encoded:
    documents, document_sentences = segments.documents, segments.paragraph_sentences[segments.document_paragraphs]
    total = len(masks.numbers)
    examples = np.zeros(len(documents), np.int64)
    pointers = np.zeros(total + 1, np.int64)
    kinds = np.empty(len(masks.kinds), np.uint8)
    starts = np.empty(len(masks.kinds), np.int32)
    ends = np.empty(len(masks.kinds), np.int32)
    windows = np.empty(total, np.int64)
    window_starts = np.empty(total, np.int32)
    window_ends = np.empty(total, np.int32)
    overlapping, too_long, truncated, spans_outside, spans_cut, without_answer = 0, 0, 0, 0, 0, 0
    longest, most, most_sentences = 0, 0, 0
    for d in range(len(documents) - 1):
        longest = max(longest, documents[d + 1] - documents[d])
        most = max(most, offsets[d + 1] - offsets[d])
        most_sentences = max(most_sentences, document_sentences[d + 1] - document_sentences[d])
    first = np.empty(longest, np.int32)
    last = np.empty(longest, np.int32)
    begins = np.empty(most, np.uint8)
    sentences = np.empty(most_sentences, np.int32)
    cuts = np.empty(most_sentences + 2, np.int32)
    state = np.zeros(1, np.uint64)
    kept, filled, windowed, masked = 0, 0, 0, 0
    for d in range(len(documents) - 1):
        base, size = documents[d], offsets[d + 1] - offsets[d]
        text, text_tokens = segments.codes[base : documents[d + 1]], tokens[offsets[d] : offsets[d + 1]]
        _map_characters(text, text_tokens, token_sizes, first, last, begins)
        n_sentences = document_sentences[d + 1] - document_sentences[d]
        for s in range(n_sentences):
            sentences[s] = first[segments.sentence_starts[document_sentences[d] + s] - base]
        for e in range(masks.document_examples[d], masks.document_examples[d + 1]):
            span, spans = masks.example_spans[e], masks.example_spans[e + 1] - masks.example_spans[e]
            out_kinds, out_starts, out_ends = kinds[filled:], starts[filled:], ends[filled:]
            overlaps, characters = False, 0
            for k in range(spans):
                out_kinds[k] = masks.kinds[span + k]
                out_starts[k] = first[masks.starts[span + k] - base]
                out_ends[k] = last[masks.ends[span + k] - 1 - base] + 1
                characters += masks.ends[span + k] - masks.starts[span + k]
                overlaps |= k > 0 and out_starts[k] < out_ends[k - 1]
            if overlaps:
                overlapping += 1
                continue
            if size + 2 * spans + 1 > max_tokens:
                if overflow == DROP:
                    too_long += 1
                    continue
                if overflow == TRUNCATE:
                    truncated += 1
                    blanked = 0
                    for k in range(spans):
                        blanked += out_ends[k] - out_starts[k]
                    if spans and size - blanked + spans + 1 >= max_tokens:
                        without_answer += 1
                else:
                    start_stream(state, seeds[d], masks.numbers[e], _WINDOW_DRAW)
                    breaks, span_starts, span_ends = sentences[:n_sentences], out_starts[:spans], out_ends[:spans]
                    n_cuts = cut_points(breaks, span_starts, span_ends, size, cuts)
                    anchor = int(uniform(state) * spans) if spans else -1
                    begin, end, is_cut = choose_window(
                        state, cuts[: n_cuts + 1], breaks, begins[:size], span_starts, span_ends, anchor, max_tokens - 1
                    )
                    spans_cut += is_cut
                    windows[windowed] = kept
                    window_starts[windowed] = begin
                    window_ends[windowed] = end
                    windowed += 1
                    inside = 0
                    for k in range(spans):
                        if is_cut and k == anchor:
                            out_starts[k], out_ends[k] = begin, end
                            for c in range(masks.starts[span + k] - base, masks.ends[span + k] - base):
                                characters -= first[c] < begin or last[c] >= end
                        if begin <= out_starts[k] and out_ends[k] <= end:
                            out_kinds[inside] = out_kinds[k]
                            out_starts[inside], out_ends[inside] = out_starts[k], out_ends[k]
                            inside += 1
                        else:
                            characters -= masks.ends[span + k] - masks.starts[span + k]
                    spans_outside += spans - inside
                    spans = inside
            if spans == 0:
                without_answer += 1
            filled += spans
            masked += characters
            kept += 1
            pointers[kept] = filled
        examples[d + 1] = kept
    return Encoded(
        examples,
        pointers[: kept + 1].copy(),
        kinds[:filled].copy(),
        starts[:filled].copy(),
        ends[:filled] - starts[:filled],
        windows[:windowed].copy(),
        window_starts[:windowed].copy(),
        window_ends[:windowed].copy(),
        EncodingCounts(overlapping, too_long, windowed, truncated, spans_outside, spans_cut, without_answer),
        masked,
    )
