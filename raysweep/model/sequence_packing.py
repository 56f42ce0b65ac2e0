"""Sequence packing: puts several examples into one row, so that fewer positions are padding.

Attention stays within an example and its positions count from 0 (`gpt2.hidden_states`), so a packed token has the same
hidden state as in its own row, up to float rounding.

Rows are balanced rather than filled one after the other: eight examples of 75 tokens, with at most 256 positions in a
row, become four rows of 150 positions, not three rows of 225 of which one is only two thirds full.

Axes: B examples, T tokens of the longest example, R rows, W positions of a row, N labels.
"""

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysweep.model.token_losses import Labels, MicroBatch

Ints = npt.NDArray[np.int64]
NO_OWNER = -1
"""The owner of a padding position."""
_GOOD_ENOUGH = 0.01
"""When padding is below this share of the tokens, the search for a better layout stops."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Packing:
    """Limits of sequence packing."""

    widest: int
    """Most positions of a row; at least the tokens of the longest example."""
    least_saving: float = 0.0
    """Least share of positions that packing must save; otherwise every example gets its own row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The row of each example, and its position in the row."""

    rows_B: Ints  # noqa: N815
    starts_B: Ints  # noqa: N815
    """The first position of each example in its row."""
    rows: int
    width: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """The model's input for one micro-batch, with its labels."""

    ids_RW: npt.NDArray[np.int32]  # noqa: N815
    labels: Labels
    """The labels; their positions are indices into (R × W)."""
    tokens: int
    """Number of positions that are not padding."""
    places_RW: Ints | None = None  # noqa: N815
    """The index of each position within its example, 0 for padding; None if every row is one example."""
    owners_RW: npt.NDArray[np.int32] | None = None  # noqa: N815
    """The example that each position belongs to, or `NO_OWNER`; None if every row is one example."""

    @property
    def positions(self) -> int:
        """Number of positions, including padding."""
        return self.ids_RW.size

    def to(self, device: torch.device) -> MicroBatch:
        """Copy the rows to the device."""
        return MicroBatch(
            ids_BT=send(self.ids_RW.astype(np.int64), device),
            positions_N=send(self.labels.positions_N, device),
            labels_N=send(self.labels.ids_N, device),
            classes_N=send(self.labels.classes_N.astype(np.int64), device),
            places_BT=None if self.places_RW is None else send(self.places_RW, device),
            owners_BT=None if self.owners_RW is None else send(self.owners_RW, device),
        )


def send(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Copy an array to the device without blocking the host; an ordinary copy would wait for all queued work."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def plan_rows(lengths_B: npt.NDArray[Any], packing: Packing, *, width: int, multiple: int = 1) -> Layout | None:
    """Find the layout with the fewest positions; None if rows of one example are as good.

    Among layouts with equally few positions the one with more, hence shorter, rows is chosen, because the cost of
    attention grows with the square of a row's length.

    Args:
        lengths_B: tokens of each example, at most `packing.widest`.
        width: positions of a row if every example has its own row.
        multiple: rows have the length of the fullest row, rounded up to a multiple of this.
    """
    total, longest = int(lengths_B.sum()), int(lengths_B.max(initial=1))
    alone = len(lengths_B) * width
    best: Layout | None = None
    fewest = int(alone * (1.0 - packing.least_saving))
    rows = max(1, -(-total // packing.widest))
    while rows < len(lengths_B) and rows * longest <= fewest:
        layout = _balanced(lengths_B, rows, multiple)
        positions = rows * layout.width
        if int(layout.width) <= -(-packing.widest // multiple) * multiple and positions <= fewest and positions < alone:
            best, fewest = layout, positions
        if fewest <= total * (1.0 + _GOOD_ENOUGH):
            break
        rows += 1
    return best


def _balanced(lengths_B: npt.NDArray[Any], rows: int, multiple: int) -> Layout:
    """Put each example, longest first, into the row with the fewest tokens so far."""
    rows_B, starts_B = np.zeros(len(lengths_B), dtype=np.int64), np.zeros(len(lengths_B), dtype=np.int64)
    loads = [(0, row) for row in range(rows)]
    for example in np.argsort(-lengths_B.astype(np.int64), kind="stable"):
        load, row = loads[0]
        rows_B[example], starts_B[example] = row, load
        heapq.heapreplace(loads, (load + int(lengths_B[example]), row))
    fullest = max(load for load, _ in loads)
    return Layout(rows_B=rows_B, starts_B=starts_B, rows=rows, width=-(-fullest // multiple) * multiple)


def alone(ids_BT: npt.NDArray[np.int32], lengths_B: npt.NDArray[Any], labels: Labels) -> Rows:
    """Put every example into its own row."""
    return Rows(ids_RW=ids_BT, labels=labels, tokens=int(lengths_B.sum()))


def pack(ids_BT: npt.NDArray[np.int32], lengths_B: npt.NDArray[Any], labels: Labels, layout: Layout) -> Rows:
    """Arrange the examples and their labels according to the layout."""
    shape = (layout.rows, layout.width)
    ids_RW = np.zeros(shape, dtype=np.int32)
    places_RW = np.zeros(shape, dtype=np.int64)
    owners_RW = np.full(shape, NO_OWNER, dtype=np.int32)
    begins_B = layout.rows_B * layout.width + layout.starts_B
    examples, columns = np.nonzero(np.arange(ids_BT.shape[1]) < lengths_B[:, None])
    targets = begins_B[examples] + columns
    ids_RW.reshape(-1)[targets] = ids_BT[examples, columns]
    places_RW.reshape(-1)[targets] = columns
    owners_RW.reshape(-1)[targets] = examples
    label_examples, label_columns = np.divmod(labels.positions_N, ids_BT.shape[1])
    moved = Labels(positions_N=begins_B[label_examples] + label_columns, ids_N=labels.ids_N, classes_N=labels.classes_N)
    return Rows(ids_RW=ids_RW, labels=moved, tokens=int(lengths_B.sum()), places_RW=places_RW, owners_RW=owners_RW)
