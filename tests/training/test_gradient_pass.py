"""The passes of a GPU, on a CPU: gradients of autograd and autocast; test_on_gpu.py has a GPU."""

import numpy as np
import pytest
import torch

from raysweep.config.training_settings import TrainingConfig
from raysweep.model.sequence_packing import Packing
from raysweep.model.token_losses import Kernels
from raysweep.training.attempt import make_engine
from raysweep.training.distributed import DistributedGroup
from raysweep.training.gradient_pass import GradientPass
from raysweep.training.loss import Objective
from raysweep.training.optimizer import divisor_of, make_optimizer
from raysweep.training.step import step_gradients

BOTH = Objective(context=True, infill=True)
CPU = torch.device("cpu")


@pytest.fixture
def engine_for(store, build_small_model):
    def make(precision="fp32", *, direct=True, is_tied=True, kernels=None):
        model = build_small_model()
        if not is_tied:
            model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
        settings = TrainingConfig(batch_size=8, micro_batch=4, precision=precision)
        engine = make_engine("A1", model, store, settings, DistributedGroup(device=CPU), 64)
        if direct:
            engine.gradient_pass = GradientPass(model, kernels or Kernels(), CPU, engine.autocast)
        return engine

    return make


def run_step(engine, examples=8):
    numbers = np.arange(examples)
    sums = step_gradients(engine, numbers, engine.assemble(numbers, BOTH), BOTH, seed=0, step=1)
    return sums.nats / sums.labels, {name: p.grad for name, p in engine.model.named_parameters()}


@pytest.mark.parametrize("examples", [4, 8], ids=["one micro-batch", "two"])
@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("packing", [None, Packing(widest=64)])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("bf16", 1e-2)])
def test_gradients_equal_those_of_autograd(engine_for, precision, tolerance, packing, is_tied, examples):
    """In bfloat16 to rounding, since two micro-batches are added in another order; losses are equal to the bit."""
    direct, plain = engine_for(precision, is_tied=is_tied), engine_for(precision, is_tied=is_tied, direct=False)
    direct.packing = plain.packing = packing
    (losses, gradients), (expected_losses, expected) = run_step(direct, examples), run_step(plain, examples)
    assert torch.equal(losses, expected_losses)
    assert len(gradients) == len(expected) == 16 + (not is_tied)
    for name, gradient in expected.items():
        assert gradients[name].dtype == torch.float32
        assert (gradients[name] - gradient).norm() <= tolerance * gradient.norm(), name


def test_the_model_keeps_float32_master_weights(engine_for):
    """The copies serve inside the pass alone, and follow the weights when these change."""
    engine = engine_for("bf16")
    before = list(engine.model.named_parameters())
    first, _ = run_step(engine)
    assert [(name, id(p)) for name, p in engine.model.named_parameters()] == [(name, id(p)) for name, p in before]
    assert {p.dtype for _, p in before} == {torch.float32}
    with torch.no_grad():
        for _, parameter in before:
            parameter.mul_(1.5)
    engine.model.zero_grad()
    changed, _ = run_step(engine)
    plain = engine_for("bf16", direct=False)
    plain.model.load_state_dict(engine.model.state_dict())
    assert torch.equal(changed, run_step(plain)[0])
    assert not torch.equal(changed, first)


def test_gradients_are_written_in_place(engine_for):
    """CUDA graphs need the same memory: gradients there are overwritten, or added to."""
    engine = engine_for("bf16")
    rows = engine.assemble(np.arange(4), BOTH)[0].to(CPU)
    weights = torch.tensor([0.5, 0.2, 0.1, 0.0])
    engine.gradient_pass(rows, weights)
    places = [p.grad.data_ptr() for p in engine.model.parameters()]
    expected = [p.grad.clone() for p in engine.model.parameters()]
    for parameter in engine.model.parameters():
        parameter.grad.fill_(torch.nan)
    engine.gradient_pass(rows, weights, replace=True)
    assert [p.grad.data_ptr() for p in engine.model.parameters()] == places
    for parameter, gradient in zip(engine.model.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, gradient)
    engine.gradient_pass(rows, weights)
    assert [p.grad.data_ptr() for p in engine.model.parameters()] == places
    for parameter, gradient in zip(engine.model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient)


def test_an_out_of_memory_error_leaves_no_partial_gradients(engine_for):
    """At the end of the backward pass, when linear layers have their gradients; the step is done again in halves."""
    engine, plain = engine_for("bf16"), engine_for("bf16")
    failures = iter([True])

    def fail_once(_gradient):
        if next(failures, False):
            raise torch.OutOfMemoryError("a test's")

    engine.model.transformer.wpe.weight.register_hook(fail_once)
    _, gradients = run_step(engine, examples=4)
    assert engine.micro_batch == 2
    plain.micro_batch = 2
    _, expected = run_step(plain, examples=4)
    assert all(torch.equal(gradients[name], gradient) for name, gradient in expected.items())


def test_a_batch_without_labels_has_zero_gradients(engine_for):
    """This holds even if a recording left other gradients there."""
    engine = engine_for()
    rows = engine.assemble(np.arange(4), BOTH)[0].to(CPU)
    run_step(engine)
    nothing = torch.zeros(0, dtype=torch.int64)
    rows = type(rows)(ids_BT=rows.ids_BT, positions_N=nothing, labels_N=nothing, classes_N=nothing)
    engine.gradient_pass(rows, torch.ones(4), replace=True)
    assert all(not p.grad.any() for p in engine.model.parameters())


def test_weights_are_arguments_of_compiled_code(engine_for, compiled_kernels):
    """One compilation serves all steps: the copies come in as arguments, so a changed weight changes the result."""
    kernels, graphs = compiled_kernels
    compiled, plain = engine_for("bf16", kernels=kernels), engine_for("bf16")
    for _ in range(3):
        (gradients, _), (expected, _) = run_step(compiled), run_step(plain)
        torch.testing.assert_close(gradients, expected, rtol=1e-3, atol=0)
        with torch.no_grad():
            for engine in (compiled, plain):
                for parameter in engine.model.parameters():
                    parameter.mul_(1.5)
                engine.model.zero_grad()
    assert len(graphs) == 2  # the forward pass and the cross entropy


@pytest.mark.parametrize("clip_norm", [1e-3, 1e9])
def test_the_fused_optimizer_step_clips_like_clip_grad_norm(engine_for, clip_norm):
    """The fused AdamW's own division, for norms above and below the limit."""
    clipped, divided = engine_for(), engine_for()
    for engine in (clipped, divided):
        run_step(engine)
        parameters, optimizer = list(engine.model.parameters()), make_optimizer(engine.model, TrainingConfig())
        if engine is clipped:
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        else:
            optimizer.grad_scale = divisor_of(torch.nn.utils.get_total_norm([p.grad for p in parameters]), clip_norm)
        optimizer.step()
    for first, second in zip(clipped.model.parameters(), divided.model.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-7)
