"""The scores of a part of a corpus, as sent by the process that scored it; this module needs no torch."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class PartScores:
    """The result of `text_parts.score_part`."""

    texts: int
    """Number of texts."""
    sums: bytes
    """A Parquet file with the nats, tokens and bytes of each text."""
    tokens: bytes | None
    """A Parquet file with the nats of each token, NaN for the first token of a text; None if not requested."""
