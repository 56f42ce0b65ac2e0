"""Products on CPUs: the numbers of float64, whichever library computes them, and gradients where they are asked for."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from raysweep.model import cpu_products
from raysweep.model.cpu_products import is_onednn_training, multiply_transposed, onednn_training, use_fast_products
from raysweep.model.gpt2 import load_model


@pytest.fixture(params=["AVX512", "AVX2"])
def processor(request, monkeypatch):
    """A processor with the instructions that oneDNN is used for, and one without them."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: request.param)
    cached = cpu_products._onednn_products
    cached.cache_clear()
    yield request.param
    cached.cache_clear()


@pytest.mark.parametrize("size", [3, 200])
def test_matrix_products_agree_with_float64(processor, size):
    """Small ones and large ones, of rows and of a transposed view, with a bias, a sum and GELU, and without."""
    generator = torch.Generator().manual_seed(0)
    left, right, bias = (torch.randn(*shape, generator=generator) for shape in ((size, 70), (70, size), (size,)))
    expected = left.double() @ right.double()
    with torch.inference_mode():
        plain, with_bias = multiply_transposed(left, right.T.contiguous()), multiply_transposed(left, right.T, bias)
    torch.testing.assert_close(plain.double(), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(with_bias.double(), expected + bias, rtol=0, atol=1e-4)
    with torch.inference_mode():
        summed = multiply_transposed(left, right.T, bias, plus_MN=expected.float())
        activated = multiply_transposed(left, right.T, bias, gelu=True)
    torch.testing.assert_close(summed.double(), 2 * expected + bias, rtol=0, atol=1e-4)
    wanted = torch.nn.functional.gelu(expected + bias, approximate="tanh")
    torch.testing.assert_close(activated.double(), wanted, rtol=0, atol=1e-4)


def test_addition_keeps_float32_under_autocast():
    """If it did not, every block under autocast would round the sum of all blocks before it."""
    left, right, plus = torch.ones(2, 3), torch.ones(2, 3), torch.full((2, 2), 2.0**-12)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        summed = multiply_transposed(left, right, torch.zeros(2), plus_MN=plus)
    torch.testing.assert_close(summed, torch.full((2, 2), 3 + 2.0**-12), rtol=0, atol=0)


def test_onednn_is_used_only_on_processors_where_it_is_faster(processor):
    """The operation has no public name: a version of torch without it would be slow in silence."""
    assert (cpu_products._onednn_products() is not None) == (processor == "AVX512")


@pytest.mark.parametrize(
    "changed",
    [
        lambda rows, weight: rows @ weight.T,
        lambda rows, weight, bias, *, activation: rows @ weight.T,
        lambda rows, weight, bias, activation, scalars, algorithm: rows @ weight.T,  # leaves the bias out
        lambda *_: torch.ops.mkldnn.no_such_operation(),
        lambda rows, weight, bias, *_: rows @ weight.T + (0 if bias is None else bias),  # cannot add a matrix
    ],
)
def test_a_changed_schema_of_the_private_torch_operation_disables_onednn(monkeypatch, changed):
    """A newer torch may change it: scoring is slower then, and does not end in a TypeError."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", changed)
    cpu_products._onednn_products.cache_clear()
    left, right = torch.ones(200, 70), torch.ones(200, 70)
    with torch.inference_mode():
        assert multiply_transposed(left, right, torch.ones(200)).eq(71).all()
    assert cpu_products._onednn_products() is None
    cpu_products._onednn_products.cache_clear()


@pytest.fixture
def loaded(make_gpt2, tmp_path):
    """A model as scoring loads it, and the same with the layers of transformers."""
    plain = make_gpt2().eval()
    plain.save_pretrained(tmp_path)
    return load_model(tmp_path, "cpu"), plain


def test_a_model_loaded_for_scoring_computes_large_products_by_onednn(loaded, monkeypatch):
    """Three of the four linear layers of each block are large enough here; the logits are those of plain layers."""
    products, calls = cpu_products._onednn_products(), []
    if products is None:
        pytest.skip("no AVX-512, or no oneDNN in torch")
    model, plain = loaded
    watched = lambda *given: calls.append(given) or products[0](*given)  # noqa: E731
    monkeypatch.setattr(cpu_products, "_onednn_products", lambda: (watched, products[1]))
    tokens_BT = torch.randint(50_000, (32, 64), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        hidden_states = model.transformer(tokens_BT).last_hidden_state
        assert [given[1].shape for given in calls] == [(48, 16), (64, 16), (16, 64)] * 2
        torch.testing.assert_close(hidden_states, plain.transformer(tokens_BT).last_hidden_state, rtol=0, atol=1e-4)
    calls.clear()
    model.transformer(tokens_BT)
    assert calls == []


def test_a_texts_logits_do_not_depend_on_its_batch(loaded):
    """A batch of 8 is below the least size for oneDNN and one of 32 above it: only the order of the sums differs."""
    tokens_BT = torch.randint(50_000, (32, 64), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole, first = (loaded[0].transformer(tokens).last_hidden_state for tokens in (tokens_BT, tokens_BT[:8]))
    torch.testing.assert_close(whole[:8], first, rtol=0, atol=1e-4)


def test_a_large_layer_is_differentiable(make_gpt2):
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


def test_layer_gradients_agree_with_float64(processor, monkeypatch):
    """By oneDNN where the processor has what it needs, forward and backward, also after the block that asks for it."""
    products, calls = cpu_products._onednn_products(), []
    if products is not None:
        watched = lambda *given: calls.append(given[0].shape) or products[0](*given)  # noqa: E731
        monkeypatch.setattr(cpu_products, "_onednn_products", lambda: (watched, products[1]))
    generator = torch.Generator().manual_seed(0)
    layer = Conv1D(70, 90)
    torch.nn.init.normal_(layer.bias, generator=generator)
    use_fast_products(torch.nn.ModuleList([layer]))
    rows = torch.randn(2, 150, 90, generator=generator, requires_grad=True)
    errors = torch.randn(2, 150, 70, generator=generator)
    layer(rows)
    assert calls == []
    with onednn_training():
        product = layer(rows)
    product.backward(errors)
    assert calls == ([(320, 90), (320, 70), (90, 320)] if products is not None else [])
    exact = [values.detach().double().requires_grad_() for values in (rows, layer.weight, layer.bias)]
    expected = exact[0] @ exact[1] + exact[2]
    expected.backward(errors.double())
    actual = (product, rows.grad, layer.weight.grad, layer.bias.grad)
    for ours, theirs in zip(actual, (expected, *(values.grad for values in exact)), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-4)


def test_onednn_gradients_are_used_only_in_the_training_thread():
    """A thread that trains in 'fp32' beside it keeps MKL's bits."""
    with onednn_training(), ThreadPoolExecutor(1) as pool:
        assert [is_onednn_training(), pool.submit(is_onednn_training).result()] == [True, False]
    assert not is_onednn_training()
