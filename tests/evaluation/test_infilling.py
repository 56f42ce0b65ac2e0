"""Filling a text: what a person gets back."""

import pytest
import torch

from raysweep.errors import InputError
from raysweep.evaluation.infilling import infill
from raysweep.masking.vocabulary import Kind


def test_a_filled_text_has_the_ranges_of_its_answers(model):
    """Ranges cut the answers out of the text, in order; the rest is the person's."""
    text = "I like [word] because [ngram]. Bye"
    (filled,) = infill(model, text, seed=3, max_answer_tokens=4)
    assert [answer.kind for answer in filled.answers] == [Kind.WORD, Kind.NGRAM]
    first, second = filled.answers
    assert [filled.text[answer.start : answer.stop] for answer in filled.answers] == [first.text, second.text]
    assert first.text
    assert filled.text == f"I like {first.text} because {second.text}. Bye"


def test_the_first_three_of_five_infilled_texts_equal_three(model):
    """Requesting more samples does not change the earlier ones."""
    text = "I like [word] because [word]"
    five, three = (infill(model, text, samples=n, seed=3, max_answer_tokens=4) for n in (5, 3))
    assert five[:3] == three
    assert len({filled.text for filled in five}) == 5


def test_temperature_zero_gives_one_answer_for_every_seed(model):
    """The answer is the most likely one, whatever the seed."""
    texts = [
        infill(model, "I like [word]", temperature=0.0, samples=2, seed=seed, max_answer_tokens=3) for seed in (1, 2)
    ]
    assert texts[0] == texts[1]
    assert texts[0][0] == texts[0][1]


def test_an_unfinished_answer_is_marked(model):
    """A fresh model hardly ever ends an answer; that must not look like one."""
    (filled,) = infill(model, "I like [word]", temperature=0.0, max_answer_tokens=2)
    assert not filled.answers[0].finished
    assert not filled.finished


@pytest.mark.parametrize("setting", ["samples", "max_answer_tokens"])
def test_settings_of_zero_are_refused(model, setting):
    """The message gives the value found."""
    with pytest.raises(InputError, match=f"{setting}: found 0; must be at least 1"):
        infill(model, "[word]", **{setting: 0})


def test_a_model_overfitted_to_an_example_fills_its_blanks(hand_made):
    """From a person's text to the filled one, by way of the same prompt that training showed."""
    example = hand_made.example(
        0,
        "I like",
        (Kind.WORD, " pizza"),
        " because",
        (Kind.NGRAM, " it is very"),
        " good.\n",
        (Kind.SENTENCE, "Bye!"),
    )
    learner = hand_made.model(width=32, spread=0.05)
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.01)
    for _ in range(60):
        ids_BT = torch.tensor([example.ids])
        loss = torch.nn.functional.cross_entropy(learner(ids_BT).logits[0, :-1], ids_BT[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    (filled,) = infill(learner, "I like [word] because [ngram] good.\n[sentence]", temperature=0.0)
    assert filled.text == "I like pizza because it is very good.\nBye!"
    assert filled.finished
