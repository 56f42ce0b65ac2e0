"""From character spans to token spans, and what to do with examples that are too long.

A character span becomes the smallest span of whole tokens that covers it: it grows where it cuts a
token, and where a character (an emoji, a curly quote) is several tokens.  If two spans of a mask
then overlap ("do|n't", both masked), the example is dropped, and counted.

An example of n tokens and k spans is n + 2k + 1 long: a blank and an end for each answer, and the
start token.  If that is more than `max_tokens`, the policy decides:

- *window*: the example is made of a part of its document around one of its spans (`windows.py`).
  Spans outside are not blanked.
- *truncate*: the example is cut on the right, where the answers are, as the original does.
- *drop*: there is no such example.
"""

from dataclasses import dataclass

import numpy as np

from raysweep.config.data_settings import MaskingConfig
from raysweep.masking.characters import Codes, Offsets
from raysweep.masking.kernels import kernel
from raysweep.masking.mask_sampling import Kinds, Masks, Seeds, start_stream, uniform
from raysweep.masking.segmentation import Segments
from raysweep.masking.tokens import Tokens
from raysweep.masking.vocabulary import token_bytes
from raysweep.masking.windows import Small, choose_window, cut_points

WINDOW, TRUNCATE, DROP = 0, 1, 2
_OVERFLOW = {"window": WINDOW, "truncate": TRUNCATE, "drop": DROP}
_COUNTS = ("overlapping", "too_long", "windows", "truncated", "spans_outside", "spans_cut", "without_answer")
_OVERLAPPING, _TOO_LONG, _WINDOWS, _TRUNCATED, _OUTSIDE, _CUT, _NO_ANSWER = range(len(_COUNTS))
# The draw number of the stream that chooses a window, beyond any mask's.
_WINDOW_DRAW = (1 << 31) - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """The examples of many documents as token spans."""

    document_examples: Offsets
    """Where each document's examples begin; one more entry than documents."""
    example_spans: Offsets
    """Where each example's spans begin; one more entry than examples."""
    kinds: Kinds
    starts: Small
    """In tokens, from the document's first."""
    lengths: Small
    """In tokens."""
    window_examples: Offsets
    """The examples, ascending, that are only a part of their document."""
    window_starts: Small
    window_ends: Small
    counts: dict[str, int]
    """Examples dropped, by reason, and what became of the long ones."""
    masked_characters: int
    """Characters under blanks, over all examples kept."""


def encode_masks(
    segments: Segments, tokens: Tokens, offsets: Offsets, masks: Masks, seeds: Seeds, policy: MaskingConfig
) -> Encoded:
    """Turn every mask into token spans that fit into `policy.max_tokens`.

    Args:
        tokens, offsets: the documents' tokens, and where each document's begin.
        seeds: the documents' seeds; they choose the windows.
    """
    examples, pointers, kinds, starts, lengths, windows, window_starts, window_ends, counts, masked = _encode(
        segments.codes,
        segments.documents,
        segments.document_paragraphs,
        segments.paragraph_sentences,
        segments.sentence_starts,
        tokens,
        offsets,
        token_bytes(),
        masks.document_examples,
        masks.numbers,
        masks.example_spans,
        masks.kinds,
        masks.starts,
        masks.ends,
        seeds,
        policy.max_tokens,
        _OVERFLOW[policy.overflow],
    )
    return Encoded(
        document_examples=examples,
        example_spans=pointers,
        kinds=kinds,
        starts=starts,
        lengths=lengths,
        window_examples=windows,
        window_starts=window_starts,
        window_ends=window_ends,
        counts=dict(zip(_COUNTS, counts.tolist(), strict=True)),
        masked_characters=int(masked),
    )


@kernel
def _map_characters(codes: Codes, tokens: Tokens, sizes: Kinds, first: Small, last: Small, begins: Kinds) -> None:
    """For each character the first and the last of its tokens; for each token whether a character begins with it."""
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
    codes: Codes,
    documents: Offsets,
    document_paragraphs: Offsets,
    paragraph_sentences: Offsets,
    sentence_starts: Offsets,
    tokens: Tokens,
    offsets: Offsets,
    sizes: Kinds,
    mask_examples: Offsets,
    numbers: Kinds,
    mask_spans: Offsets,
    mask_kinds: Kinds,
    mask_starts: Offsets,
    mask_ends: Offsets,
    seeds: Seeds,
    max_tokens: int,
    overflow: int,
) -> tuple[Offsets, Offsets, Kinds, Small, Small, Offsets, Small, Small, Offsets, int]:
    total = len(numbers)
    examples = np.zeros(len(documents), np.int64)
    pointers = np.zeros(total + 1, np.int64)
    kinds = np.empty(len(mask_kinds), np.uint8)
    starts = np.empty(len(mask_kinds), np.int32)
    ends = np.empty(len(mask_kinds), np.int32)
    windows = np.empty(total, np.int64)
    window_starts = np.empty(total, np.int32)
    window_ends = np.empty(total, np.int32)
    counts = np.zeros(7, np.int64)
    longest, most, most_sentences = 0, 0, 0
    for d in range(len(documents) - 1):
        longest = max(longest, documents[d + 1] - documents[d])
        most = max(most, offsets[d + 1] - offsets[d])
        first_sentence = paragraph_sentences[document_paragraphs[d]]
        most_sentences = max(most_sentences, paragraph_sentences[document_paragraphs[d + 1]] - first_sentence)
    first = np.empty(longest, np.int32)
    last = np.empty(longest, np.int32)
    begins = np.empty(most, np.uint8)
    sentences = np.empty(most_sentences, np.int32)
    cuts = np.empty(most_sentences + 2, np.int32)
    state = np.zeros(1, np.uint64)
    window = np.zeros(2, np.int64)
    kept, filled, windowed, masked = 0, 0, 0, 0
    for d in range(len(documents) - 1):
        base, size = documents[d], offsets[d + 1] - offsets[d]
        _map_characters(codes[base : documents[d + 1]], tokens[offsets[d] : offsets[d + 1]], sizes, first, last, begins)
        first_sentence = paragraph_sentences[document_paragraphs[d]]
        n_sentences = paragraph_sentences[document_paragraphs[d + 1]] - first_sentence
        for s in range(n_sentences):
            sentences[s] = first[sentence_starts[first_sentence + s] - base]
        for e in range(mask_examples[d], mask_examples[d + 1]):
            spans = mask_spans[e + 1] - mask_spans[e]
            out_kinds, out_starts, out_ends = kinds[filled:], starts[filled:], ends[filled:]
            overlaps, characters = False, 0
            for k in range(spans):
                m = mask_spans[e] + k
                out_kinds[k] = mask_kinds[m]
                out_starts[k] = first[mask_starts[m] - base]
                out_ends[k] = last[mask_ends[m] - 1 - base] + 1
                characters += mask_ends[m] - mask_starts[m]
                overlaps |= k > 0 and out_starts[k] < out_ends[k - 1]
            if overlaps:
                counts[_OVERLAPPING] += 1
                continue
            if size + 2 * spans + 1 > max_tokens:
                if overflow == DROP:
                    counts[_TOO_LONG] += 1
                    continue
                if overflow == TRUNCATE:
                    counts[_TRUNCATED] += 1
                    blanked = 0
                    for k in range(spans):
                        blanked += out_ends[k] - out_starts[k]
                    if spans and size - blanked + spans + 1 >= max_tokens:
                        counts[_NO_ANSWER] += 1
                else:
                    start_stream(state, seeds[d], numbers[e], _WINDOW_DRAW)
                    n_cuts = cut_points(sentences[:n_sentences], out_starts, out_ends, spans, size, cuts)
                    anchor = int(uniform(state) * spans) if spans else -1
                    is_cut = choose_window(
                        state,
                        cuts[: n_cuts + 1],
                        sentences[:n_sentences],
                        begins[:size],
                        out_starts,
                        out_ends,
                        spans,
                        anchor,
                        max_tokens - 1,
                        window,
                    )
                    counts[_WINDOWS] += 1
                    counts[_CUT] += is_cut
                    windows[windowed] = kept
                    window_starts[windowed] = window[0]
                    window_ends[windowed] = window[1]
                    windowed += 1
                    inside = 0
                    for k in range(spans):
                        if is_cut and k == anchor:
                            out_starts[k], out_ends[k] = window[0], window[1]
                            m = mask_spans[e] + k
                            for c in range(mask_starts[m] - base, mask_ends[m] - base):
                                characters -= first[c] < window[0] or last[c] >= window[1]
                        if window[0] <= out_starts[k] and out_ends[k] <= window[1]:
                            out_kinds[inside], out_starts[inside], out_ends[inside] = (
                                out_kinds[k],
                                out_starts[k],
                                out_ends[k],
                            )
                            inside += 1
                        else:
                            m = mask_spans[e] + k
                            characters -= mask_ends[m] - mask_starts[m]
                    counts[_OUTSIDE] += spans - inside
                    spans = inside
            if spans == 0:
                counts[_NO_ANSWER] += 1
            filled += spans
            masked += characters
            kept += 1
            pointers[kept] = filled
        examples[d + 1] = kept
    return (
        examples,
        pointers[: kept + 1].copy(),
        kinds[:filled].copy(),
        starts[:filled].copy(),
        ends[:filled] - starts[:filled],
        windows[:windowed].copy(),
        window_starts[:windowed].copy(),
        window_ends[:windowed].copy(),
        counts,
        masked,
    )
