"""Which examples each step trains on: a pure function of (seed, step), so a resumed training needs no state.

An epoch is a permutation of the examples, cut into windows of `window_batches` batches.  A window's
examples are sorted by length, so that a batch holds examples of like length and little padding, and its
batches are shuffled.  Every example comes once an epoch, whatever the batch size; the last batch of an
epoch holds what is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from raysweep.masking.example_store import Batch
from raysweep.seeding import generator_for

Examples = npt.NDArray[np.int64]


class ExampleSource(Protocol):
    """What training asks of an example store."""

    def lengths(self, examples: Examples, task: str = "ilm") -> npt.NDArray[np.int32]:
        """Tokens of each example."""

    def assemble(self, examples: Examples, *, task: str = "ilm", pad_multiple: int = 1) -> Batch:
        """The examples as padded rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Window:
    epoch: int
    number: int
    batches: Sequence[npt.NDArray[np.uint32]]
    """Places in the array of examples, not example numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepExamples:
    """What one optimiser step trains on, all workers together."""

    numbers: Examples
    """Example numbers, shortest example first."""
    tokens: int
    """Real tokens in them."""


class BatchOrder:
    """The batches of a training, numbered from 0 on, through as many epochs as it takes."""

    def __init__(
        self, examples: Examples, lengths: npt.NDArray[np.int32], *, batch_size: int, window_batches: int, seed: int
    ) -> None:
        """Args: the examples to train on (numbers in the store, at least one) and their lengths in tokens."""
        assert len(examples) == len(lengths) > 0
        self._examples, self._lengths = examples, lengths
        self._batch_size, self._window_batches, self._seed = batch_size, window_batches, seed
        self.size = len(examples)
        self.batches_per_epoch = -(-len(examples) // batch_size)
        # Only the window in use is in memory; an epoch's permutation takes 4 bytes an example.
        self._permutation: tuple[int, npt.NDArray[np.uint32]] | None = None
        self._window: _Window | None = None

    def step(self, step: int, accumulation: int = 1) -> StepExamples:
        """The `accumulation` batches of one optimiser step; the first step is 1."""
        first = (step - 1) * accumulation
        places = np.concatenate([self._batch(number) for number in range(first, first + accumulation)])
        lengths = self._lengths[places]
        return StepExamples(
            numbers=self._examples[places[np.argsort(lengths, kind="stable")]], tokens=int(lengths.sum(dtype=np.int64))
        )

    def _batch(self, number: int) -> npt.NDArray[np.uint32]:
        epoch, inside = divmod(number, self.batches_per_epoch)
        window, place = divmod(inside, self._window_batches)
        if self._window is None or (self._window.epoch, self._window.number) != (epoch, window):
            self._window = self._make_window(epoch, window)
        return self._window.batches[place]

    def _make_window(self, epoch: int, number: int) -> _Window:
        size = self._window_batches * self._batch_size
        chosen = self._epoch_permutation(epoch)[number * size : (number + 1) * size]
        chosen = chosen[np.argsort(self._lengths[chosen], kind="stable")]
        cuts = range(0, len(chosen), self._batch_size)
        batches = [chosen[start : start + self._batch_size] for start in cuts]
        order = generator_for(self._seed, "window", epoch, number).permutation(len(batches))
        return _Window(epoch=epoch, number=number, batches=[batches[place] for place in order])

    def _epoch_permutation(self, epoch: int) -> npt.NDArray[np.uint32]:
        if self._permutation is None or self._permutation[0] != epoch:
            numbers = np.arange(len(self._examples), dtype=np.uint32)
            generator_for(self._seed, "epoch", epoch).shuffle(numbers)
            self._permutation = (epoch, numbers)
        return self._permutation[1]


def micro_batches(examples: Examples, *, size: int, rank: int = 0, world_size: int = 1) -> list[Examples]:
    """One worker's share of a step's examples (sorted by length), in micro-batches of at most `size`.

    Shares are dealt by length in turn, so that workers get nearly the same number of tokens.
    """
    share = examples[rank::world_size]
    return [share[start : start + size] for start in range(0, len(share), size)]


def choose_validation(examples: Examples, count: int, levels: Sequence[str]) -> Examples:
    """The validation examples of every evaluation: the same for all seeds and all trials on these levels."""
    if len(examples) <= count:
        return examples
    chosen = generator_for("validation", *levels).choice(len(examples), size=count, replace=False)
    return examples[np.sort(chosen)]
