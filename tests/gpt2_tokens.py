"""GPT-2's ids as they were published and as the original assigned them; and its tokenizers by short names."""

from raysweep.masking.vocabulary import gpt2

GPT2_SIZE = 50257
START_OF_INFILL = 50257
END_OF_INFILL = 50258
FIRST_BLANK = 50259
VOCABULARY_SIZE = 50264


def document_tokenizer():
    """The one that knows no special tokens."""
    return gpt2().plain


def load_tokenizer():
    """The one that knows them all."""
    return gpt2().with_specials
