"""Answers held against what the learners wrote."""

import numpy as np
import pytest

from raysweep.evaluation import generation
from raysweep.evaluation.decoding import Answer
from raysweep.evaluation.generation import overlap, read_question, score_generation, summarise
from raysweep.masking.vocabulary import Kind, gpt2
from tests.gpt2_tokens import FIRST_BLANK, START_OF_INFILL, document_tokenizer


@pytest.mark.parametrize(
    ("answer", "reference", "n", "recall", "f1"),
    [
        ("I like dogs", "I like cats", 1, 2 / 3, 2 / 3),
        ("I like dogs", "I like cats", 2, 1 / 2, 1 / 2),
        ("dogs", "I like dogs a lot", 1, 1 / 5, 2 * 1 / 6),
        ("a a a", "a b", 1, 1 / 2, 2 * 1 / 5),
        (" I LIKE, dogs!", "i like dogs", 2, 1.0, 1.0),
        ("don't go", "don’t go", 1, 1 / 2, 1 / 2),
        ("", "a b", 1, 0.0, 0.0),
        ("a", "a b", 2, 0.0, 0.0),
        ("b a", "a b", 2, 0.0, 0.0),
    ],
)
def test_overlap_counts_shared_ngrams(answer, reference, n, recall, f1):
    """Recall and F1 worked out by hand; a repeated word counts as often as both have it."""
    assert overlap(answer, reference, n) == pytest.approx((recall, f1))


@pytest.mark.parametrize(("reference", "n"), [("", 1), ("?!", 1), ("word", 2)])
def test_a_reference_without_ngrams_is_excluded(reference, n):
    """Such answers are excluded from the mean, for every model alike."""
    assert overlap("anything at all", reference, n) is None


def test_a_question_has_an_examples_context_and_its_answers(hand_made):
    """The prompt ends with the start token; the references are the learner's own words."""
    example = hand_made.example(0, "I", (Kind.NGRAM, " like pizza"), " and", (Kind.WORD, " fish"), ".")
    prompt, references = read_question(np.array(example.ids), np.array(example.types), gpt2())
    assert prompt.kinds == [Kind.NGRAM, Kind.WORD]
    assert prompt.ids[-1] == START_OF_INFILL
    assert prompt.ids[1] == FIRST_BLANK + Kind.NGRAM
    assert references == [" like pizza", " fish"]


def test_unanswerable_examples_are_not_questions(hand_made):
    """An example is not asked if it has no blank, if a whole document is blanked, or if an answer was cut off."""
    for example, stop in [
        (hand_made.example(0, "Hello!"), None),
        (hand_made.example(0, (Kind.DOCUMENT, "Hello!")), None),
        (hand_made.example(0, "I", (Kind.NGRAM, " like pizza")), -1),
    ]:
        assert read_question(np.array(example.ids[:stop]), np.array(example.types[:stop]), gpt2()) is None


@pytest.fixture
def scripted(monkeypatch):
    """Models that answer by a table from kinds to texts; nothing, or a text with … at its end, is unfinished."""

    def install(table):
        def answer_prompts(model, prompts, *, sampling):
            def answer(prompt, kind):
                text = table.get(kind, "")
                is_cut = not text or text.endswith("…")
                return Answer(ids=tuple(document_tokenizer().encode(text.rstrip("…")).ids), finished=not is_cut)

            return [[[answer(prompt, kind) for kind in prompt.kinds]] for prompt in prompts]

        monkeypatch.setattr(generation, "answer_prompts", answer_prompts)

    return install


def test_generation_scores_are_means_over_answers(hand_made, scripted):
    """Overall, by level and by kind; words are right or wrong, longer answers overlap."""
    scripted({Kind.WORD: " pizza", Kind.NGRAM: " I like"})
    store = hand_made.store(
        [
            hand_made.example(0, "a", (Kind.WORD, " pizza"), " b", (Kind.NGRAM, " I like cats")),
            hand_made.example(1, "a", (Kind.WORD, " Pizza")),
            hand_made.example(2, "a", (Kind.WORD, " pizza")),
            hand_made.example(3, "a", (Kind.SENTENCE, " Good bye.")),
        ]
    )
    scores = score_generation(None, store, {"A1": np.array([0, 1]), "B1": np.array([2, 3])}, documents=9, seed=0)
    assert scores["overall"]["words"] == 3
    assert scores["overall"]["top1_accuracy"] == pytest.approx(2 / 3)
    assert scores["overall"]["longer_answers"] == 2
    assert scores["overall"]["unigram_recall"] == pytest.approx((2 / 3 + 0) / 2)
    assert scores["overall"]["unigram_f1"] == pytest.approx((4 / 5 + 0) / 2)
    assert scores["overall"]["bigram_recall"] == pytest.approx((1 / 2 + 0) / 2)
    assert scores["overall"]["unfinished"] == 1
    assert scores["levels"]["A1"]["top1_accuracy"] == pytest.approx(1 / 2)
    assert scores["levels"]["B1"]["unigram_recall"] == 0.0
    assert scores["kinds"]["ngram"]["bigram_f1"] == pytest.approx(2 / 3)
    assert scores["kinds"]["paragraph"] == summarise([])
    assert summarise([])["top1_accuracy"] is None


def test_a_truncated_word_is_not_correct(hand_made, scripted):
    """The model would have continued to another word."""
    scripted({Kind.WORD: " pizza…"})
    store = hand_made.store([hand_made.example(0, "a", (Kind.WORD, " pizza"))])
    scores = score_generation(None, store, {"A1": store.all}, documents=1, seed=0)
    assert (scores["overall"]["top1_accuracy"], scores["overall"]["unfinished"]) == (0.0, 1)


def test_one_answerable_example_per_document_is_asked(hand_made, scripted):
    """As many documents are asked as wanted, the same for every model of a seed; never more than there are."""
    scripted({Kind.WORD: " b"})
    spans = [(), (Kind.WORD, " b"), (Kind.WORD, " c")]
    examples = [hand_made.example(number, "a", *[span] * bool(span)) for number in range(10) for span in spans]
    store = hand_made.store(examples)
    counts = [
        score_generation(None, store, {"A1": store.all}, documents=documents, seed=0)["overall"]["words"]
        for documents in (0, 3, 10, 99)
    ]
    assert counts == [0, 3, 10, 10]


def test_greedy_answers_do_not_depend_on_the_seed(model, store):
    """Greedy answers are not random; the seed only chooses documents."""
    by_level = {"A1": np.array([0, 1, 5]), "A2": np.array([2, 3])}
    first, again = (score_generation(model, store, by_level, documents=4, seed=0) for _ in range(2))
    assert first == again
    assert first["overall"]["words"] + first["overall"]["longer_answers"] >= 3


def test_samples_are_shown_as_texts_and_excluded_from_scores(hand_made, scripted):
    """A person may look at the first few of a level; put together they are the learner's text."""
    scripted({Kind.WORD: " b", Kind.NGRAM: " two words"})
    example = hand_made.example(0, "I", (Kind.NGRAM, " like pizza"), " and", (Kind.WORD, " fish"), ".")
    store = hand_made.store([example, *(hand_made.example(n, "a", (Kind.WORD, " c")) for n in range(1, 9))])
    samples = []
    levels = {"A1": np.array([0]), "B1": np.arange(1, 9)}
    scores = score_generation(None, store, levels, documents=9, seed=0, samples=samples)
    assert [sample["level"] for sample in samples] == ["A1", "B1", "B1"]
    assert samples[0] == {
        "level": "A1",
        "context": ["I", " and", "."],
        "kinds": ["ngram", "word"],
        "references": [" like pizza", " fish"],
        "answers": [" two words", " b"],
    }
    assert scores == score_generation(None, store, levels, documents=9, seed=0)
    assert "pizza" not in str(scores)
