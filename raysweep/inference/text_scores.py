"""Scores new texts under one model: the whole text from left to right, and the answers to masks.

Masks are drawn like those of a run's test documents, from the run's seed and the text's id.  So a test document gets
the masks that the evaluate stage scored, and its infill score is the same sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysweep.corpus.documents import Documents
from raysweep.evaluation.document_sums import CELLS, Floats, Ints, score_examples
from raysweep.evaluation.whole_texts import score_whole_texts, sum_by_text
from raysweep.inference.scoring_rules import ScoringRules
from raysweep.masking.example_store import ExampleStore
from raysweep.masking.mask_shard import make_shard
from raysweep.model.gpt2 import vocabulary_of
from raysweep.model.token_losses import full_precision

_TEXTS_AT_ONCE = 1024
_SPLIT, _NO_LEVEL = "test", ""
"""New texts are treated as test documents; their level does not matter."""
_INFILL_PARTS = ("answer", "end")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextScores:
    """Scores of D texts with N tokens in total."""

    offsets: Ints
    """(D + 1,) the start of each text's tokens, and the end of the last one."""
    token_nats: Floats
    """(N,) NaN for the first token of a text."""
    nats: Floats
    """(D,) sums over the whole text."""
    tokens: Ints
    bytes: Ints
    infill_nats: Floats
    """(D,) sums over the answers to the text's masks and their ends; 0 for a text without words or without masks."""
    infill_tokens: Ints
    infill_bytes: Ints


def score_texts(
    model: Any, texts: Sequence[str], ids: Sequence[str], rules: ScoringRules, *, infills: bool = True
) -> TextScores:
    """Score texts, in their order.

    Args:
        model: a `GPT2LMHeadModel` in eval mode.
        ids: a name for each text, which determines its masks.
        infills: also score the answers to masks.
    """
    begins = range(0, max(1, len(texts)), _TEXTS_AT_ONCE)
    parts = [
        _score_some(model, texts[at : at + _TEXTS_AT_ONCE], ids[at : at + _TEXTS_AT_ONCE], rules, infills)
        for at in begins
    ]
    counts = np.concatenate([np.diff(part.offsets) for part in parts])
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in TextScores.__slots__
        if name != "offsets"
    }
    return TextScores(offsets=np.append(0, np.cumsum(counts)), **joined)


def _score_some(model: Any, texts: Sequence[str], ids: Sequence[str], rules: ScoringRules, infills: bool) -> TextScores:
    count = len(texts)
    documents = Documents(ids=list(ids), levels=[_NO_LEVEL] * count, splits=[_SPLIT] * count, texts=list(texts))
    vocabulary = vocabulary_of(model)
    shard = make_shard(documents, vocabulary, policy=rules.masking, seed=rules.seed, language=rules.language)
    tokens_N, offsets = shard.arrays["tokens"], shard.arrays["document_tokens"].astype(np.int64)
    window = min(rules.masking.max_tokens, int(model.config.n_positions))
    with full_precision():
        nats_N = score_whole_texts(model, tokens_N, offsets, window=window, batch_tokens=rules.batch_tokens)
        nats_D, tokens_D, bytes_D = np.zeros(count), np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        if infills:
            store = ExampleStore([shard], vocabulary)
            chosen = store.select([_NO_LEVEL], _SPLIT, examples_per_document=rules.examples_per_document)
            sums = score_examples(model, store, chosen, batch_tokens=rules.batch_tokens, context_examples=0)
            cells = [cell for cell, (_, part) in enumerate(CELLS) if part in _INFILL_PARTS]
            nats_D[sums.documents] = sums.nats[:, cells].sum(axis=1)
            tokens_D[sums.documents] = sums.tokens[:, cells].sum(axis=1)
            bytes_D[sums.documents] = sums.bytes[:, cells].sum(axis=1)
    is_label_N = np.ones(len(tokens_N), dtype=np.bool_)
    is_label_N[offsets[:-1][np.diff(offsets) > 0]] = False
    return TextScores(
        offsets=offsets,
        token_nats=nats_N,
        nats=sum_by_text(np.where(is_label_N, nats_N, 0.0), offsets),
        tokens=sum_by_text(is_label_N.astype(np.int64), offsets),
        bytes=sum_by_text(np.where(is_label_N, vocabulary.byte_counts[tokens_N], 0).astype(np.int64), offsets),
        infill_nats=nats_D,
        infill_tokens=tokens_D,
        infill_bytes=bytes_D,
    )
