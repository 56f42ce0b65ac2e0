"""The order of examples: all of them, little padding, and a function of the seed and the step alone."""

import numpy as np
import pytest

from raysweep.training.batches import BatchOrder, choose_validation, micro_batches

EXAMPLES = np.arange(1000, 1103)
LENGTHS = np.random.default_rng(0).integers(10, 200, size=len(EXAMPLES)).astype(np.int32)


def make_order(batch_size=4, window_batches=8, seed=0):
    return BatchOrder(EXAMPLES, LENGTHS, batch_size=batch_size, window_batches=window_batches, seed=seed)


@pytest.mark.parametrize(("batch_size", "window_batches"), [(4, 8), (7, 3), (1, 1), (103, 2), (500, 64)])
def test_every_example_occurs_once_per_epoch(batch_size, window_batches):
    """No example is dropped at the end of an epoch, and the next epoch has another order."""
    order = make_order(batch_size, window_batches)
    steps = order.batches_per_epoch
    assert steps == -(-len(EXAMPLES) // batch_size)
    epochs = [
        np.concatenate([order.step(step).numbers for step in range(first, first + steps)]) for first in (1, 1 + steps)
    ]
    for epoch in epochs:
        assert np.array_equal(np.sort(epoch), EXAMPLES)
    if steps > 1:
        assert not np.array_equal(epochs[0], epochs[1])


def test_the_batch_of_a_step_does_not_depend_on_earlier_steps():
    """A resumed training asks for step 57 first and gets what an uninterrupted one got."""
    order = make_order()
    in_turn = [order.step(step, accumulation=3) for step in range(1, 60)]
    fresh = make_order().step(57, accumulation=3)
    assert np.array_equal(fresh.numbers, in_turn[56].numbers)
    assert fresh.tokens == in_turn[56].tokens == LENGTHS[fresh.numbers - 1000].sum()


def test_another_seed_gives_another_order():
    """Trials with several seeds see the examples in different orders."""
    assert not np.array_equal(make_order(seed=0).step(1).numbers, make_order(seed=1).step(1).numbers)


def test_batches_group_examples_of_similar_length():
    """Padding falls from a third of the positions to under a tenth."""

    def padding(window_batches):
        order = make_order(window_batches=window_batches)
        batches = [LENGTHS[order.step(step).numbers - 1000] for step in range(1, order.batches_per_epoch + 1)]
        return 1 - sum(b.sum() for b in batches) / sum(b.max() * len(b) for b in batches)

    assert padding(window_batches=1) > 0.3
    assert padding(window_batches=64) < 0.1


def test_batches_are_shuffled_regardless_of_length():
    """Sorting is inside a window only to fill batches; the batches themselves are shuffled."""
    order = make_order(window_batches=64)
    longest = [LENGTHS[order.step(step).numbers - 1000].max() for step in range(1, order.batches_per_epoch + 1)]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.5


def test_accumulation_uses_consecutive_batches():
    """A step of 2 batches and two steps of 1 see the same examples."""
    double = make_order().step(3, accumulation=2)
    single = np.concatenate([make_order().step(step).numbers for step in (5, 6)])
    assert set(double.numbers) == set(single)
    assert np.all(np.diff(LENGTHS[double.numbers - 1000]) >= 0), "shortest first"


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_workers_share_a_step_without_loss_or_overlap(world_size):
    """Each example goes to one worker, in micro-batches of at most the size asked for."""
    examples = make_order().step(1, accumulation=3).numbers
    shares = [micro_batches(examples, size=2, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert sorted(np.concatenate([part for share in shares for part in share])) == sorted(examples)
    assert max(len(part) for share in shares for part in share) <= 2


def test_surplus_workers_get_no_examples():
    """Their share is empty, not an error."""
    assert micro_batches(EXAMPLES[:2], size=4, rank=3, world_size=4) == []


def test_validation_examples_are_the_same_for_every_seed():
    """If they differed, losses of two seeds, and of a search's samples, could not be compared."""
    chosen = choose_validation(EXAMPLES, 10, ["A1"])
    assert len(set(chosen)) == 10
    assert np.array_equal(chosen, choose_validation(EXAMPLES, 10, ["A1"]))
    assert np.array_equal(choose_validation(EXAMPLES, 500, ["A1"]), EXAMPLES)


def test_eleven_million_examples_are_ordered_in_arrays():
    """The full corpus: a list of Python numbers would take 400 MB and minutes; here it is one permutation."""
    examples = np.arange(11_000_000)
    lengths = np.full(len(examples), 75, dtype=np.int32)
    order = BatchOrder(examples, lengths, batch_size=32, window_batches=64, seed=0)
    assert order.step(200_000).tokens == 32 * 75
    assert order._epoch_permutation(0).nbytes == 4 * len(examples)
