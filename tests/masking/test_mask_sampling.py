"""Masks follow the published rules, and depend on nothing but the document and the seed."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from raysweep.config.data_settings import MaskingConfig
from raysweep.masking.mask_sampling import Masks, document_seeds, sample_masks
from raysweep.masking.segmentation import Segments, segment
from raysweep.masking.vocabulary import Kind

SENTENCE = "one two three four five six seven eight nine ten eleven twelve."
WORDS = 13
DOCUMENT = "\n".join([f"{SENTENCE} {SENTENCE.capitalize()}"] * 3)


def draw(texts: list[str], policy: MaskingConfig, seed: int = 0) -> tuple[Segments, Masks]:
    segments = segment(texts)
    ids = [f"w{number}" for number in range(len(texts))]
    return segments, sample_masks(segments, document_seeds(seed, ids, ["train"] * len(texts)), policy)


def as_lists(masks: Masks, bases: np.ndarray) -> list[list[list[tuple[int, int, int]]]]:
    """Spans of each example of each document: kind, offset, end."""
    documents = []
    for d, base in enumerate(bases[:-1]):
        examples = range(masks.document_examples[d], masks.document_examples[d + 1])
        documents.append(
            [
                [
                    (int(masks.kinds[s]), int(masks.starts[s] - base), int(masks.ends[s] - base))
                    for s in range(masks.example_spans[e], masks.example_spans[e + 1])
                ]
                for e in examples
            ]
        )
    return documents


@pytest.fixture(scope="module")
def many() -> tuple[Segments, Masks]:
    """One example each of 30,000 documents of 3 paragraphs, 6 sentences and 78 words."""
    return draw([DOCUMENT] * 30_000, MaskingConfig(examples_per_document=1))


def test_kinds_are_sampled_with_their_probabilities(many):
    """Each choice is independent, with probability 0.03: within three standard errors."""
    segments, masks = many
    assert segments.sentence_words[-1] == 30_000 * 6 * WORDS
    counts = np.bincount(masks.kinds, minlength=5)
    places = 30_000.0
    for kind, parts in ((Kind.DOCUMENT, 1), (Kind.PARAGRAPH, 3), (Kind.SENTENCE, 2)):
        places *= parts
        expected = places * 0.03
        assert abs(counts[kind] - expected) < 3 * np.sqrt(expected * 0.97)
        places -= counts[kind]


def test_word_spans_start_at_the_configured_rate_and_half_are_n_grams(many):
    """The walk goes on after a span, so words inside n-grams are not asked."""
    segments, masks = many
    counts = np.bincount(masks.kinds, minlength=5)
    starts = counts[Kind.NGRAM] + counts[Kind.WORD]
    assert abs(counts[Kind.NGRAM] - starts / 2) < 3 * np.sqrt(starts / 4)
    sizes = _words_in_spans(segments, masks)[0]
    sentences = (30_000 - counts[0]) * 6 - 2 * counts[1] - counts[2]
    asked = sentences * WORDS - (sizes - 1).sum()
    assert abs(starts - asked * 0.03) < 3 * np.sqrt(asked * 0.03 * 0.97)


def test_n_gram_lengths_are_uniform_from_one_to_eight(many):
    """Uniform on 1 … 8 where so many words are left in the sentence, else on 1 … what is left (chi-square)."""
    sizes, left = _words_in_spans(*many)
    for most in (8, 5, 3):
        chosen = sizes[left >= 8] if most == 8 else sizes[left == most]
        assert chosen.max() == most
        assert chisquare(np.bincount(chosen, minlength=most + 1)[1:]).pvalue > 0.001


def _words_in_spans(segments: Segments, masks: Masks) -> tuple[np.ndarray, np.ndarray]:
    """The number of words of each n-gram, and of words left in its sentence where it starts."""
    ngrams = masks.kinds == Kind.NGRAM
    first = np.searchsorted(segments.word_starts, masks.starts[ngrams])
    last = np.searchsorted(segments.word_ends, masks.ends[ngrams])
    sentence_end = segments.sentence_words[np.searchsorted(segments.sentence_words, first, side="right")]
    return last - first + 1, sentence_end - first


def test_shares_of_span_kinds_equal_those_of_the_original_code(golden):
    """On learner texts: n-grams and words 46.5 % each, sentences 3.9, paragraphs 1.9, documents 1.2 (± 1.5 points)."""
    texts = [record["text"] for record in golden if 200 < len(record["text"]) < 500] * 30
    _, masks = draw(texts, MaskingConfig())
    shares = 100 * np.bincount(masks.kinds, minlength=5) / len(masks.kinds)
    assert np.abs(shares - [1.2, 1.9, 3.9, 46.5, 46.5]).max() < 1.5
    spans = np.diff(masks.example_spans)
    assert abs(spans.mean() - 2.08) < 0.25
    assert abs((spans == 0).mean() - 0.052) < 0.025


def test_masks_of_a_document_are_distinct():
    """A mask that came before is drawn again; where there are too few, examples are left out and counted."""
    segments, masks = draw([DOCUMENT, "Hello.", "a"], MaskingConfig())
    for examples in as_lists(masks, segments.documents):
        assert len({tuple(mask) for mask in examples}) == len(examples)
    counts = np.diff(masks.document_examples)
    assert counts[0] == 16
    assert 2 <= counts[2] <= 6  # nothing, document, paragraph, sentence, n-gram, word
    assert masks.left_out.repeated == 48 - counts.sum()


def test_masks_do_not_depend_on_neighbouring_documents():
    """Row order, shards and workers cannot change a mask: each document has its own seed."""
    texts = [DOCUMENT, "Hello there.", DOCUMENT, "I like tea. I like milk."]
    ids = ["a", "b", "c", "d"]
    policy = MaskingConfig()

    def masks_by_id(order: list[int]) -> dict[str, list[list[tuple[int, int, int]]]]:
        segments = segment([texts[i] for i in order])
        seeds = document_seeds(7, [ids[i] for i in order], ["train"] * len(order))
        lists = as_lists(sample_masks(segments, seeds, policy), segments.documents)
        return dict(zip([ids[i] for i in order], lists, strict=True))

    whole = masks_by_id([0, 1, 2, 3])
    assert masks_by_id([3, 1, 0, 2]) == whole
    assert masks_by_id([2])["c"] == whole["c"]
    assert whole["a"] != whole["c"]


def test_masks_depend_on_seed_id_and_split():
    """The masks depend on everything that identifies a document."""
    named = [(0, "a", "train"), (1, "a", "train"), (0, "b", "train"), (0, "a", "test")]
    seeds = {int(document_seeds(seed, [name], [split])[0]) for seed, name, split in named}
    assert len(seeds) == 4


def test_limiting_the_number_of_spans_keeps_text_order():
    """Thinned masks stay in order (the original shuffles them, so answers get swapped), and every span is as likely."""
    policy = MaskingConfig(document=0, paragraph=0, sentence=0, word=0.5, min_spans=2, max_spans=3)
    segments, masks = draw([DOCUMENT] * 300, policy)
    firsts: Counter[int] = Counter()
    for examples in as_lists(masks, segments.documents):
        for mask in examples:
            assert 2 <= len(mask) <= 3
            assert mask == sorted(mask, key=lambda span: span[1])
            firsts.update(span[1] // (len(DOCUMENT) // 3 + 1) for span in mask)
    total = sum(firsts.values())
    assert all(abs(count - total / 3) < 4 * np.sqrt(total * 2 / 9) for count in firsts.values())


def test_masks_with_too_few_spans_are_dropped_and_counted():
    """`min_spans: 1` with no chance of any span: every example is left out after `max_draws` draws."""
    policy = MaskingConfig(document=0, paragraph=0, sentence=0, word=0, min_spans=1)
    _, masks = draw([DOCUMENT], policy)
    assert len(masks.numbers) == 0
    assert masks.left_out == (0, 16)


def test_probability_zero_never_masks_and_probability_one_always_does():
    """A probability of 0 means never, and 1 always."""
    for field, kind, spans in (("document", 0, 1), ("paragraph", 1, 3), ("sentence", 2, 6)):
        zero = {"document": 0.0, "paragraph": 0.0, "sentence": 0.0, "word": 0.0}
        _, masks = draw([DOCUMENT], MaskingConfig(**{**zero, field: 1.0}))
        assert masks.kinds.tolist() == [kind] * spans


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=4), st.integers(0, 2**40), st.floats(0, 1))
def test_spans_are_sorted_disjoint_and_inside_their_document(texts, seed, chance):
    """This holds for any Unicode text and any probabilities."""
    policy = MaskingConfig(paragraph=chance / 4, sentence=chance / 4, word=chance, max_draws=2)
    segments, masks = draw(texts, policy, seed)
    for text, examples in zip(texts, as_lists(masks, segments.documents), strict=True):
        for mask in examples:
            end = 0
            for _, start, stop in mask:
                assert end <= start < stop <= len(text)
                end = stop
