"""The output layer in blocks: losses and gradients of float64, whatever the logits and however many labels."""

import pytest
import torch

from raysweep.model import onednn_output_layer
from raysweep.model.onednn_output_layer import losses_and_gradients_in_blocks

VOCABULARY, WIDTH = 1200, 16
"""Three blocks of tokens, the last one smaller."""


def losses_and_gradients(states_ND, weight_VD, labels_N, weights_N):
    """The losses, and the gradients by states and by weight; the latter's memory holds something else before."""
    weight_gradient_VD = torch.full_like(weight_VD, torch.nan)
    with torch.no_grad():
        return *losses_and_gradients_in_blocks(
            states_ND, weight_VD, labels_N, weights_N, weight_gradient_VD
        ), weight_gradient_VD


@pytest.mark.parametrize("most_labels", [64, 1024])
@pytest.mark.parametrize(
    "scale",
    [
        0.1,  # nothing learnt yet: all probabilities are alike
        3.0,  # labels tens of nats below the most probable token
        30.0,  # hundreds of nats: powers of the difference exceed float32
    ],
)
def test_losses_and_gradients_agree_with_float64(monkeypatch, scale, most_labels):
    """Within 1e-5 of the largest, in one chunk of labels and in several, filled up; a label may come twice."""
    monkeypatch.setattr(onednn_output_layer, "_MOST_LABELS", most_labels)
    generator = torch.Generator().manual_seed(0)
    states_ND = torch.randn(150, WIDTH, generator=generator)
    weight_VD = scale * torch.randn(VOCABULARY, WIDTH, generator=generator)
    labels_N = torch.randint(VOCABULARY, (150,), generator=generator)
    labels_N[75:] = (states_ND[75:] @ weight_VD.T).argmax(1)  # half of them well learnt
    labels_N[:2] = labels_N[2]
    weights_N = torch.rand(150, generator=generator)
    actual = losses_and_gradients(states_ND, weight_VD, labels_N, weights_N)
    exact = [values.double().requires_grad_() for values in (states_ND, weight_VD)]
    losses_N = torch.nn.functional.cross_entropy(exact[0] @ exact[1].T, labels_N, reduction="none")
    (losses_N * weights_N.double()).sum().backward()
    for ours, theirs in zip(actual, (losses_N, exact[0].grad, exact[1].grad), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


def test_the_gradient_of_a_well_learnt_label_does_not_lose_digits():
    """Its error is minus the sum of the others' probabilities, not a rounded probability minus 1."""
    states_ND, weight_VD = torch.tensor([[1.0, 0.0]]), torch.tensor([[15.0, 1.0], [0.0, 3.0]])
    _, states_gradient_ND, _ = losses_and_gradients(states_ND, weight_VD, torch.tensor([0]), torch.ones(1))
    other = torch.tensor(-15.0, dtype=torch.float64).sigmoid().item()
    assert states_gradient_ND.tolist() == [pytest.approx([-15.0 * other, 2.0 * other], rel=1e-5)]


def test_a_micro_batch_without_labels_has_zero_gradients():
    """A worker's share may hold blanks and padding alone."""
    losses_N, states_gradient_ND, weight_gradient_VD = losses_and_gradients(
        torch.zeros(0, WIDTH), torch.ones(VOCABULARY, WIDTH), torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    )
    assert (losses_N.shape, states_gradient_ND.shape) == ((0,), (0, WIDTH))
    assert not weight_gradient_VD.any()
