"""The loss of every label, against PyTorch's own cross entropy and against the original code's numbers."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from raysweep.model import label_losses
from raysweep.model.gpt2 import load_model
from raysweep.model.label_losses import losses_of_states, score_labels
from raysweep.model.sequence_packing import alone
from raysweep.model.token_losses import (
    PARTS,
    cross_entropy_gradient,
    cross_entropy_gradient_on_gpu,
    cross_entropy_gradient_to_compile,
    find_labels,
    full_precision,
    part_sums,
    token_losses,
)
from tests.gpt2_tokens import VOCABULARY_SIZE

GOLDEN = Path(os.environ.get("RAYSWEEP_GOLDEN", Path(__file__).parents[2] / ".." / "shared" / "reference"))


def random_batch(rows, columns):
    rng = np.random.default_rng(0)
    ids_BT = rng.integers(0, VOCABULARY_SIZE, size=(rows, columns), dtype=np.int32)
    return ids_BT, rng.integers(0, 7, size=(rows, columns)).astype(np.uint8)


def losses_of(model, ids_BT, labels, weights_N=None):
    weights_N = torch.ones(len(labels.ids_N)) if weights_N is None else weights_N
    return token_losses(model, on_cpu(ids_BT, labels), weights_N)


def on_cpu(ids_BT, labels):
    return alone(ids_BT, np.full(len(ids_BT), ids_BT.shape[1]), labels).to(torch.device("cpu"))


def scores_of(model, ids_BT, labels):
    with full_precision():
        return score_labels(model, on_cpu(ids_BT, labels))


def losses_by_torch(model, ids_BT, labels):
    """Cross entropy over the whole table of logits, in float64."""
    with torch.no_grad():
        logits_NV = model(torch.from_numpy(ids_BT).long()).logits.double().flatten(0, 1)[labels.positions_N]
    return cross_entropy(logits_NV, torch.from_numpy(labels.ids_N), reduction="none")


def test_labels_are_the_inputs_shifted_by_one():
    """The first token, blanks (2), the start token (3), padding (0) and repeated text (6) are never predicted."""
    ids_BT = np.array([[10, 11, 12, 13, 14, 15, 16], [20, 21, 22, 23, 0, 0, 0]], dtype=np.int32)
    types_BT = np.array([[1, 1, 2, 3, 4, 5, 6], [4, 1, 4, 5, 0, 0, 0]], dtype=np.uint8)
    labels = find_labels(ids_BT, types_BT)
    assert labels.ids_N.tolist() == [11, 14, 15, 21, 22, 23]
    assert labels.positions_N.tolist() == [0, 3, 4, 7, 8, 9]
    assert labels.counts().tolist() == [2, 2, 2]
    assert find_labels(ids_BT, types_BT, context=False).ids_N.tolist() == [14, 15, 22, 23]
    assert find_labels(ids_BT, types_BT, infill=False).ids_N.tolist() == [11, 21]
    first_only = find_labels(ids_BT, types_BT, context=np.array([[True], [False]]))
    assert first_only.ids_N.tolist() == [11, 14, 15, 22, 23]


def test_losses_and_gradients_agree_with_cross_entropy(make_gpt2):
    """This holds even if the labels do not fit into one chunk, and with a weight for each label."""
    ids_BT, types_BT = random_batch(12, 30)
    labels = find_labels(ids_BT, types_BT)
    assert len(labels.ids_N) > 128, "must take more than one chunk"
    weights_N = torch.rand(len(labels.ids_N), generator=torch.Generator().manual_seed(0))

    ours, plain = make_gpt2().eval(), make_gpt2().eval()
    total, losses_N = losses_of(ours, ids_BT, labels, weights_N)
    total.backward()
    logits_NV = plain(torch.from_numpy(ids_BT).long()).logits.flatten(0, 1)[labels.positions_N]
    expected_N = cross_entropy(logits_NV, torch.from_numpy(labels.ids_N), reduction="none")
    torch.dot(expected_N, weights_N).backward()

    torch.testing.assert_close(losses_N, expected_N, rtol=1e-5, atol=1e-5)
    for (name, mine), theirs in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(
            mine.grad, theirs.grad, rtol=1e-4, atol=1e-5, msg=lambda text, at=name: f"{at}: {text}"
        )


@pytest.mark.parametrize("block", [(1, 7), (4, 50_000), (1000, 100_000), None])
def test_scores_agree_with_cross_entropy(make_gpt2, monkeypatch, block):
    """To 1e-5 nats, in blocks of any size: blocks are a matter of speed alone."""
    if block is not None:
        monkeypatch.setitem(label_losses._BLOCKS, "cpu", block)
    model, (ids_BT, types_BT) = make_gpt2().eval(), random_batch(2, 6)
    labels = find_labels(ids_BT, types_BT)
    expected_N = losses_by_torch(model, ids_BT, labels)
    torch.testing.assert_close(scores_of(model, ids_BT, labels), expected_N, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("label_logit", "others"),
    [(0.0, 3.0), (39.0, 20.0), (-39.0, -45.0), (0.0, 100.0), (-39.0, 48.0), (-60.0, -61.0), (-110.0, -105.0)],
)
def test_scores_without_a_maximum_shift_agree_with_cross_entropy(label_logit, others):
    """Wherever the logits lie: sums of powers that would leave float32 without the shift are recognised."""
    generator = torch.Generator().manual_seed(0)
    weight_VD = torch.randn(3000, 2, generator=generator)
    weight_VD[:, 0], labels_N = others, torch.tensor([7, 9])
    weight_VD[labels_N, 0] = label_logit
    states_ND = torch.tensor([[1.0, 0.1], [1.0, -0.2]])
    expected_N = cross_entropy(states_ND.double() @ weight_VD.T.double(), labels_N, reduction="none")
    with full_precision():
        found_N = losses_of_states(states_ND, weight_VD, labels_N, always_shift=False)
    torch.testing.assert_close(found_N, expected_N, rtol=0, atol=2e-5)


def test_huge_logits_are_scored_without_overflow(make_gpt2):
    """A confident model's logits lie hundreds apart, so their exponentials exceed float32."""
    model, (ids_BT, types_BT) = make_gpt2(initializer_range=20.0).eval(), random_batch(3, 10)
    labels = find_labels(ids_BT, types_BT)
    expected_N = losses_by_torch(model, ids_BT, labels)
    assert expected_N.max() > 200
    # The absolute error grows with the logits, which are about 1,000 here: float32 has 7 digits.
    torch.testing.assert_close(scores_of(model, ids_BT, labels), expected_N, rtol=1e-5, atol=1e-3)


def test_scores_of_a_diverged_model_are_nan(make_gpt2):
    """They must be detected, not reported."""
    model, (ids_BT, types_BT) = make_gpt2().eval(), random_batch(2, 5)
    model.transformer.ln_f.weight.data.fill_(float("nan"))
    assert scores_of(model, ids_BT, find_labels(ids_BT, types_BT)).isnan().all()


def test_matmul_precision_is_restored_after_scoring():
    """Training in the same process may use TF32; scores never do."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
            assert torch.is_inference_mode_enabled()
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_an_underflowing_probability_has_a_finite_loss(make_gpt2):
    """A probability that underflows to zero is 200 nats, not infinity."""
    model = make_gpt2(initializer_range=20.0).eval()
    ids_BT, types_BT = random_batch(2, 10)
    labels = find_labels(ids_BT, types_BT)
    total, losses_N = losses_of(model, ids_BT, labels)
    assert losses_N.max() > 200
    assert torch.isfinite(total)
    logits_NV = model(torch.from_numpy(ids_BT).long()).logits.flatten(0, 1)[labels.positions_N]
    torch.testing.assert_close(losses_N, cross_entropy(logits_NV, torch.from_numpy(labels.ids_N), reduction="none"))


def test_a_uniform_model_has_a_loss_of_log_vocabulary_size(make_gpt2):
    """nats per token = ln 50,264."""
    model = make_gpt2().eval()
    torch.nn.init.zeros_(model.lm_head.weight)
    ids_BT, types_BT = random_batch(2, 10)
    labels = find_labels(ids_BT, types_BT)
    for losses_N in (losses_of(model, ids_BT, labels)[1], scores_of(model, ids_BT, labels)):
        torch.testing.assert_close(losses_N, torch.full_like(losses_N, float(np.log(VOCABULARY_SIZE))))


def test_a_batch_without_labels_has_zero_loss_and_no_gradient(make_gpt2):
    """Zero and no gradient, rather than NaN."""
    model = make_gpt2()
    ids_BT, types_BT = random_batch(2, 5)
    labels = find_labels(ids_BT, np.full_like(types_BT, 2))
    total, losses_N = losses_of(model, ids_BT, labels)
    total.backward()
    assert (total.item(), len(losses_N), len(scores_of(model, ids_BT, labels))) == (0.0, 0, 0)
    assert all(not parameter.grad.any() for parameter in model.parameters())


def test_bfloat16_products_keep_the_softmax_in_float32(make_gpt2):
    """The loss differs by the rounding of the products, some thousandths; bfloat16 sums would be off by far more."""
    ids_BT, types_BT = random_batch(4, 30)
    labels = find_labels(ids_BT, types_BT)
    exact, rounded = make_gpt2().eval(), make_gpt2().eval()
    expected, _ = losses_of(exact, ids_BT, labels)
    expected.backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, losses_N = losses_of(rounded, ids_BT, labels)
    total.backward()
    assert losses_N.dtype == torch.float32
    assert total.item() == pytest.approx(expected.item(), rel=5e-3)
    mine, theirs = rounded.transformer.wte.weight.grad, exact.transformer.wte.weight.grad
    assert float((mine - theirs).norm() / theirs.norm()) < 0.05


def test_losses_of_parts_sum_to_their_total():
    """`infill` is its text and its ends; sums are float64."""
    sums = part_sums(torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([0, 1, 2, 0]))
    assert dict(zip(PARTS, sums.tolist(), strict=True)) == {"context": 9.0, "infill": 6.0, "infill_textonly": 4.0}
    assert sums.dtype == torch.float64


def test_scores_equal_those_of_the_original_code():
    """Every 48th example of the golden data, under the reference model: the same tokens, and nats to 1e-4 a token."""
    if not (GOLDEN / "golden.jsonl.gz").exists():
        pytest.skip(f"no golden data at {GOLDEN}; set RAYSWEEP_GOLDEN")
    model = load_model(GOLDEN / "model")
    with gzip.open(GOLDEN / "golden.jsonl.gz", "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    scored = [
        (example, losses)
        for record in records
        if "losses" in record
        for example, losses in zip(record["examples"], record["losses"], strict=True)
        if example is not None
    ]
    assert len(scored) > 1000
    chosen = scored[::48]
    for start in range(0, len(chosen), 16):
        part = chosen[start : start + 16]
        assert_scores_are(model, [example for example, _ in part], [losses for _, losses in part])


def assert_scores_are(model, examples, expected):
    """Each example's score, though they are computed in one padded batch."""
    ids_BT = np.zeros((len(examples), max(len(example["ids"]) for example in examples)), dtype=np.int32)
    types_BT = np.zeros(ids_BT.shape, dtype=np.uint8)
    for row, example in enumerate(examples):
        ids_BT[row, : len(example["ids"])] = example["ids"]
        types_BT[row, : len(example["tts"])] = example["tts"]
    labels = find_labels(ids_BT, types_BT)
    losses_N = scores_of(model, ids_BT, labels)
    rows_N = labels.positions_N // ids_BT.shape[1]
    for row, losses in enumerate(expected):
        classes = torch.from_numpy(labels.classes_N[rows_N == row].astype(np.int64))
        sums = part_sums(losses_N[rows_N == row], classes).tolist()
        counts = part_sums(torch.ones(len(classes)), classes).tolist()
        for part, nats, count in zip(PARTS, sums, counts, strict=True):
            assert count == losses[part][0]
            assert nats == pytest.approx(losses[part][1], abs=1e-4 * max(1, count))


@pytest.mark.parametrize(
    "function", [cross_entropy_gradient, cross_entropy_gradient_on_gpu, cross_entropy_gradient_to_compile]
)
@pytest.mark.parametrize("spread", [1.0, 300.0])
def test_losses_and_gradients_from_logits_equal_those_of_torch(function, spread):
    """Logits may be so far apart that their powers overflow or vanish; results are rounded to the requested type."""
    logits_CV = torch.from_numpy(np.random.default_rng(1).normal(scale=spread, size=(7, 90)).astype(np.float32))
    labels_C = torch.arange(7) * 11
    wanted_CV = logits_CV.clone().requires_grad_()
    losses_C = cross_entropy(wanted_CV, labels_C, reduction="none")
    losses_C.sum().backward()
    found_C, errors_CV = function(logits_CV.clone(), labels_C[:, None], torch.float32)
    torch.testing.assert_close(found_C, losses_C.detach(), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(errors_CV, wanted_CV.grad, rtol=1e-5, atol=1e-6)
    _, rounded_CV = function(logits_CV.clone(), labels_C[:, None], torch.bfloat16)
    torch.testing.assert_close(rounded_CV, wanted_CV.grad.bfloat16(), rtol=1e-2, atol=1e-6)
