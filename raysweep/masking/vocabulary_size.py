"""Determines the size of a vocabulary without loading a tokenizer."""

import json
from math import sqrt
from pathlib import Path

GPT2_IDS = 50_264
"""Number of GPT-2's tokens and the infilling tokens."""
FEWEST, MOST = 2_048, 16_000
_MULTIPLE = 64
"""Matrix products on a GPU are fastest if the dimensions are multiples of this."""
_CHARACTERS = 1_000_000
"""Bytes of text for the smallest vocabulary; its size grows with the square root of the bytes."""


def corpus_vocabulary_size(train_bytes: int) -> int:
    """Return the number of ids of a tokenizer that is trained on a corpus, including the infilling tokens.

    Args:
        train_bytes: size of the text of the train split in UTF-8.
    """
    wanted = FEWEST * sqrt(train_bytes / _CHARACTERS)
    return min(MOST, max(FEWEST, round(wanted / _MULTIPLE) * _MULTIPLE))


def recorded_size(tokenizer: Path) -> int | None:
    """Read the number of ids of a run's or a model's tokenizer from its config; None if that cannot be read."""
    try:
        config = json.loads((tokenizer / "tokenizer_config.json").read_text(encoding="utf-8"))
        return 1 + max(map(int, config["added_tokens_decoder"]))  # the last id is that of an infilling token
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a forecast does not need it; a run reports the damaged tokenizer
