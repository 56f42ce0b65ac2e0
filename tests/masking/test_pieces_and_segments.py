"""Paragraphs, sentences, words and tokens of any text."""

import itertools
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.masking.characters import GPT2_KNOWN
from raysweep.masking.segmentation import hierarchy_of, segment
from raysweep.masking.tokens import forget_pieces
from tests.gpt2_tokens import document_tokenizer
from tests.masking.stored_examples import tokenise_texts

ENGLISH = "abc AB12 '\"`.,:;!?-()[]{}<>*@#%&n't can't 's«»“”‘’–—…\n\t\r\x0b\x85\xa0\u2028é😀我\u3000_"


def words_of(text: str) -> list[list[str]]:
    """The words of each sentence."""
    paragraphs = hierarchy_of(segment([text]), 0)[2]
    return [[text[a : a + n] for a, n in sentence[2]] for paragraph in paragraphs for sentence in paragraph[2]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I can't. Cannot you?", ["I ca n't .", "Can not you ?"]),
        ("Mr. Li gave J. Smith $5.50, too.", ["Mr. Li gave J. Smith $ 5.50 , too ."]),
        ('He said "no." Then he left.', ['He said " no . "', "Then he left ."]),
        ("They're my friends' dogs, aren't they?", ["They 're my friends ' dogs , are n't they ?"]),
        ("Wait... what -- now?", ["Wait ... what -- now ?"]),
        ("one\n\n  two  \r\nthree", ["one", "two", "three"]),
    ],
)
def test_words_follow_the_penn_treebank_rules(text, words):
    """Punkt finds the sentences; words follow the rules of the Penn Treebank."""
    assert words_of(text) == [sentence.split(" ") for sentence in words]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("He said ''no''.", [["He", "said", "''", "no", "''", "."]]),
        ("''no'' he said", [["''", "no", "''", "he", "said"]]),
        ("``no`` he said", [["``", "no", "``", "he", "said"]]),
        ("“Yes,” she said.", [["“", "Yes", ",", "”", "she", "said", "."]]),
        ("I love pizza 😀!", [["I", "love", "pizza", "😀", "!"]]),
        ("我喜欢学习。", [["我喜欢学习。"]]),
        ("", []),
        (" \n \t ", []),
    ],
)
def test_words_are_found_in_texts_that_the_original_code_loses(text, words):
    """Odd quotes, emoji and other scripts do not lose the document."""
    assert words_of(text) == words


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text(alphabet=ENGLISH, max_size=60)))
def test_words_cover_every_character_except_white_space_in_order(text):
    """Nothing of a text is lost, doubled or out of place, whatever it holds."""
    size, paragraphs = hierarchy_of(segment([text]), 0)[1:]
    assert size == len(text)
    position, outer_end = 0, 0
    for paragraph in paragraphs:
        assert outer_end <= paragraph[0]
        outer_end = paragraph[0] + paragraph[1]
        assert text[paragraph[0] : outer_end].splitlines() == [text[paragraph[0] : outer_end].strip()]
        for sentence in paragraph[2]:
            assert paragraph[0] <= sentence[0]
            assert sentence[0] + sentence[1] <= outer_end
            for start, length in sentence[2]:
                assert text[position:start].strip() == ""
                assert length > 0
                assert not any(character.isspace() for character in text[start : start + length])
                assert sentence[0] <= start
                assert start + length <= sentence[0] + sentence[1]
                position = start + length
    assert text[position:].strip() == ""


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=40), st.text(alphabet=ENGLISH, max_size=40)), max_size=4))
def test_tokens_equal_those_of_the_tokenizers_library(texts):
    """The kernels and the memory of pieces are faster than the library, and never different."""
    expected = [document_tokenizer().encode(text).ids for text in texts]
    assert tokenise_texts(texts) == expected
    forget_pieces()
    assert tokenise_texts(texts) == expected


def test_kernels_classify_every_character_like_the_tokenizers_library():
    """Letters, numbers and spaces by Unicode's properties, one by one, and the first of those left to the library."""
    texts = [f"a {chr(code)}{chr(code)} b{chr(code)}1 {chr(code)}x  {chr(code)}" for code in range(GPT2_KNOWN + 64)]
    encodings = document_tokenizer().encode_batch(texts)
    assert tokenise_texts(texts) == [encoding.ids for encoding in encodings]


def test_segmenting_a_batch_equals_segmenting_each_document():
    """A document's segments do not depend on its neighbours."""
    texts = ["", "One. Two?\nThree", "😀", "Don't. Mr. X. 5. ...", " "]
    together = segment(texts)
    assert [hierarchy_of(together, i) for i in range(len(texts))] == [hierarchy_of(segment([t]), 0) for t in texts]


@pytest.mark.parametrize(
    "text", ["." * 5000, "a." * 3000, "'" * 5000, "!?" * 3000 + " x", "`" * 999, '"' * 4000, "-" * 5000]
)
def test_long_runs_of_punctuation_are_segmented_in_linear_time(text):
    """A hostile text must not stop a shard: the work grows with the length."""
    assert "".join(itertools.chain.from_iterable(words_of(text))) == "".join(text.split())


def test_the_character_class_table_covers_all_of_unicode():
    """The table covers all of Unicode."""
    assert words_of(f"a {chr(sys.maxunicode)}") == [["a", chr(sys.maxunicode)]]
