"""Scores whole texts from left to right, like any causal language model: the loss of every token except the first.

A text longer than the window is read in overlapping windows: each window begins half a window after the previous one,
and only tokens that no earlier window predicted count, so each token is predicted once, from at least half a window of
text.  For a text that fits into one window the result equals that of `transformers` with `labels=input_ids`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from raysweep.evaluation.document_sums import Floats, Ints, batches_by_length
from raysweep.masking.tokens import Tokens
from raysweep.model.scoring_pass import score_batch
from raysweep.model.sequence_packing import alone
from raysweep.model.token_losses import CONTEXT, Labels


def score_whole_texts(model: Any, tokens_N: Tokens, offsets: Ints, *, window: int, batch_tokens: int) -> Floats:
    """Compute the loss of every token in nats (N,); NaN for the first token of a text.  Call it in `full_precision()`.

    Args:
        tokens_N: the tokens of all texts, concatenated.
        offsets: the start of each text, and the end of the last one; one more entry than texts.
        window: number of tokens that the model reads at once, at least 2.
        batch_tokens: tokens in a batch, including padding; a longer window is a batch of its own.
    """
    nats_N = np.full(len(tokens_N), np.nan)
    begins, ends, firsts = np.array(list(_windows(offsets, window)), dtype=np.int64).reshape(-1, 3).T
    device = next(model.parameters()).device
    for rows in batches_by_length(ends - begins, batch_tokens):
        lengths_B = ends[rows] - begins[rows]
        places_BT = begins[rows, None] + np.arange(int(lengths_B.max()))
        is_text_BT = places_BT < ends[rows, None]
        ids_BT = np.where(is_text_BT, tokens_N[np.minimum(places_BT, len(tokens_N) - 1)], 0).astype(np.int32)
        is_label_BT = is_text_BT & (places_BT >= firsts[rows, None])
        label_rows, label_columns = np.nonzero(is_label_BT)
        labels = Labels(
            positions_N=label_rows * ids_BT.shape[1] + label_columns - 1,
            ids_N=ids_BT[label_rows, label_columns].astype(np.int64),
            classes_N=np.full(len(label_rows), CONTEXT, dtype=np.uint8),
        )
        micro_batch = alone(ids_BT, lengths_B, labels).to(device)
        nats_N[places_BT[label_rows, label_columns]] = score_batch(model, micro_batch).cpu().numpy()
    return nats_N


def sum_by_text(values_N: npt.NDArray[Any], offsets: Ints) -> npt.NDArray[Any]:
    """Sum the values of each text (D,); 0 for a text without tokens."""
    # The appended 0 keeps the start of an empty last text inside the array.
    sums_D: npt.NDArray[Any] = np.add.reduceat(np.append(values_N, values_N.dtype.type(0)), offsets[:-1])
    return np.where(np.diff(offsets) > 0, sums_D, 0)


def _windows(offsets: Ints, window: int) -> Iterator[tuple[int, int, int]]:
    """Yield the start, the end and the first token to predict of every window."""
    for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        first = begin + 1
        while first < end:
            stop = min(end, begin + window)
            yield begin, stop, first
            begin, first = stop - (window + 1) // 2, stop
