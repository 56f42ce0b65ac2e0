"""Losses of single tokens, against torch's own cross entropy and against the original's numbers."""

import gzip
import json
import os
from pathlib import Path

import pytest
import torch
from transformers import GPT2LMHeadModel

from raysweep.evaluation import likelihood
from raysweep.evaluation.likelihood import full_precision, label_nats
from raysweep.masking.vocabulary import VOCABULARY_SIZE
from raysweep.model.gpt2 import load_model

GOLDEN = Path(os.environ.get("RAYSWEEP_GOLDEN", Path(__file__).parents[2].parent / "shared" / "reference"))


def random_batch(rows=3, length=20):
    generator = torch.Generator().manual_seed(5)
    ids_BT = torch.randint(0, VOCABULARY_SIZE, (rows, length), generator=generator)
    chosen_BT = torch.rand((rows, length), generator=generator) < 0.5
    return ids_BT, chosen_BT


def test_a_loss_is_what_torch_says(model):
    """Computed block by block, it equals cross entropy over the whole table of logits in float64."""
    ids_BT, chosen_BT = random_batch()
    with full_precision():
        logits_BTV = model(ids_BT).logits[:, :-1].double()
        expected = torch.nn.functional.cross_entropy(logits_BTV.transpose(1, 2), ids_BT[:, 1:], reduction="none")
        found = label_nats(model, ids_BT, chosen_BT)
    torch.testing.assert_close(found.double(), expected[chosen_BT[:, 1:]], atol=1e-5, rtol=0)


def test_a_uniform_model_gives_every_token_the_same_probability(model):
    """Its perplexity is the size of the vocabulary."""
    uniform = GPT2LMHeadModel(model.config).eval()
    torch.nn.init.zeros_(uniform.transformer.wte.weight)
    with full_precision():
        nats_N = label_nats(uniform, *random_batch())
    assert torch.exp(nats_N.double().mean()).item() == pytest.approx(VOCABULARY_SIZE, rel=1e-5)


def test_huge_logits_neither_overflow_nor_vanish(model):
    """A sure model's logits lie hundreds apart: exp of them is no float32."""
    ids_BT, chosen_BT = random_batch()
    sure = GPT2LMHeadModel(model.config).eval()
    sure.load_state_dict(model.state_dict())
    with full_precision():
        sure.transformer.ln_f.weight.mul_(300.0)
        logits_BTV = sure(ids_BT).logits[:, :-1].double()
        expected = torch.nn.functional.cross_entropy(logits_BTV.transpose(1, 2), ids_BT[:, 1:], reduction="none")
        found = label_nats(sure, ids_BT, chosen_BT)
    assert expected.max() > 200
    # Absolute error grows with the logits, which are about 1,000 here: float32 has 7 digits.
    torch.testing.assert_close(found.double(), expected[chosen_BT[:, 1:]], atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("block", [(1, 7), (4, 50_000), (1000, 100_000)])
def test_blocks_change_nothing(model, monkeypatch, block):
    """Rows and columns of a block are a matter of speed alone."""
    ids_BT, chosen_BT = random_batch(rows=2, length=6)
    with full_precision():
        expected = label_nats(model, ids_BT, chosen_BT)
        monkeypatch.setattr(likelihood, "_CPU_BLOCK", block)
        torch.testing.assert_close(label_nats(model, ids_BT, chosen_BT), expected, atol=1e-5, rtol=0)


def test_no_labels_no_losses(model):
    """A batch whose examples are all blank has nothing to score, and that is no NaN."""
    ids_BT, _ = random_batch()
    with full_precision():
        assert label_nats(model, ids_BT, torch.zeros_like(ids_BT, dtype=torch.bool)).shape == (0,)


def test_the_first_token_is_never_a_label(model):
    """Nothing stands before it."""
    ids_BT, _ = random_batch(rows=1)
    with full_precision():
        assert label_nats(model, ids_BT, torch.ones_like(ids_BT, dtype=torch.bool)).shape == (ids_BT.shape[1] - 1,)


def test_precision_is_put_back():
    """Training in the same process may want TF32; scores never do."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
            assert torch.is_inference_mode_enabled()
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_original_gets_the_same_losses():
    """Context, infill and infill_textonly of real examples under a real model, as the ILM authors' code has them."""
    if not (GOLDEN / "golden.jsonl.gz").exists():
        pytest.skip(f"no golden data in {GOLDEN} (RAYSWEEP_GOLDEN names its folder)")
    reference = load_model(GOLDEN / "model")
    with gzip.open(GOLDEN / "golden.jsonl.gz", "rt", encoding="utf-8") as file:
        documents = [document for document in map(json.loads, file) if "losses" in document]
    compared = 0
    for document in documents[::6]:
        pairs = [pair for pair in zip(document["examples"], document["losses"], strict=True) if None not in pair][::4]
        for example, losses in pairs:
            ids_BT, types_BT = torch.tensor([example["ids"]]), torch.tensor([example["tts"]])
            for score, types in {"context": [1], "infill": [4, 5], "infill_textonly": [4]}.items():
                with full_precision():
                    nats_N = label_nats(reference, ids_BT, torch.isin(types_BT, torch.tensor(types)))
                tokens, nats = losses[score]
                assert len(nats_N) == tokens
                assert float(nats_N.double().sum()) == pytest.approx(nats, abs=1e-4 * max(1, tokens))
                compared += tokens
    assert compared > 1000
