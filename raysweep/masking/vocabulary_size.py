"""How many ids a vocabulary has, known without loading a tokenizer."""

import json
from math import sqrt
from pathlib import Path

GPT2_IDS = 50_264
"""GPT-2's tokens with those of infilling."""
FEWEST, MOST = 2_048, 16_000
_MULTIPLE = 64
"""A GPU multiplies matrices fastest whose sides are multiples of this."""
_CHARACTERS = 1_000_000
"""Bytes of text for which the smallest vocabulary is right; it grows with their square root."""


def corpus_vocabulary_size(train_bytes: int) -> int:
    """Ids of a tokenizer that is trained on a corpus, those of infilling included.

    Args:
        train_bytes: text of the train split, in UTF-8.
    """
    wanted = FEWEST * sqrt(train_bytes / _CHARACTERS)
    return min(MOST, max(FEWEST, round(wanted / _MULTIPLE) * _MULTIPLE))


def recorded_size(tokenizer: Path) -> int | None:
    """Ids of a run's or a model's tokenizer from its small config file; None if there is none that can be read."""
    try:
        config = json.loads((tokenizer / "tokenizer_config.json").read_text(encoding="utf-8"))
        return 1 + max(map(int, config["added_tokens_decoder"]))  # the last is one of infilling's
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a forecast can do without; a run refuses it and names it
