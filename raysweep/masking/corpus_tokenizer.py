"""Trains a byte-level BPE on the train split of a corpus: GPT-2's pattern for pieces, with the corpus's own tokens.

The same texts give the same tokenizer, whatever their order and the number of cores: it depends only on the frequency
of each word, and ties are broken by the tokens themselves.  No text of valid or test is used.
"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from raysweep.errors import InputError
from raysweep.masking.tokenizer_json import read_vocabulary
from raysweep.masking.vocabulary import SPECIAL_TOKENS, Vocabulary
from raysweep.masking.vocabulary_size import corpus_vocabulary_size

MOST_BYTES = 64_000_000
"""Most bytes to train on; of a larger corpus every n-th document is used, because the vocabulary grows no further."""
_END = "<|endoftext|>"


def train_tokenizer(documents: Path) -> Vocabulary:
    """Train on the train documents of a `documents.parquet`; raises InputError if they have no text."""
    table = pq.read_table(documents, columns=["split", "text"], page_checksum_verification=True)
    texts = table.filter(pc.equal(table["split"], "train"))["text"]
    if not pc.sum(pc.binary_length(texts)).as_py():
        raise InputError(f"{documents}: no text in the train split; model.tokenizer 'corpus' needs some")
    return train_on_column(texts)


def train_on_column(texts: pa.ChunkedArray, *, share: float = 1.0) -> Vocabulary:
    """Train on texts, with a vocabulary size that fits the size of the train split.

    Args:
        share: the size of the train split, divided by the size of these texts.
    """
    size = int(pc.sum(pc.binary_length(texts)).as_py() or 0)
    chosen = texts.take(list(range(0, len(texts), max(1, -(-size // MOST_BYTES))))).to_pylist()
    return train_on_texts(chosen, corpus_vocabulary_size(round(size * share)))


def train_on_texts(texts: list[str], size: int) -> Vocabulary:
    """Train on texts.

    Args:
        size: number of ids including the infilling tokens; there are fewer if the texts have too few words.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=size - len(SPECIAL_TOKENS),
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[_END],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    vocabulary, _ = read_vocabulary(json.loads(tokenizer.to_str()), "the tokenizer of the corpus", _END)
    assert vocabulary.cuts_like_gpt2
    return vocabulary
