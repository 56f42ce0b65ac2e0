"""What only a GPU can show: the same training as on a CPU, whole or resumed, packed, replayed, short of memory.

Skipped without a GPU.  Each test prints what it measured, so that the tolerances can be held against it.
"""

import dataclasses

import numpy as np
import pytest
import torch

from raysweep.config.training_settings import SCRATCH, ModelConfig, TrainingConfig
from raysweep.masking.vocabulary import gpt2
from raysweep.model.gpt2 import build_model
from raysweep.model.token_losses import cross_entropy_gradient, cross_entropy_gradient_on_gpu
from raysweep.storage.run_folder import TrialFolder
from raysweep.training.attempt import make_engine
from raysweep.training.distributed import DistributedGroup
from raysweep.training.loop import train
from raysweep.training.loss import Objective
from raysweep.training.optimizer import clipped_step, make_optimizer
from raysweep.training.step import step_gradients
from raysweep.training.synthetic import synthetic_examples

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

BOTH = Objective(context=True, infill=True)
MAX_TOKENS = 128
BATCH = 8


@pytest.fixture(autouse=True)
def _without_tf32():
    """In every test, whatever ran before it; `train` allows TF32, as it does in a run."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="module")
def source():
    return synthetic_examples(64 * BATCH, max_tokens=MAX_TOKENS)


def run_steps(
    source,
    steps,
    device="cuda",
    *,
    dropout=0.0,
    batch=BATCH,
    optimise=True,
    learning_rate=1e-4,
    direct=True,
    **settings,
):
    """Trains `steps` steps on the same few widths of rows; returns each step's losses, gradients and the engine.

    Returns:
        (steps, parts) nats a token; the last step's gradients, flat, on the CPU; the engine.
    """
    settings = TrainingConfig(batch_size=batch, learning_rate=learning_rate, **settings)
    config = ModelConfig(size="small", dropout=dropout)
    model = build_model(SCRATCH, model=config, vocabulary=gpt2(), max_tokens=MAX_TOKENS, seed=0)
    model.to(device)
    group = DistributedGroup(device=torch.device(device))
    engine = make_engine("test", model, source, settings, group, MAX_TOKENS)
    if not direct:
        engine.gradient_pass = engine.graphs = None
    optimizer = make_optimizer(model, settings)
    numbers = np.argsort(source.lengths(np.arange(len(source))), kind="stable")
    losses = []
    for step in range(1, steps + 1):
        start = (step * 7 % 5) * BATCH * 3
        examples = numbers[start : start + batch]
        batches = engine.assemble(examples, BOTH)
        sums = step_gradients(engine, examples, batches, BOTH, seed=0, step=step)
        if step == steps:
            gradients = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).cpu()
        if optimise:
            clipped_step(optimizer, list(model.parameters()), 1.0)
        optimizer.zero_grad(set_to_none=True)
        losses.append(sums.nats / sums.labels)
    return torch.stack(losses).cpu().numpy(), gradients, engine


def distance(actual, expected):
    return float((actual - expected).norm() / expected.norm())


def test_fifty_float32_steps_equal_those_of_a_cpu(source, capsys):
    """Losses to 1e-4 nats a token in the first 10 steps, to 1e-2 in 50; TF32 is off."""
    gpu, _, engine = run_steps(source, 50, precision="fp32", packing="off")
    cpu, _, other = run_steps(source, 50, "cpu", precision="fp32", packing="off")
    weights = distance(
        torch.cat([parameter.detach().cpu().flatten() for parameter in engine.model.parameters()]),
        torch.cat([parameter.detach().flatten() for parameter in other.model.parameters()]),
    )
    with capsys.disabled():
        print(f"\nfp32 GPU - CPU: {np.abs(gpu - cpu)[:10].max():.2e} nats in 10 steps, "
              f"{np.abs(gpu - cpu).max():.2e} in 50, weights {weights:.2e}")  # fmt: skip
    assert np.abs(gpu - cpu)[:10].max() < 1e-4
    assert np.abs(gpu - cpu).max() < 1e-2


def test_bfloat16_training_converges_like_float32(source, capsys):
    """The mean loss of the last 20 of 60 steps agrees within 1 %."""
    half, _, _ = run_steps(source, 60, precision="bf16")
    full, _, _ = run_steps(source, 60, precision="fp32")
    ratio = half[-20:].mean(axis=0) / full[-20:].mean(axis=0)
    with capsys.disabled():
        print(f"\nbf16 / fp32 of the last 20 of 60 steps by part: {ratio}; losses {full[-1]}")
    assert np.abs(ratio - 1).max() < 0.01


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_graphs_compute_the_same_as_separate_kernels(source, precision, dropout, capsys):
    """The same dropout and losses over 40 steps of five shapes, of which each is recorded and replayed."""
    replayed, gradients, engine = run_steps(
        source, 40, precision=precision, dropout=dropout, cuda_graphs="on", packing="off"
    )
    plain, expected, other = run_steps(
        source, 40, precision=precision, dropout=dropout, cuda_graphs="off", packing="off"
    )
    with capsys.disabled():
        print(f"\ngraphs - kernels ({precision}, dropout {dropout}): {np.abs(replayed - plain).max():.2e} nats; "
              f"gradients {distance(gradients, expected):.2e}")  # fmt: skip
    assert engine.graphs is not None
    assert other.graphs is None
    assert engine.graphs._recorded
    assert np.abs(replayed - plain).max() < (1e-3 if precision == "fp32" else 3e-2)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 1e-2)])
@pytest.mark.parametrize("micro_batch", [BATCH, BATCH // 2])
def test_gradients_equal_those_of_autograd_with_autocast(source, precision, tolerance, micro_batch, capsys):
    """They agree for one micro-batch and for two; losses agree to 1e-6 nats a token."""
    options = {"precision": precision, "micro_batch": micro_batch, "cuda_graphs": "off", "packing": "off"}
    direct, gradients, _ = run_steps(source, 1, **options)
    plain, expected, _ = run_steps(source, 1, direct=False, **options)
    with capsys.disabled():
        print(f"\ndirect - autograd ({precision}, micro-batches of {micro_batch}): {np.abs(direct - plain).max():.2e} "
              f"nats, gradients {distance(gradients, expected):.2e}")  # fmt: skip
    assert np.abs(direct - plain).max() < 1e-6
    assert distance(gradients, expected) < tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gpu_cross_entropy_equals_that_of_the_cpu(dtype):
    """The logits have the size of GPT-2's vocabulary, and some of them are far apart."""
    logits_CV = 20 * torch.randn(100, 50_264, generator=torch.Generator().manual_seed(0))
    labels_C1 = torch.arange(100)[:, None] * 500
    expected = cross_entropy_gradient(logits_CV.clone(), labels_C1, dtype)
    gradient = cross_entropy_gradient_on_gpu(logits_CV.cuda(), labels_C1.cuda(), dtype)
    torch.testing.assert_close(gradient[0].cpu(), expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient[1].cpu(), expected[1], rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("clip_norm", [1e-2, 1e3])
def test_the_fused_update_equals_clipping_before_the_update(source, clip_norm, capsys):
    """Weights of one step, of gradients above and below the limit; and the norm is the one before."""
    weights, norms = [], []
    for clips_first in (True, False):
        _, gradients, engine = run_steps(source, 1, optimise=False, precision="fp32", cuda_graphs="off", packing="off")
        parameters = list(engine.model.parameters())
        before = torch.cat([parameter.detach().flatten() for parameter in parameters])
        for parameter, gradient in zip(
            parameters, gradients.cuda().split([p.numel() for p in parameters]), strict=True
        ):
            parameter.grad = gradient.view_as(parameter)
        optimizer = make_optimizer(engine.model, TrainingConfig())
        if clips_first:
            norms.append(torch.nn.utils.clip_grad_norm_(parameters, clip_norm))
            optimizer.step()
        else:
            norms.append(clipped_step(optimizer, parameters, clip_norm))
        weights.append(torch.cat([parameter.detach().flatten() for parameter in parameters]) - before)
    with capsys.disabled():
        apart = distance(weights[1], weights[0])
        print(f"\nclipped in the update - before it, to {clip_norm}: {apart:.2e} of the change; "
              f"norm {norms[0]:.6f}, {norms[1]:.6f}")  # fmt: skip
    assert norms[1].item() == pytest.approx(norms[0].item(), rel=1e-5)
    assert distance(weights[1], weights[0]) < 1e-3


@pytest.mark.filterwarnings("default::DeprecationWarning")  # torch's compiler calls its own deprecated functions
def test_compiled_steps_converge_like_eager_ones(source, capsys):
    """Graphs and working copies are used, over 20 steps of five shapes."""
    options = {"precision": "bf16", "packing": "off", "cuda_graphs": "on"}
    compiled, _, engine = run_steps(source, 20, compile=True, **options)
    plain, _, _ = run_steps(source, 20, **options)
    with capsys.disabled():
        print(f"\ncompiled - plain (bf16): {np.abs(compiled - plain).max():.2e} nats")
    assert engine.graphs._recorded
    assert np.abs(compiled - plain).max() < 3e-2


def test_packed_rows_have_the_same_losses_and_gradients(source, capsys):
    """Losses to 1e-5 nats a token and gradients to 1e-5 of their norm."""
    packed, gradients, _ = run_steps(source, 1, precision="fp32", packing="on", cuda_graphs="off")
    plain, expected, _ = run_steps(source, 1, precision="fp32", packing="off", cuda_graphs="off")
    with capsys.disabled():
        print(
            f"\npacked - plain: {np.abs(packed - plain).max():.2e} nats, gradients {distance(gradients, expected):.2e}"
        )
    assert np.abs(packed - plain).max() < 1e-5
    assert distance(gradients, expected) < 1e-5


@pytest.mark.parametrize("graphs", ["off", "on"])
def test_out_of_memory_halves_the_micro_batch_and_repeats_the_step(source, graphs, capsys):
    """Gradients to 1e-4 of their norm; the micro-batch is what the engine says."""
    _, expected, _ = run_steps(
        source, 1, batch=256, precision="fp32", packing="off", cuda_graphs=graphs, micro_batch=256
    )
    peak = torch.cuda.max_memory_allocated()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.set_per_process_memory_fraction(0.7 * peak / total)
    try:
        losses, gradients, engine = run_steps(
            source, 4, batch=256, precision="fp32", packing="off", cuda_graphs=graphs, micro_batch=256, optimise=False
        )
        _, gradients, engine = run_steps(
            source, 1, batch=256, precision="fp32", packing="off", cuda_graphs=graphs, micro_batch=256, optimise=False
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    with capsys.disabled():
        print(f"\nmicro-batch 256 -> {engine.micro_batch} at 0.7 of {peak / 2**20:.0f} MiB; "
              f"gradients {distance(gradients, expected):.2e}")  # fmt: skip
    assert engine.micro_batch < 256
    assert distance(gradients, expected) < 1e-4
    assert np.isfinite(losses).all()


def test_a_resumed_training_has_the_same_losses(make_job, capsys):
    """Within 1e-3 nats a token of an uninterrupted one at every evaluation."""

    def losses(folder, **options):
        job = make_job(steps=24, evaluate_every=4, checkpoint_every=3)

        job = dataclasses.replace(job, folder=job.folder.parent / folder)
        losses_seen = []
        train(job, device="cuda", on_evaluation=lambda e: losses_seen.append((e.step, e.losses)), **options)
        return job, dict(losses_seen)

    _, whole = losses("whole")
    asked = iter([None] * 9 + ["a test's wish"])
    job, first = losses("stopped", should_stop=lambda: next(asked))
    assert not TrialFolder(job.folder).result.exists()
    _, second = losses("stopped")
    both = first | second
    assert both.keys() == whole.keys()
    worst = max(abs(both[step][part] - whole[step][part]) for step in whole for part in whole[step])
    with capsys.disabled():
        print(f"\nresumed - whole: {worst:.2e} nats")
    assert worst < 1e-3
