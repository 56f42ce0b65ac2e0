"""Several examples in one row: the same numbers on fewer positions."""

import numpy as np
import pytest
import torch

from raysweep.masking.vocabulary import TargetType
from raysweep.model.gpt2 import hidden_states
from raysweep.model.sequence_packing import NO_OWNER, Packing, alone, pack, plan_rows
from raysweep.model.token_losses import find_labels, token_losses
from tests.gpt2_tokens import VOCABULARY_SIZE

WIDEST = 40
LENGTHS = np.array([3, 9, 14, 5, 22, 1, 8, 31], dtype=np.int32)


@pytest.fixture(scope="module")
def batch():
    """Eight examples of random tokens, padded with token 0; their types, of all sorts; and their lengths."""
    random = np.random.default_rng(0)
    is_token_BT = np.arange(LENGTHS.max()) < LENGTHS[:, None]
    ids_BT = np.where(is_token_BT, random.integers(1, VOCABULARY_SIZE, is_token_BT.shape), 0).astype(np.int32)
    types = [TargetType.CONTEXT, TargetType.CONTEXT_SPECIAL, TargetType.INFILL, TargetType.INFILL_SPECIAL]
    types_BT = np.where(is_token_BT, random.choice(types, is_token_BT.shape), TargetType.PADDING).astype(np.uint8)
    return ids_BT, types_BT, LENGTHS


def both_ways(batch, multiple=1):
    ids_BT, types_BT, lengths_B = batch
    labels = find_labels(ids_BT, types_BT)
    layout = plan_rows(lengths_B, Packing(widest=WIDEST), width=ids_BT.shape[1], multiple=multiple)
    return alone(ids_BT, lengths_B, labels), pack(ids_BT, lengths_B, labels, layout)


def losses_of(model, rows):
    """Each label's loss in nats, and the gradient of their sum."""
    model.zero_grad()
    weights_N = torch.full((len(rows.labels.ids_N),), 1.0 / len(rows.labels.ids_N))
    total, losses_N = token_losses(model, rows.to(torch.device("cpu")), weights_N)
    total.backward()
    return losses_N.detach(), torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("multiple", [1, 8])
def test_packing_does_not_change_losses_or_gradients(infilling_model, batch, multiple):
    """Label by label to 1e-5 nats, and the gradients to rounding, on fewer than half the positions."""
    apart, packed = both_ways(batch, multiple)
    assert packed.positions < apart.positions / 2
    assert packed.tokens == apart.tokens == LENGTHS.sum()
    (expected_N, expected), (found_N, gradients) = (losses_of(infilling_model, rows) for rows in (apart, packed))
    np.testing.assert_array_equal(packed.labels.ids_N, apart.labels.ids_N)
    torch.testing.assert_close(found_N, expected_N, rtol=0, atol=1e-5)
    assert (gradients - expected).norm() < 1e-6 * expected.norm()


def test_a_packed_example_does_not_attend_to_its_neighbours(infilling_model, batch):
    """Other tokens in one example change no state of the others: not even the last bit, attention being masked."""
    _, packed = both_ways(batch)
    changed = packed.ids_RW.copy()
    changed[packed.owners_RW == 4] = 7
    places, owners = torch.from_numpy(packed.places_RW), torch.from_numpy(packed.owners_RW)
    before, after = (
        hidden_states(infilling_model, torch.from_numpy(ids.astype(np.int64)), places, owners)
        for ids in (packed.ids_RW, changed)
    )
    of_others = owners != 4
    assert torch.equal(before[of_others], after[of_others])
    assert not torch.equal(before[~of_others], after[~of_others])


def test_packing_places_every_token_once_and_padding_has_no_owner(batch):
    """Read back by owner and place, the rows give the examples."""
    ids_BT, _, lengths_B = batch
    _, packed = both_ways(batch)
    for example, length in enumerate(lengths_B):
        mine = packed.owners_RW == example
        np.testing.assert_array_equal(packed.places_RW[mine], np.arange(length))
        np.testing.assert_array_equal(packed.ids_RW[mine], ids_BT[example, :length])
        assert len(np.unique(np.nonzero(mine)[0])) == 1, "an example lies in one row"
    assert (packed.owners_RW == NO_OWNER).sum() == packed.positions - lengths_B.sum()


@pytest.mark.parametrize("seed", range(20))
def test_packing_never_uses_more_positions_than_padding(seed):
    """No row is wider than allowed, no two examples overlap, and padding falls, whatever the lengths."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 65, size=random.integers(2, 50))
    multiple = int(random.choice([1, 8]))
    width = -(-int(lengths.max()) // multiple) * multiple
    layout = plan_rows(lengths, Packing(widest=64), width=width, multiple=multiple)
    if layout is None:
        return
    assert layout.rows * layout.width < len(lengths) * width
    assert layout.width <= 64
    assert layout.width % multiple == 0
    taken = np.zeros((layout.rows, layout.width), dtype=int)
    for row, start, length in zip(layout.rows_B, layout.starts_B, lengths, strict=True):
        taken[row, start : start + length] += 1
    assert taken.max() == 1
    assert taken.sum() == lengths.sum()


def test_packed_rows_have_balanced_lengths():
    """Eight examples of 75 tokens become four rows of 150, not three of 225 with one that is not full."""
    layout = plan_rows(np.full(8, 75), Packing(widest=256), width=128)
    assert (layout.rows, layout.width) == (4, 150)


@pytest.mark.parametrize(
    ("lengths", "least_saving"), [([20, 20, 20], 0.0), ([30, 31, 32], 0.0), ([19, 20, 20, 20], 0.1), ([7], 0.0)]
)
def test_examples_are_not_packed_unless_it_saves_enough(lengths, least_saving):
    """Equal lengths leave nothing to save, and what is saved must be worth the mask."""
    packing = Packing(widest=40, least_saving=least_saving)
    assert plan_rows(np.array(lengths), packing, width=max(lengths)) is None


def test_packing_a_large_random_batch_leaves_under_a_tenth_padding():
    """Of 64 examples of EFCAMDAT-like lengths, under a tenth is padding; with one a row, three fifths would be."""
    lengths = np.clip(np.random.default_rng(0).lognormal(4.2, 0.45, size=64), 12, 256).astype(int)
    layout = plan_rows(lengths, Packing(widest=256), width=256, multiple=8)
    assert 1 - lengths.sum() / (layout.rows * layout.width) < 0.1
    assert 1 - lengths.sum() / (64 * 256) > 0.6
