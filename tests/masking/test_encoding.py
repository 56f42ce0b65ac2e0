"""Spans of tokens, the examples they make, and what becomes of the long ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.config.data_settings import MaskingConfig
from raysweep.masking.custom_masks import masks_from_lists
from raysweep.masking.encoding import Encoded, encode_masks
from raysweep.masking.segmentation import hierarchy_of, segment
from raysweep.masking.tokens import tokenise
from raysweep.masking.vocabulary import Kind, TargetType, gpt2
from tests.gpt2_tokens import END_OF_INFILL, FIRST_BLANK, START_OF_INFILL, document_tokenizer
from tests.masking.stored_examples import spans_of, tokenise_texts, window_of

WORD = int(Kind.WORD)
SENTENCES = [f"This is sentence number {number} of a long text about nothing at all." for number in range(60)]
LONG = " ".join(SENTENCES)


def place(text: str, part: str, kind: int = WORD) -> tuple[int, int, int]:
    return kind, text.index(part), len(part)


def encode(text: str, masks: list[list[tuple[int, int, int]]], **policy: object) -> Encoded:
    segments = segment([text])
    tokens, offsets = tokenise(segments.codes, segments.documents, gpt2())
    given_masks = masks_from_lists(segments, [masks], ["text"], drop_repeated=False)
    seeds = np.array([5], np.uint64)
    return encode_masks(
        segments, tokens, offsets, given_masks, seeds, policy=MaskingConfig(**policy), vocabulary=gpt2()
    )


def answer(text: str, part: str) -> str:
    """Decode the tokens of the single span of `part`."""
    encoded = encode(text, [[place(text, part)]])
    (ids,) = tokenise_texts([text])
    begin = encoded.starts[0]
    return document_tokenizer().decode(ids[begin : begin + encoded.lengths[0]])


@pytest.mark.parametrize(
    ("text", "part", "covered"),
    [
        ("She ate leftover pasta.", "leftover pasta", " leftover pasta"),
        ("I don't know.", "n't", " don't"),
        ("I love 😀 pizza", "😀", " 😀"),
        ("He said “yes” to me", "yes", " “yes"),
        ("我喜欢学习英语。", "喜欢", "喜欢"),
    ],
)
def test_a_span_is_widened_to_whole_tokens(text, part, covered):
    """The smallest run of tokens that covers it: a leading blank, a cut token, a character of several tokens."""
    assert answer(text, part).replace("“", "").strip() == covered.replace("“", "").strip()
    assert part in answer(text, part)


def test_an_example_whose_spans_share_a_token_is_dropped_and_counted():
    """ "do|n't", both masked: GPT-2 has no token boundary there, so the answers cannot be told apart."""
    text = "I don't know"
    encoded = encode(text, [[place(text, "do"), place(text, "n't")], [place(text, "know")]])
    assert encoded.counts.overlapping == 1
    assert np.diff(encoded.document_examples).tolist() == [1]


def test_a_document_with_multi_token_characters_keeps_its_examples():
    """The original loses every example of such a document: any text typed on a phone."""
    text = "It’s late 😀, isn’t it?"
    words = hierarchy_of(segment([text]), 0)[2][0][2][0][2]
    encoded = encode(text, [[(WORD, start, size)] for start, size in words])
    assert encoded.counts.overlapping == 0
    assert len(encoded.kinds) == len(words)


def _masks_of(text: str, choices: list[tuple[int, bool]]) -> list[tuple[int, int, int]]:
    """Spans over the text's words, chosen by hypothesis: how many words each takes, and whether it is masked."""
    hierarchy = hierarchy_of(segment([text]), 0)
    words = [word for paragraph in hierarchy[2] for sentence in paragraph[2] for word in sentence[2]]
    spans, at = [], 0
    for size, is_masked in choices:
        run = words[at : at + size]
        at += size
        if run and is_masked:
            spans.append((int(Kind.NGRAM), run[0][0], run[-1][0] + run[-1][1] - run[0][0]))
    return spans


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80), st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=20))
def test_restoring_answers_into_their_blanks_gives_the_document(store_of, text, choices):
    """Over any Unicode: the example and the document hold the same tokens, and every position has its type."""
    store = store_of([text], [[_masks_of(text, choices)]], MaskingConfig(max_tokens=1024))
    if not len(store):
        return
    batch = store.assemble(np.array([0]))
    ids, types = batch.ids_BT[0].tolist(), batch.types_BT[0].tolist()
    start = types.index(TargetType.START)
    answers: list[list[int]] = [[]]
    for token, target in zip(ids[start + 1 :], types[start + 1 :], strict=True):
        if target == TargetType.INFILL_SPECIAL:
            assert token == END_OF_INFILL
            answers.append([])
        else:
            assert target == TargetType.INFILL
            answers[-1].append(token)
    restored: list[int] = []
    for token, target in zip(ids[:start], types[:start], strict=True):
        if target == TargetType.CONTEXT_SPECIAL:
            assert token == FIRST_BLANK + Kind.NGRAM
            restored += answers.pop(0)
        else:
            assert target == TargetType.CONTEXT
            restored.append(token)
    assert answers == [[]]
    assert ids[start] == START_OF_INFILL
    assert restored == tokenise_texts([text])[0]
    assert document_tokenizer().decode(restored) == text


def test_truncate_cuts_answers_like_the_original_code():
    """`overflow: truncate` keeps every example and says how many have no answer left."""
    encoded = encode(LONG, [[place(LONG, "number 2 of")], []], overflow="truncate")
    assert encoded.counts.truncated == 2
    assert encoded.counts.without_answer == 2
    assert len(encoded.window_examples) == 0


def test_drop_leaves_out_long_examples_and_counts_them():
    """With `overflow: drop` such an example is not made."""
    encoded = encode(LONG, [[place(LONG, "number 2 of")]], overflow="drop")
    assert encoded.counts.too_long == 1
    assert len(encoded.example_spans) == 1


def test_an_example_of_exactly_max_tokens_is_unchanged():
    """n tokens and k spans make n + 2k + 1; at exactly max_tokens nothing happens."""
    text = SENTENCES[0]
    tokens = len(tokenise_texts([text])[0])
    mask = [[place(text, "nothing")]]
    assert encode(text, mask, max_tokens=tokens + 3).counts.windows == 0
    assert encode(text, mask, max_tokens=tokens + 2).counts.windows == 1


def test_a_window_consists_of_whole_sentences_around_a_span(store_of):
    """`overflow: window`: the answers stay; the context is as much of the text around them as fits."""
    masks = [[place(LONG, f"number {number} of")] for number in range(0, 60, 7)]
    store = store_of([LONG], [masks], MaskingConfig(max_tokens=100))
    for example in range(len(store)):
        first, last = window_of(store, example)
        ids = tokenise_texts([LONG])[0][first:last]
        window = document_tokenizer().decode(ids).strip()
        sentences = window.split(". ")
        assert f"number {example * 7} of" in window
        assert len(sentences) >= 4
        assert sentences[0] in LONG
        assert window.endswith("all.")
        assert window.startswith("This is sentence")
        assert len(ids) + 3 <= 100 < len(ids) + 3 + 2 * 17
        assert len(spans_of(store, example)) == 1
    assert int(store.lengths(np.arange(len(store))).max()) <= 100


def test_spans_outside_the_window_are_not_masked_and_are_counted():
    """Their text is part of the context, or outside the window."""
    masks = [[place(LONG, "number 2 of"), place(LONG, "number 50 of")]]
    encoded = encode(LONG, masks, max_tokens=100)
    assert encoded.counts.spans_outside == 1
    assert len(encoded.kinds) == 1


def test_every_span_can_anchor_a_window_and_the_choice_is_reproducible():
    """Every span is an anchor now and then, and the same one each time."""
    mask = [place(LONG, f"number {number} of") for number in range(5, 60, 10)]
    masks = [mask] * 40
    first = encode(LONG, masks, max_tokens=60)
    again = encode(LONG, masks, max_tokens=60)
    assert len(set(first.starts.tolist())) == 6
    assert first.window_starts.tolist() == again.window_starts.tolist()


@pytest.mark.parametrize("kind", [Kind.DOCUMENT, Kind.PARAGRAPH])
def test_a_span_longer_than_the_window_is_cut_to_whole_sentences(store_of, kind):
    """A whole-document mask of a long essay: a part of the essay stands for it, and the answer ends."""
    store = store_of([LONG], [[[(int(kind), 0, len(LONG))]] * 8], MaskingConfig(max_tokens=100))
    begins = set()
    for example in range(8):
        batch = store.assemble(np.array([example]))
        text = document_tokenizer().decode(batch.ids_BT[0][2:-1].tolist())
        assert batch.ids_BT[0][0] == FIRST_BLANK + kind
        assert batch.ids_BT[0][-1] == END_OF_INFILL
        assert text.strip().startswith("This is sentence")
        assert text.endswith("all.")
        assert 60 < batch.lengths_B[0] <= 100
        begins.add(text)
    assert len(begins) > 1


def test_a_sentence_longer_than_the_window_is_cut_to_tokens_around_the_span(store_of):
    """No full stop in 1,500 words: the window is as wide as fits, the span inside it."""
    text = " ".join(f"word{number}" for number in range(600))
    masks = [[place(text, "word300 word301")], [place(text, "word0 ")], [place(text, "word599")], []]
    store = store_of([text], [masks], MaskingConfig(max_tokens=64))
    assert len(store) == 4
    lengths = store.lengths(np.arange(4))
    assert lengths.max() <= 64
    assert lengths.min() >= 60
    assert [len(spans_of(store, example)) for example in range(4)] == [1, 1, 1, 0]


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.text(alphabet="ab .!?\n'é😀我", min_size=1, max_size=60), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=30),
    st.integers(8, 40),
    st.sampled_from(["window", "truncate", "drop"]),
)
def test_no_example_is_longer_than_max_tokens(store_of, texts, choices, max_tokens, overflow):
    """This holds in every mode and task, for any text; in windows every answer is complete and has an end."""
    masks = [[_masks_of(text, choices), [(0, 0, len(text))]] for text in texts]
    store = store_of(texts, masks, MaskingConfig(max_tokens=max_tokens, overflow=overflow))
    examples = np.arange(len(store))
    for task in ("ilm", "lm", "reverse_lm", "lm_all", "no_context_ilm"):
        batch = store.assemble(examples, task=task)
        assert int(batch.lengths_B.max(initial=0)) <= max_tokens
        assert batch.lengths_B.tolist() == store.lengths(examples, task).tolist()
        assert (batch.types_BT != TargetType.PADDING).sum(axis=1).tolist() == batch.lengths_B.tolist()
    if overflow == "window":
        batch = store.assemble(examples)
        ends = (batch.types_BT == TargetType.INFILL_SPECIAL).sum(axis=1)
        assert ends.tolist() == [len(spans_of(store, example)) for example in examples]
