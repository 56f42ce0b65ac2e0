"""Products on CPUs: the numbers of float64, whichever library computes them, and gradients where they are asked for."""

import pytest
import torch

from raysweep.model import cpu_products
from raysweep.model.cpu_products import multiply_transposed, use_fast_products


@pytest.fixture(params=["AVX512", "AVX2"])
def processor(request, monkeypatch):
    """A processor with the instructions that oneDNN is used for, and one without them."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: request.param)
    cpu_products._onednn_product.cache_clear()
    yield request.param
    cpu_products._onednn_product.cache_clear()


@pytest.mark.parametrize("size", [3, 200])
def test_products_are_those_of_float64(processor, size):
    """Small ones and large ones, of rows and of a transposed view, with a bias and without."""
    generator = torch.Generator().manual_seed(0)
    left, right, bias = (torch.randn(*shape, generator=generator) for shape in ((size, 70), (70, size), (size,)))
    expected = left.double() @ right.double()
    with torch.inference_mode():
        plain, with_bias = multiply_transposed(left, right.T.contiguous()), multiply_transposed(left, right.T, bias)
    torch.testing.assert_close(plain.double(), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(with_bias.double(), expected + bias, rtol=0, atol=1e-4)


def test_only_processors_where_it_is_faster_use_onednn(processor):
    """The operation has no public name: a version of torch without it would be slow in silence."""
    assert (cpu_products._onednn_product() is not None) == (processor == "AVX512")


def test_a_large_layer_has_gradients(make_gpt2):
    """A training goes through the layers of torch's own, which can be differentiated."""
    model = make_gpt2()
    names = list(model.state_dict())
    use_fast_products(model)
    assert list(model.state_dict()) == names
    layer = model.transformer.h[0].mlp.c_fc
    assert type(layer) is cpu_products._FastConv1D
    rows = torch.randn(50_000, layer.nx)
    layer(rows).sum().backward()
    torch.testing.assert_close(layer.weight.grad[:, 0], rows.sum(0), rtol=1e-4, atol=1e-2)
