"""How varied answers are, against sacrebleu and by hand."""

import pytest

from raysweep.evaluation.answer_diversity import bleu, describe_diversity, distinct, self_bleu
from raysweep.evaluation.infilling import read_template


@pytest.mark.parametrize(
    ("answer", "references", "score"),
    [
        ("the cat sat on the mat", ["the cat sat on a mat", "a dog sat"], 0.6389431042462729),
        ("I like pizza", ["I like tea", "we like pizza a lot"], 0.8408964152537145),
        ("One two three, four five!", ["one two three four five"], 1.0),
        ("go", ["stop", "go home now"], 1.0),
        ("the the the", ["the cat"], 0.48549177170732355),
        ("a b", ["c d e f"], 0.0),
    ],
)
def test_bleu_equals_that_of_sacrebleu(answer, references, score):
    """Figures of sacrebleu 2.5 with add-k smoothing (k = 1), on lower-case words without punctuation."""
    assert bleu(answer, references) == pytest.approx(score, rel=1e-12)


def test_distinct_ngrams_are_counted_over_all_answers():
    """Six words of which four differ; bigrams do not cross answers."""
    answers = ["I like tea", "i like", "dogs"]
    assert distinct(answers, 1) == pytest.approx(4 / 6)
    assert distinct(answers, 2) == pytest.approx(2 / 3)
    assert distinct(["a"], 2) is None


def test_samples_are_compared_within_their_blank():
    """Equal samples give 1, a blank with one sample says nothing, and one without words is left out."""
    assert self_bleu([["a b", "a b"], ["c"]]) == pytest.approx(1.0)
    assert self_bleu([["a b", "c d"], ["a b", "c d"]]) == 0.0
    assert self_bleu([["a", "?!"]]) == pytest.approx(0.0, abs=1e-9)
    assert self_bleu([["c"]]) is None


def test_diversity_of_no_answers_is_undefined():
    """No division by zero; sentences are those of the answers."""
    assert set(describe_diversity([]).values()) == {None}
    assert describe_diversity([["I go. You come back."], ["he"]])["words_per_sentence"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("text", "original", "answers"),
    [
        ("I like [word], [ngram].", "I like tea, it is good.", ["tea", "it is good"]),
        ("[word] a [word]", "a a b", ["a", "b"]),
        ("I [word]", "You go", None),
        ("I [word] a [word].", "I go there.", None),
        ("I [word].", "I .", None),
        ("a [word] a", "a ", None),
    ],
)
def test_answers_are_recovered_from_the_original_text(text, original, answers):
    """Each as short as can be; where the original is another text, there are none."""
    assert read_template(text).answers_in(original) == answers
