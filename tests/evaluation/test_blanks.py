"""From a text with blanks to a prompt, and back."""

import pytest

from raysweep.errors import InputError
from raysweep.evaluation.infilling import read_template
from raysweep.masking.vocabulary import Kind, gpt2
from tests.gpt2_tokens import FIRST_BLANK, START_OF_INFILL, document_tokenizer


def spell(prompt):
    """A prompt's tokens as text: blanks as <kind>, tokens divided by bars."""
    names = {FIRST_BLANK + kind: f"<{kind.name.lower()}>" for kind in Kind} | {START_OF_INFILL: "<start>"}
    return "|".join(names.get(token) or document_tokenizer().decode([token]) for token in prompt)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("I like [word] because", "I| like|<word>| because|<start>"),
        ("[sentence] How are you?", "<sentence>| How| are| you|?|<start>"),
        ("I like [word].", "I| like|<word>|.|<start>"),
        ("I like [NGram] [word]!", "I| like|<ngram>|<word>|!|<start>"),
        ("I [blank] it", "I|<ngram>| it|<start>"),
        ("Hello,\n\n[paragraph]\n\nGood", "Hello|,|\n|\n|<paragraph>|\n|\n|Good|<start>"),
        ("[document]", "<document>|<start>"),
        ("It's [word]'s", "It|'s|<word>|'s|<start>"),
        ("a [word][word]b", "a|<word>|<word>|b|<start>"),
        ("un[word]able 3[word]4", "un|<word>|able| 3|<word>|4|<start>"),
    ],
)
def test_a_prompt_equals_the_training_input_of_a_span(text, prompt):
    """The space before a blank belongs to the blank; whitespace elsewhere is cut as in the whole text."""
    assert spell(read_template(text).prompt(gpt2())) == prompt


@pytest.mark.parametrize(
    ("before", "answer", "after", "kind"),
    [
        ("I like", " pizza", " because it is good.", Kind.WORD),
        ("Hello.\n\n", "My name is Ana.", "\nBye.", Kind.PARAGRAPH),
        ("It is", " very good", ". I go.", Kind.NGRAM),
        ("", "Hello.", " I go.", Kind.SENTENCE),
        ("He said «", "yes", "». 😀", Kind.WORD),
        ("😀😀", " yes", " ’tis “so”", Kind.WORD),
    ],
)
def test_context_is_tokenised_as_in_the_whole_text(before, answer, after, kind):
    """Encoding the real text and replacing the answer's tokens gives the same prompt."""
    encoding = document_tokenizer().encode(before + answer + after)
    first, last = len(before), len(before) + len(answer)
    kept = [
        (start, token)
        for token, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True)
        if stop <= first or start >= last
    ]
    expected = [token for start, token in kept if start < first] + [FIRST_BLANK + kind]
    expected += [token for start, token in kept if start >= last] + [START_OF_INFILL]
    space = " " if answer.startswith(" ") else ""
    prompt = read_template(f"{before}{space}[{kind.name.lower()}]{after}").prompt(gpt2())
    assert list(prompt) == expected


def test_an_escaped_blank_is_plain_text():
    r"""Learners write brackets too, and `\[word]` stands for them."""
    template = read_template(r"\[word] is [word]")
    assert template.kinds == (Kind.WORD,)
    assert template.fill([" it"])[0] == "[word] is it"


@pytest.mark.parametrize("token", ["<|endofinfill|>", "<|startofinfill|>", "<|infill_word|>", "<|endoftext|>"])
def test_a_special_token_typed_in_a_text_is_plain_text(token):
    """A learner's text must not be able to end an answer or make a blank."""
    prompt = read_template(f"I {token} like [word]").prompt(gpt2())
    assert [number for number in prompt if number >= 50256] == [FIRST_BLANK + Kind.WORD, START_OF_INFILL]
    assert document_tokenizer().decode(list(prompt[:-2])) == f"I {token} like"


@pytest.mark.parametrize("text", ["", "no blank here", r"\[word]", "[laughs]", "[1]"])
def test_a_text_without_a_blank_is_refused_with_how_to_write_one(text):
    """Guessing the position of an answer would be worse."""
    with pytest.raises(InputError, match=r"found no blank .*write \[blank\]"):
        read_template(text)


@pytest.mark.parametrize(
    ("text", "blank", "nearest"),
    [
        ("I [wrod] it", "[wrod]", "word"),
        ("I [words] it", "[words]", "word"),
        ("[word] and [ word ]", "[ word ]", "word"),
        ("[Sentense] Bye.", "[Sentense]", "sentence"),
        ("[n-gram] or [ngramm]", "[ngramm]", "ngram"),
        ("the [blanck]", "[blanck]", "blank"),
    ],
)
def test_a_misspelt_blank_is_refused_with_the_nearest_one(text, blank, nearest):
    """If it stayed in the text, nobody would see that it was not filled; a backslash makes it text."""
    with pytest.raises(InputError) as caught:
        read_template(text)
    assert f"found '{blank}'; did you mean '[{nearest}]'?" in str(caught.value)
    escaped = read_template(text.replace(blank, f"\\{blank}") + " [word]")
    assert escaped.fill(["" for _ in escaped.kinds])[0].count(blank) == 1


def test_other_brackets_are_plain_text():
    """Editors of learners' texts write them."""
    assert read_template("[laughs] (see [1]) [word] [sic]").pieces == ("[laughs] (see [1]) ", " [sic]")


@pytest.mark.parametrize(
    ("text", "answers", "filled"),
    [
        ("I like [word] because", [" pizza"], "I like pizza because"),
        ("I like [word] because", ["pizza"], "I like pizza because"),
        ("I like[word] because", [" pizza"], "I like pizza because"),
        ("I like [word].", [" pizza "], "I like pizza."),
        ("[sentence] Bye.", [" Hello."], "Hello. Bye."),
        ("A\n[sentence]\nB", [" Hello."], "A\nHello.\nB"),
        ("[word] [word] [word]", [" a", " b", " c"], "a b c"),
        ("un[word]able", ["think"], "unthinkable"),
        ("I like [word] a lot", [""], "I like  a lot"),
    ],
)
def test_a_filled_text_has_correct_spacing(text, answers, filled):
    """There is one space where one belongs, whether the model or the person wrote it."""
    filled_text, ranges = read_template(text).fill(answers)
    assert filled_text == filled
    assert [filled_text[start:stop] for start, stop in ranges] == [answer.strip() for answer in answers]
