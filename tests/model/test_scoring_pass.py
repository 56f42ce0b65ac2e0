"""The forward pass for scores: the numbers of transformers, for every kind of GPT-2 and of batch."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from raysweep.model import cpu_products
from raysweep.model.gpt2 import load_model
from raysweep.model.scoring_pass import score_batch, states_of_labels
from raysweep.model.sequence_packing import alone
from raysweep.model.token_losses import find_labels, full_precision


@pytest.fixture(params=["gelu_new", "gelu", "relu"])
def loaded(request, tmp_path):
    """A start of someone's own: another activation, attention scaled by layer, its own inner width, no tied output."""
    torch.manual_seed(0)
    config = GPT2Config(
        n_positions=128,
        n_embd=64,
        n_layer=3,
        n_head=4,
        n_inner=96,
        initializer_range=0.2,
        activation_function=request.param,
        scale_attn_by_inverse_layer_idx=request.param == "gelu",
        scale_attn_weights=request.param != "relu",
        tie_word_embeddings=request.param == "gelu_new",
    )
    plain = GPT2LMHeadModel(config).eval()
    for name, weight in plain.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight)
    plain.save_pretrained(tmp_path)
    return load_model(tmp_path, needs_infilling=False), plain


@pytest.mark.parametrize("rows", [1, 48])
@pytest.mark.parametrize("capability", ["AVX512", "AVX2"])
def test_hidden_states_equal_those_of_transformers(loaded, rows, capability, monkeypatch):
    """At positions here and there, with oneDNN (48 rows are enough for it to be used) and without."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    cpu_products._onednn_products.cache_clear()
    model, plain = loaded
    generator = torch.Generator().manual_seed(0)
    ids_BT = torch.randint(50_000, (rows, 40), generator=generator)
    positions_N = torch.randperm(ids_BT.numel(), generator=generator)[: rows * 15].sort().values
    with full_precision():
        expected = plain.transformer(ids_BT).last_hidden_state.flatten(0, 1)[positions_N]
        states = states_of_labels(model, ids_BT, positions_N)
    cpu_products._onednn_products.cache_clear()
    torch.testing.assert_close(states, expected, rtol=0, atol=2e-4)


def test_batches_without_labels_or_with_a_single_token_are_scored(loaded):
    """A text of only blanks predicts nothing; the end of an empty answer is predicted from one position."""
    ids_BT = np.array([[7, 9]], dtype=np.int32)
    for types, count in (([1, 2], 0), ([3, 4], 1)):
        labels = find_labels(ids_BT, np.array([types], dtype=np.uint8))
        batch = alone(ids_BT, np.array([2]), labels).to(torch.device("cpu"))
        with full_precision():
            nats_N = score_batch(loaded[0], batch)
            logits_TV = loaded[1](batch.ids_BT).logits[0].double()
        assert nats_N.tolist() == pytest.approx((-logits_TV.log_softmax(1)[0, 9:10]).tolist()[:count], abs=1e-4)
