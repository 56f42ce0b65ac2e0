"""Models between two models."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from raysweep.model.interpolation import interpolate_weights


def make_model(seed, width=8):
    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=16, n_embd=width, n_layer=1, n_head=2))


def weights(model):
    return {name: value.clone() for name, value in model.named_parameters()}


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_interpolated_weights_lie_on_the_line_between_two_models(weight):
    """To the bit at both ends, so that they are these models and no others."""
    start, end = make_model(1), make_model(2)
    first, last = weights(start), weights(end)
    interpolate_weights(start, end, weight)
    for name, value in weights(end).items():
        torch.testing.assert_close(value, (1.0 - weight) * first[name] + weight * last[name], atol=1e-7, rtol=0.0)
        if weight in (0.0, 1.0):
            assert torch.equal(value, (last if weight else first)[name])
    assert end.lm_head.weight is end.transformer.wte.weight


def test_interpolating_models_of_different_size_is_refused():
    with pytest.raises(RuntimeError, match="size"):
        interpolate_weights(make_model(1), make_model(2, width=4), 0.5)
