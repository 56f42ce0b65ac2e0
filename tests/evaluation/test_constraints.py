"""What a user may ask of every answer, and that a model which wants something else keeps to it."""

import math
import subprocess
import sys

import pytest
import torch

from raysweep.errors import InputError
from raysweep.evaluation import answer_words
from raysweep.evaluation.answer_words import Constraints, words_of
from raysweep.evaluation.decoding import Prompt, answer_prompts
from raysweep.evaluation.infilling import fill_templates, infill, read_template
from raysweep.evaluation.token_sampling import Sampling
from raysweep.masking.tokenizer_folder import read_tokenizer
from raysweep.masking.vocabulary import gpt2
from tests.gpt2_tokens import END_OF_INFILL, document_tokenizer
from tests.tokenizers_of_tests import write_sentencepiece


def answers(model, text, *, samples=4, longest=None, **wanted):
    fillings = infill(
        model, text, samples=samples, top_p=None, max_answer_tokens=longest, constraints=Constraints(**wanted)
    )
    return [answer for filling in fillings for answer in filling.answers]


@pytest.mark.parametrize(
    ("text", "word"),
    [("I like [ngram] a lot", "going"), ("[ngram] she said", "Don't"), ("It is([ngram])", "antidisestablishment")],
)
def test_an_answer_begins_with_the_requested_word(model, text, word):
    """The word is not continued by another letter; the random model would begin with any token."""
    for answer in answers(model, text, first_word=word, longest=8):
        assert words_of(answer.text)[0] == word
        assert answer.text.startswith(word)
    assert not any(answer.text.startswith(word) for answer in answers(model, text, longest=8))


def test_an_answer_respects_minimum_and_maximum_words(model):
    """Minimum and maximum hold; an answer that the model's positions cut is marked unfinished."""
    filled = answers(model, "I [ngram] a lot", min_words=3, max_words=4)
    assert {len(words_of(answer.text)) for answer in filled} <= {3, 4}
    cut = answers(model, "a " * 50 + "[ngram]", min_words=30)
    assert all(not answer.finished for answer in cut)


def test_forbidden_words_do_not_occur(model):
    """Forbidden words of one or several tokens occur in neither case; without the constraint they do occur."""
    free = [word for answer in answers(model, "I [ngram]", samples=6) for word in words_of(answer.text)]
    forbidden = tuple({word.casefold() for word in free if word.isascii()})
    assert len(forbidden) > 20
    kept = [
        word for answer in answers(model, "I [ngram]", samples=6, forbidden=forbidden) for word in words_of(answer.text)
    ]
    assert kept
    assert not {word.casefold() for word in kept} & set(forbidden)


@pytest.mark.parametrize(
    ("text", "refused", "allowed"),
    [
        (" pizz", "a", "as"),
        (" Pizz", "A", "e"),
        ("", " pizza", " pizz"),
        (" x", " Pizza", " p"),
        (" 'don", "'t", "'s"),
    ],
)
def test_a_token_that_completes_a_forbidden_word_is_masked(text, refused, allowed):
    """The letters written so far decide, however they were divided into tokens."""
    encode = document_tokenizer().encode
    tokens = Constraints(forbidden=("pizza", "don't")).refused_tokens(encode(text).ids if text else [], (), gpt2())
    for piece, expected in ((refused, True), (allowed, False)):
        (token,) = encode(piece).ids
        assert bool(tokens[token]) is expected


@pytest.mark.parametrize(
    ("text", "piece", "is_refused"),
    [
        (" one", " two", True),
        (" one", "s", False),
        (" don", "'t", False),
        (" don'", "t", False),
        (" one", ".", False),
        (" one.", "two", True),
        (" one\n", "two", True),
        ("", " two", False),
        (" oneé", "two", False),
    ],
)
def test_at_max_words_only_tokens_that_continue_the_last_word_are_allowed(text, piece, is_refused):
    """At the maximum, letters and apostrophes continue the word before them; the end is always allowed."""
    encode = document_tokenizer().encode
    tokens = Constraints(max_words=1).refused_tokens(encode(text).ids if text else [], (), gpt2())
    assert bool(tokens[encode(piece).ids[0]]) is is_refused
    assert not tokens[END_OF_INFILL]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"first_word": "two words"}, "first_word: found 'two words'; must be one word"),
        ({"forbidden": ("!",)}, "forbidden: found '!'; must be one word"),
        ({"max_words": 0}, "max_words at least 1"),
        ({"min_words": -1}, "min_words must be at least 0"),
        ({"min_words": 3, "max_words": 2}, "max_words: found 2; must be at least min_words, which is 3"),
        ({"first_word": "No", "forbidden": ("no",)}, "first_word: found 'No', which is forbidden too"),
    ],
)
def test_unsatisfiable_constraints_are_refused(wanted, message):
    """They are refused before anything is loaded or drawn."""
    with pytest.raises(InputError, match=message):
        Constraints(**wanted)


def test_several_words_for_a_word_blank_are_refused(model):
    """The model was trained to fill it with one word."""
    with pytest.raises(InputError, match=r"min_words: found 2; a \[word\] is one word"):
        answers(model, "I [word]", min_words=2)


def test_a_forbidden_word_spelled_in_bytes_is_detected():
    """A letter may be written byte by byte, as GPT-2 writes rare ones."""
    rules = Constraints(forbidden=("cafĕ",))
    (first, second) = document_tokenizer().encode("ĕ").ids
    begun = document_tokenizer().encode(" caf").ids
    assert not rules.refused_tokens(begun, (), gpt2())[first]
    assert rules.refused_tokens([*begun, first], (), gpt2())[second]


def test_a_newline_ends_a_word():
    """A forbidden word at the beginning of a line is one, and it does not go on with the line before."""
    rules, encode = Constraints(forbidden=("the", "onethe")), document_tokenizer().encode
    for text, is_refused in ((" one\n", True), (" once", False), (" one", True)):
        assert bool(rules.refused_tokens(encode(text).ids, (), gpt2())[encode("the").ids[0]]) is is_refused


@pytest.mark.parametrize("word", ["нет", "ją", "cafĕ"])
def test_a_forbidden_word_with_capitals_spelled_in_bytes_is_detected(word):
    """The bytes of a capital letter are not those of the small one."""
    rules, ids = Constraints(forbidden=(word,)), document_tokenizer().encode(f" {word.upper()}").ids
    assert [bool(rules.refused_tokens(ids[:place], (), gpt2())[token]) for place, token in enumerate(ids)] == [
        *[False] * (len(ids) - 1),
        True,
    ]


@pytest.mark.parametrize("word", ["don't", "don’t"])
def test_both_apostrophes_are_forbidden(word):
    """Texts have both kinds, often in one corpus."""
    rules, encode = Constraints(forbidden=(word,)), document_tokenizer().encode
    (t,) = encode("t").ids
    for apostrophe in ("'", "’"):
        assert rules.refused_tokens(encode(f" don{apostrophe}").ids, (), gpt2())[t]


@pytest.mark.parametrize("word", ["caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"])
@pytest.mark.parametrize("written", ["caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"])
def test_composed_and_decomposed_accents_are_forbidden(word, written):
    """A letter with a combining mark is one word, and the same word as with the letter that has it built in."""
    *before, last = document_tokenizer().encode(f"I like {written}").ids
    assert Constraints(forbidden=(word,)).refused_tokens(before, (), gpt2())[last]
    assert words_of(f"a {written}s b") == ["a", f"{written}s", "b"]


def test_an_incomplete_utf8_sequence_ends_a_word():
    """A model may write one, and what follows it is a word of its own."""
    (first, _), (the,) = (document_tokenizer().encode(text).ids for text in ("ĕ", "the"))
    assert Constraints(forbidden=("the",)).refused_tokens([first], (), gpt2())[the]


def test_the_first_word_is_not_continued_after_an_apostrophe():
    """It would be another word; a quotation mark may follow it, and other words may."""
    rules, encode = Constraints(first_word="don"), document_tokenizer().encode
    opening = rules.opening("I ", gpt2())
    for text, piece, is_refused in [("don'", "t", True), ("don'", " t", False), ("don' said", "s", False)]:
        assert bool(rules.refused_tokens(encode(text).ids, opening, gpt2())[encode(piece).ids[0]]) is is_refused


def test_an_answers_probability_equals_that_of_a_forward_pass(model):
    """The same as a forward pass over prompt and answers gives, whatever the settings of the draw."""
    template = read_template("I like [word] because [ngram].")
    prompt = Prompt(ids=template.prompt(gpt2()), kinds=template.kinds)
    options = {"sampling": Sampling(temperature=0.5), "constraints": Constraints(max_words=2), "max_answer_tokens": 3}
    ((answers_,),) = answer_prompts(model, [prompt], **options)
    ids, spent = list(prompt.ids), []
    for answer in answers_:
        labels = [*answer.ids, *[END_OF_INFILL] * answer.finished]
        with torch.inference_mode():
            logits_TV = model(torch.tensor([[*ids, *answer.ids]])).logits[0].log_softmax(-1)
        spent.append(-sum(float(logits_TV[len(ids) - 1 + place, token]) for place, token in enumerate(labels)))
        ids += [*answer.ids, END_OF_INFILL]
    assert [answer.nats for answer in answers_] == pytest.approx(spent, abs=1e-4)
    (filling,) = fill_templates(model, [template], samples=1, **options)[0]
    assert filling.answers[0].probability == pytest.approx(math.exp(-spent[0]), rel=1e-3)


@pytest.mark.parametrize("kind", ["Unigram", "BPE"])
def test_forbidden_words_hold_for_tokens_of_a_custom_tokenizer(tmp_path, kind):
    """A token of SentencePiece begins words without a space, ends one and begins the next; all were let through."""
    vocabulary, _ = read_tokenizer(write_sentencepiece(tmp_path, kind=kind), "x")
    rules = Constraints(forbidden=("like", "school", "the", "я"))
    for text in ("like it", "I like it", "my school. The", "Like\nschool", "это я"):
        ids, spelled = vocabulary.encode(text), ""
        refused = [
            bool(rules.refused_tokens(ids[:place], (), vocabulary)[token]) and vocabulary.decode(ids[: place + 1])
            for place, token in enumerate(ids)
        ]
        for place in range(len(ids)):
            spelled = vocabulary.decode(ids[: place + 1]).casefold()
            is_whole = "\ufffd" not in spelled
            has_word = bool({"like", "school", "the", "я"}.intersection(words_of(spelled)))
            assert not is_whole or bool(refused[place]) is has_word, (text, spelled)
            if has_word:
                break  # the model could not have gone on
        else:
            pytest.fail(f"{text}: nothing was refused")


def test_importing_answer_words_reads_no_unicode_tables():
    """Importing the module asked Unicode's tables 130,000 times; a table of a vocabulary is not kept for ever."""
    assert answer_words._token_tables.cache_info().maxsize == 2
    code = "import unicodedata as u; u.category = None; import raysweep.evaluation.answer_words"
    subprocess.run([sys.executable, "-c", code], check=True)
