"""The scores of a part of a corpus, as they travel from the process that scored it; needs no torch."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class PartScores:
    """What `text_parts.score_part` returns."""

    texts: int
    """Their number."""
    sums: bytes
    """A Parquet file: nats, tokens and bytes of each text."""
    tokens: bytes | None
    """A Parquet file: the nats of each token, NaN for a text's first; None if they were not asked for."""
