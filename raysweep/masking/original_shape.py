"""Makes examples the way the original ILM code does, to compare the speed of masking; only the benchmark uses it.

It is plain Python, one document after another: nested lists of spans, random draws span by span, an alignment for every
mask, and rows of 256 int64 tokens.  It is faster than the original, because regular expressions replace NLTK and
`tokenizers` encodes a document only once for all of its masks.

Source: Donahue, Lee and Liang 2020 (ACL), "Enabling language models to fill in the blanks".
"""

import random
import re
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from raysweep.config.data_settings import MaskingConfig
from raysweep.masking.vocabulary import Kind, Vocabulary, gpt2

ROW_TOKENS = 256
_PARAGRAPH, _SENTENCE, _WORD = re.compile(r"[^\n]+"), re.compile(r"[^.!?]+[.!?]*|[.!?]+"), re.compile(r"\w+|[^\w\s]")
Mask = tuple[tuple[Kind, int, int], ...]
"""Kind, first character and end of each span, in text order."""


def make_rows(texts: Sequence[str], policy: MaskingConfig) -> npt.NDArray[np.int64]:
    """Make the examples of all texts, (N, 256), each cut or padded with 0."""
    vocabulary, draws, rows = gpt2(), random.Random(0), []
    for text in texts:
        encoding = vocabulary.plain.encode(text, add_special_tokens=False)
        for mask in _draw_masks(text, policy, draws):
            ids = assemble(encoding.ids, encoding.offsets, mask, vocabulary)
            if ids is not None:
                rows.append((ids + [0] * ROW_TOKENS)[:ROW_TOKENS])
    return np.array(rows, dtype=np.int64).reshape(-1, ROW_TOKENS)


def assemble(
    tokens: Sequence[int], offsets: Sequence[tuple[int, int]], mask: Mask, vocabulary: Vocabulary
) -> list[int] | None:
    """Build context, start token and answers of a mask; None if two of its spans share a token."""
    begins, context, answers, done = [begin for begin, _ in offsets], [], [vocabulary.start_of_infill], 0
    for kind, begin, end in mask:
        first, last = bisect_right(begins, begin) - 1, bisect_right(begins, end - 1)
        if first < done:
            return None
        context += [*tokens[done:first], vocabulary.first_blank + kind]
        answers += [*tokens[first:last], vocabulary.end_of_infill]
        done = last
    return [*context, *tokens[done:], *answers]


def _draw_masks(text: str, policy: MaskingConfig, draws: random.Random) -> list[Mask]:
    """Draw distinct masks, as many as the policy requests unless the draws run out."""
    paragraphs = [
        [
            [(begin + word.start(), begin + word.end()) for word in _WORD.finditer(sentence)]
            for begin, sentence in _parts(_SENTENCE, text, *paragraph.span())
        ]
        for paragraph in _PARAGRAPH.finditer(text)
    ]
    paragraphs = [[words for words in sentences if words] for sentences in paragraphs]
    paragraphs = [sentences for sentences in paragraphs if sentences]
    masks: list[Mask] = []
    for _ in range(policy.examples_per_document if paragraphs else 0):
        for _ in range(policy.max_draws):
            mask = tuple(_draw_mask(paragraphs, policy, draws))
            if mask not in masks:
                masks.append(mask)
                break
    return masks


def _parts(pattern: re.Pattern[str], text: str, begin: int, end: int) -> list[tuple[int, str]]:
    return [(match.start(), match.group()) for match in pattern.finditer(text, begin, end)]


def _draw_mask(
    paragraphs: list[list[list[tuple[int, int]]]], policy: MaskingConfig, draws: random.Random
) -> list[tuple[Kind, int, int]]:
    if draws.random() < policy.document:
        return [(Kind.DOCUMENT, paragraphs[0][0][0][0], paragraphs[-1][-1][-1][1])]
    spans: list[tuple[Kind, int, int]] = []
    for sentences in paragraphs:
        if draws.random() < policy.paragraph:
            spans.append((Kind.PARAGRAPH, sentences[0][0][0], sentences[-1][-1][1]))
            continue
        for words in sentences:
            if draws.random() < policy.sentence:
                spans.append((Kind.SENTENCE, words[0][0], words[-1][1]))
                continue
            at = 0
            while at < len(words):
                size = 1
                if draws.random() < policy.word:
                    kind = Kind.NGRAM if draws.random() < policy.ngram else Kind.WORD
                    size = draws.randint(1, min(policy.max_ngram, len(words) - at)) if kind is Kind.NGRAM else 1
                    spans.append((kind, words[at][0], words[at + size - 1][1]))
                at += size
    return spans
