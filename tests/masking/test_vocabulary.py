"""What the ids mean, and that a learner cannot type a special token."""

from raysweep.masking.vocabulary import SPECIAL_TOKENS, Kind, gpt2
from tests.gpt2_tokens import (
    END_OF_INFILL,
    FIRST_BLANK,
    START_OF_INFILL,
    VOCABULARY_SIZE,
    document_tokenizer,
    load_tokenizer,
)
from tests.masking.stored_examples import tokenise_texts


def test_special_tokens_have_the_ids_of_the_original_code():
    """Models and examples of the original can be read: the same names at the same numbers."""
    tokenizer = load_tokenizer()
    assert tokenizer.get_vocab_size() == VOCABULARY_SIZE
    assert tokenizer.token_to_id("<|startofinfill|>") == START_OF_INFILL
    assert tokenizer.token_to_id("<|endofinfill|>") == END_OF_INFILL
    for kind in Kind:
        assert tokenizer.token_to_id(f"<|infill_{kind.name.lower()}|>") == FIRST_BLANK + kind


def test_a_special_token_spelled_in_a_text_is_tokenised_as_plain_text():
    """A learner's text is never a command, in whatever way it is tokenised."""
    text = f"I typed {' '.join(SPECIAL_TOKENS)} and <|endoftext|> 😀"
    for ids in (document_tokenizer().encode(text).ids, *tokenise_texts([text, text[:-2]])):
        assert max(ids) < 50256
    assert document_tokenizer().decode(tokenise_texts([text])[0]) == text


def test_each_special_token_in_a_prompt_is_one_token():
    """Prompts are built with the tokenizer that has the special tokens."""
    ids = load_tokenizer().encode("".join(SPECIAL_TOKENS)).ids
    assert ids == list(range(START_OF_INFILL, VOCABULARY_SIZE))


def test_token_bytes_concatenate_to_the_text():
    """Spans are found by counting bytes: a token's bytes are the text's."""
    text = "naïve café — 我喜欢 😀 don't"
    assert sum(int(gpt2().byte_counts[number]) for number in tokenise_texts([text])[0]) == len(text.encode())
