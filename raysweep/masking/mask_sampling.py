"""Samples the spans that each example of a document blanks: the hierarchical mask function, seeded per document.

With the policy's probabilities the whole document becomes a span; otherwise each paragraph may become a span; in the
other paragraphs each sentence may; and in the other sentences a span may start at each word.  Such a span is an n-gram
or a single word, and the next one may start after it.  A mask may have no span.  A mask that equals an earlier mask of
its document is drawn again; after `max_draws` draws its example is left out and counted.

Every draw has its own stream of random numbers, from splitmix64 (Steele, Lea and Flood 2014), seeded with the
document's seed, the example's number and the number of the draw.  So a document's masks depend on nothing else.

Source: Donahue, Lee and Liang 2020 (ACL), "Enabling language models to fill in the blanks".
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raysweep.config.data_settings import MaskingConfig
from raysweep.masking.characters import Offsets
from raysweep.masking.kernels import kernel
from raysweep.masking.segmentation import Segments
from raysweep.seeding import seed_for

Seeds = npt.NDArray[np.uint64]
Kinds = npt.NDArray[np.uint8]

GAMMA = 0x9E3779B97F4A7C15


class LeftOut(NamedTuple):
    """Examples that were not made, by reason."""

    repeated: int
    too_few_spans: int


class Masks(NamedTuple):
    """The masks of many documents; the spans of an example are in text order and never overlap."""

    document_examples: Offsets
    """The first example of each document, and the end of the last one; one more entry than documents."""
    numbers: Kinds
    """The number of each example within its document; the numbers of examples that were left out are missing."""
    example_spans: Offsets
    """The first span of each example, and the end of the last one; one more entry than examples."""
    kinds: Kinds
    starts: Offsets
    """Indices into the `codes` of the segments."""
    ends: Offsets
    left_out: LeftOut


def document_seeds(seed: int, ids: Sequence[str], splits: Sequence[str]) -> Seeds:
    """Derive a seed for each document from the run's seed, its id and its split."""
    pairs = zip(ids, splits, strict=True)
    return np.fromiter((seed_for(seed, name, split) for name, split in pairs), dtype=np.uint64, count=len(ids))


def sample_masks(segments: Segments, seeds: Seeds, policy: MaskingConfig) -> Masks:
    """Draw the masks of every document.  A document without words gets none."""
    chances = np.array([policy.document, policy.paragraph, policy.sentence, policy.word, policy.ngram])
    return _sample(
        segments,
        seeds,
        chances,
        policy.max_ngram,
        policy.examples_per_document,
        policy.max_draws,
        policy.min_spans,
        policy.max_spans or 0,
    )


@kernel
def mix(value: np.uint64) -> np.uint64:
    """Compute the output function of splitmix64."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@kernel
def start_stream(state: Seeds, seed: np.uint64, example: int, draw: int) -> None:
    """Start the random stream of one draw of one example."""
    state[0] = mix(seed ^ mix(np.uint64((example << 32) + draw + 1) * np.uint64(GAMMA)))


@kernel
def uniform(state: Seeds) -> float:
    """Draw the next number of the stream, in [0, 1)."""
    state[0] += np.uint64(GAMMA)
    return float(mix(state[0]) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@kernel
def _draw_mask(
    segments: Segments,
    document: int,
    state: Seeds,
    chances: npt.NDArray[np.float64],
    max_ngram: int,
    kinds: Kinds,
    starts: Offsets,
    ends: Offsets,
) -> int:
    """Draw one mask; returns the number of spans written to `kinds`, `starts` and `ends`."""
    if uniform(state) < chances[0]:
        kinds[0], starts[0], ends[0] = 0, segments.documents[document], segments.documents[document + 1]
        return 1
    count = 0
    for p in range(segments.document_paragraphs[document], segments.document_paragraphs[document + 1]):
        if uniform(state) < chances[1]:
            kinds[count], starts[count], ends[count] = 1, segments.paragraph_starts[p], segments.paragraph_ends[p]
            count += 1
            continue
        for s in range(segments.paragraph_sentences[p], segments.paragraph_sentences[p + 1]):
            if uniform(state) < chances[2]:
                kinds[count], starts[count], ends[count] = 2, segments.sentence_starts[s], segments.sentence_ends[s]
                count += 1
                continue
            w, stop = segments.sentence_words[s], segments.sentence_words[s + 1]
            while w < stop:
                if uniform(state) >= chances[3]:
                    w += 1
                    continue
                kind, size = 4, 1
                if uniform(state) < chances[4]:
                    kind, size = 3, 1 + int(uniform(state) * min(max_ngram, stop - w))
                kinds[count], starts[count] = kind, segments.word_starts[w]
                ends[count] = segments.word_ends[w + size - 1]
                count += 1
                w += size
    return count


@kernel
def _thin_out(state: Seeds, count: int, wanted: int, kinds: Kinds, starts: Offsets, ends: Offsets) -> int:
    """Keep a random `wanted` of the spans, in their order (Knuth's algorithm S)."""
    kept = 0
    for i in range(count):
        if uniform(state) * (count - i) < wanted - kept:
            kinds[kept], starts[kept], ends[kept] = kinds[i], starts[i], ends[i]
            kept += 1
    return kept


@kernel
def _sample(
    segments: Segments,
    seeds: Seeds,
    chances: npt.NDArray[np.float64],
    max_ngram: int,
    examples_per_document: int,
    max_draws: int,
    min_spans: int,
    max_spans: int,
) -> Masks:
    size = len(segments.documents) - 1
    document_examples = np.zeros(size + 1, np.int64)
    numbers = np.empty(size * examples_per_document, np.uint8)
    pointers = np.zeros(size * examples_per_document + 1, np.int64)
    # A mask has at most one span per word.  The arrays have room for a document's masks, and grow if needed.
    most = 1
    for d in range(size):
        first = segments.paragraph_sentences[segments.document_paragraphs[d]]
        last = segments.paragraph_sentences[segments.document_paragraphs[d + 1]]
        most = max(most, segments.sentence_words[last] - segments.sentence_words[first])
    room = examples_per_document * most + 4 * size * examples_per_document
    kinds = np.empty(room, np.uint8)
    starts = np.empty(room, np.int64)
    ends = np.empty(room, np.int64)
    state = np.zeros(1, np.uint64)
    count, filled, repeated, too_few_spans = 0, 0, 0, 0
    for d in range(size):
        first_example = count
        has_words = segments.document_paragraphs[d + 1] > segments.document_paragraphs[d]
        if filled + examples_per_document * most > len(kinds):
            kinds = np.concatenate((kinds, np.empty_like(kinds)))
            starts = np.concatenate((starts, np.empty_like(starts)))
            ends = np.concatenate((ends, np.empty_like(ends)))
        for number in range(examples_per_document if has_words else 0):
            is_kept, is_repeated = False, False
            for draw in range(max_draws):
                start_stream(state, seeds[d], number, draw)
                out_kinds, out_starts, out_ends = kinds[filled:], starts[filled:], ends[filled:]
                spans = _draw_mask(segments, d, state, chances, max_ngram, out_kinds, out_starts, out_ends)
                is_repeated = False
                if spans < min_spans:
                    continue
                if max_spans and spans > max_spans:
                    spans = _thin_out(state, spans, max_spans, out_kinds, out_starts, out_ends)
                is_repeated = _is_repeated(pointers, first_example, count, spans, filled, kinds, starts, ends)
                if is_repeated:
                    continue
                is_kept = True
                numbers[count] = number
                count += 1
                filled += spans
                pointers[count] = filled
                break
            # The last draw determines the reason.
            repeated += is_repeated
            too_few_spans += not (is_kept or is_repeated)
        document_examples[d + 1] = count
    return Masks(
        document_examples,
        numbers[:count].copy(),
        pointers[: count + 1].copy(),
        kinds[:filled].copy(),
        starts[:filled].copy(),
        ends[:filled].copy(),
        LeftOut(repeated, too_few_spans),
    )


@kernel
def _is_repeated(
    pointers: Offsets, first: int, count: int, spans: int, filled: int, kinds: Kinds, starts: Offsets, ends: Offsets
) -> bool:
    """Tell whether the `spans` spans from `filled` on equal those of one of the examples from `first` to `count`."""
    for other in range(first, count):
        base = pointers[other]
        if pointers[other + 1] - base != spans:
            continue
        i = 0
        while i < spans and (
            kinds[base + i] == kinds[filled + i]
            and starts[base + i] == starts[filled + i]
            and ends[base + i] == ends[filled + i]
        ):
            i += 1
        if i == spans:
            return True
    return False
