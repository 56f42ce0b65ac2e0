"""Checks the texts to be scored, and builds the tables of their scores."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raysweep.errors import InputError
from raysweep.masking.vocabulary import Vocabulary
from raysweep.storage.digests import digest_text

if TYPE_CHECKING:
    from raysweep.evaluation.document_sums import Ints
    from raysweep.inference.text_scores import TextScores


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedTexts:
    """Texts that can be scored, each with the id that determines its masks."""

    texts: list[str]
    ids: list[str]


def read_texts(
    texts: str | Iterable[str], ids: Sequence[str] | None = None, *, may_be_empty: bool = True
) -> CheckedTexts:
    """Check texts; a string is a single text.

    Args:
        ids: a name for each text; if None, the digest of the text.
        may_be_empty: whether a text may be empty or of spaces alone.

    Raises:
        InputError: a text is not a string, is empty but may not be, or cannot be encoded in UTF-8; or the numbers of
            ids and texts differ.
    """
    if isinstance(texts, (pd.DataFrame, Mapping, bytes)):  # these would be read as their column names, keys or numbers
        raise InputError(f"texts: found a {type(texts).__name__}; must be a string, or a list or column of strings")
    listed = [texts] if isinstance(texts, str) else list(texts)
    for number, text in enumerate(listed):
        if not isinstance(text, str):
            raise InputError(f"text {number}: found {type(text).__name__}; must be a string")
        if not text.isascii():
            _refuse_surrogates(text, number)
        if not (may_be_empty or text.strip()):
            raise InputError(f"text {number}: found {text[:20]!r}; it is empty and has no level. Leave it out")
    if ids is not None and len(ids) != len(listed):
        raise InputError(f"ids: found {len(ids):,} for {len(listed):,} texts; give one for each text, or none at all")
    return CheckedTexts(texts=listed, ids=list(map(str, ids)) if ids is not None else list(map(digest_text, listed)))


def document_table(scores: "TextScores") -> pd.DataFrame:
    """Build a table with a row per text; see `TrainedModel.score`."""
    return pd.DataFrame(
        {
            "text": np.arange(len(scores.nats)),
            "nats": scores.nats,
            "tokens": scores.tokens,
            "bytes": scores.bytes,
            "infill_nats": scores.infill_nats,
            "infill_tokens": scores.infill_tokens,
            "infill_bytes": scores.infill_bytes,
        }
    )


def token_table(texts: Sequence[str], scores: "TextScores", vocabulary: Vocabulary) -> pd.DataFrame:
    """Build a table with a row per token, see `TrainedModel.score`; tokens of one character have the same range."""
    rows = token_rows(texts, np.diff(scores.offsets), vocabulary)
    return pd.DataFrame({**rows, "nats": scores.token_nats})


def token_rows(texts: Sequence[str], counts_D: "Ints", vocabulary: Vocabulary) -> dict[str, Any]:
    """Build columns with a row per token: `text`, `token`, `start`, `stop` and `piece`.

    Args:
        counts_D: number of tokens of each text.
    """
    encodings = vocabulary.plain.encode_batch(list(texts), add_special_tokens=False)
    ranges = np.array([place for encoding in encodings for place in encoding.offsets], dtype=np.int64).reshape(-1, 2)
    assert len(ranges) == counts_D.sum(), "both ways to tokenise give the same tokens"
    begins_D = np.cumsum(counts_D) - counts_D
    return {
        "text": np.repeat(np.arange(len(texts)), counts_D),
        "token": np.arange(len(ranges)) - np.repeat(begins_D, counts_D),
        "start": ranges[:, 0],
        "stop": ranges[:, 1],
        "piece": [text[a:b] for text, encoding in zip(texts, encodings, strict=True) for a, b in encoding.offsets],
    }


def _refuse_surrogates(text: str, number: int) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"text {number}, character {error.start}: found {text[error.start]!a}, half of a character; "
            "it cannot be written in UTF-8. Read the text again with its own encoding"
        ) from error
