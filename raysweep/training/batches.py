"""Chooses the examples of each step, as a pure function of (seed, step), so that a resumed training needs no state.

An epoch is a permutation of the examples, divided into windows of `window_batches` batches.  The examples of a window
are sorted by length, so that a batch has examples of similar length and little padding, and its batches are shuffled.
Every example occurs once per epoch, whatever the batch size; the last batch of an epoch may be smaller.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from raysweep.masking.example_store import Examples
from raysweep.seeding import generator_for

Places = npt.NDArray[np.uint32]
"""Indices into the array of examples, as opposed to example numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepExamples:
    """The examples of one optimiser step, over all workers."""

    numbers: Examples
    """Example numbers, the shortest example first."""
    tokens: int
    """Number of tokens without padding."""


class BatchOrder:
    """The batches of a training, numbered from 0, over as many epochs as necessary."""

    def __init__(
        self, examples: Examples, lengths: npt.NDArray[np.int32], *, batch_size: int, window_batches: int, seed: int
    ) -> None:
        """Args: `examples` to train on (numbers in the store, at least one); `lengths` of them in tokens."""
        assert len(examples) == len(lengths) > 0
        self._examples, self._lengths = examples, lengths
        self._batch_size, self._window_batches, self._seed = batch_size, window_batches, seed
        self.size = len(examples)
        self.batches_per_epoch = -(-len(examples) // batch_size)
        # Only the current window is in memory; an epoch's permutation takes 4 bytes per example.
        self._epoch_permutation = lru_cache(maxsize=1)(self._make_epoch_permutation)
        self._window = lru_cache(maxsize=1)(self._make_window)

    def step(self, step: int, accumulation: int = 1) -> StepExamples:
        """Return the `accumulation` batches of one optimiser step; the first step is 1."""
        first = (step - 1) * accumulation
        places = np.concatenate([self._batch(number) for number in range(first, first + accumulation)])
        lengths = self._lengths[places]
        return StepExamples(
            numbers=self._examples[places[np.argsort(lengths, kind="stable")]], tokens=int(lengths.sum(dtype=np.int64))
        )

    def _batch(self, number: int) -> Places:
        epoch, batch = divmod(number, self.batches_per_epoch)
        window, place = divmod(batch, self._window_batches)
        return self._window(epoch, window)[place]

    def _make_window(self, epoch: int, number: int) -> list[Places]:
        size = self._window_batches * self._batch_size
        chosen = self._epoch_permutation(epoch)[number * size : (number + 1) * size]
        chosen = chosen[np.argsort(self._lengths[chosen], kind="stable")]
        batches = [chosen[start : start + self._batch_size] for start in range(0, len(chosen), self._batch_size)]
        order = generator_for(self._seed, "window", epoch, number).permutation(len(batches))
        return [batches[place] for place in order]

    def _make_epoch_permutation(self, epoch: int) -> Places:
        places = np.arange(len(self._examples), dtype=np.uint32)
        generator_for(self._seed, "epoch", epoch).shuffle(places)
        return places


def micro_batches(examples: Examples, *, size: int, rank: int = 0, world_size: int = 1) -> list[Examples]:
    """Divide a worker's share of a step's examples (sorted by length) into micro-batches of at most `size`.

    The examples are distributed round-robin, so that all workers get nearly the same number of tokens.
    """
    share = examples[rank::world_size]
    return [share[start : start + size] for start in range(0, len(share), size)]


def choose_validation(examples: Examples, count: int, levels: Sequence[str]) -> Examples:
    """Choose the validation examples; they are the same for all evaluations, seeds and trials on these levels."""
    if len(examples) <= count:
        return examples
    chosen = generator_for("validation", *levels).choice(len(examples), size=count, replace=False)
    return examples[np.sort(chosen)]
