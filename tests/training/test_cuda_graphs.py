"""Steps that replay recordings, with a stand-in for CUDA that repeats the recorded work; test_on_gpu.py has a GPU."""

import logging

import numpy as np
import pytest
import torch

from raysweep.config.training_settings import TrainingConfig
from raysweep.training.attempt import make_engine
from raysweep.training.cuda_graphs import GraphedPass
from raysweep.training.distributed import DistributedGroup
from raysweep.training.gradient_pass import GradientPass
from raysweep.training.loss import Objective
from raysweep.training.optimizer import make_optimizer
from raysweep.training.step import step_gradients

BOTH = Objective(context=True, infill=True)
CPU = torch.device("cpu")


class Repeated(GraphedPass):
    """A GPU's part: the recorded work on the same tensors; after `sound` replays, `error` is added to all it writes."""

    def __init__(self, *args, error=0.0, sound=0, **kwargs):
        super().__init__(*args, **kwargs)
        self.replays, self.error, self.sound = 0, error, sound

    def _capture(self, work):
        # A GPU only records the work, so what it writes stays as it was.
        before = [gradient.clone() for gradient in self._gradients]
        result = work()
        torch._foreach_copy_(self._gradients, before)

        def replay():
            self.replays += 1
            error = self.error if self.replays > self.sound else 0.0
            result.copy_(work() + error)
            for gradient in self._gradients:
                gradient += error

        return replay, result


def two_shapes(step):
    return np.arange(8) + 40 * (step % 2)


def third_shape_later(step):
    """Two micro-batches of one shape each, and from step 4 on another one after them."""
    return np.arange(8 if step < 4 else 9)


@pytest.fixture
def train_steps(store, build_small_model):
    """Trains on two shapes in turn, two micro-batches a step; returns losses, weights and what replayed."""

    def run(steps, *, graphs=True, dropout=0.1, largest=None, examples_of=two_shapes, **options):
        model = build_small_model(dropout)
        settings = TrainingConfig(batch_size=8, micro_batch=4, learning_rate=1e-2)
        engine = make_engine("A1", model, store, settings, DistributedGroup(device=CPU), 64)
        if graphs:
            engine.gradient_pass = GradientPass(model, engine.kernels, CPU, engine.autocast)
            engine.graphs = Repeated(engine.gradient_pass, model, CPU, largest, **options)
        optimizer = make_optimizer(model, settings)
        losses = []
        for step in range(1, steps + 1):
            examples = examples_of(step)
            sums = step_gradients(engine, examples, engine.assemble(examples, BOTH), BOTH, seed=0, step=step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append((sums.nats / sums.labels).tolist())
        return losses, torch.cat([p.detach().flatten() for p in model.parameters()]), engine.graphs

    return run


def test_graph_replay_trains_like_eager_execution(train_steps):
    """With dropout, and gradients of two micro-batches, to 1e-5; only shapes that came twice are replayed."""
    expected, weights, _ = train_steps(12, graphs=False)
    losses, trained, graphs = train_steps(12)
    assert np.abs(np.array(losses) - expected).max() < 1e-5
    assert (trained - weights).norm() < 1e-4 * weights.norm()
    assert graphs.replays > 12


def test_gradients_of_an_earlier_pass_are_accumulated(train_steps):
    """A step of one shape that is replayed and one that is too large for it."""
    expected, weights, _ = train_steps(10, graphs=False)
    for largest in (1, 150, 200, 250, 10_000):
        losses, trained, _ = train_steps(10, largest=largest)
        assert np.abs(np.array(losses) - expected).max() < 1e-5
        assert (trained - weights).norm() < 1e-4 * weights.norm()


@pytest.mark.parametrize(("examples_of", "replays"), [(two_shapes, 1), (two_shapes, 2), (third_shape_later, 9)])
def test_a_replay_with_different_results_is_not_used(train_steps, caplog, examples_of, replays):
    """This holds for the first replay of a step, and for a later one, whose step already holds replayed gradients."""
    expected, weights, _ = train_steps(8, graphs=False, examples_of=examples_of)
    with caplog.at_level(logging.WARNING):
        losses, trained, graphs = train_steps(8, error=1.0, sound=replays - 1, examples_of=examples_of)
    assert np.abs(np.array(losses) - expected).max() < 1e-5
    assert (trained - weights).norm() < 1e-4 * weights.norm()
    assert graphs.replays == replays
    [message] = caplog.messages
    assert message.startswith("the training goes on without CUDA graphs: a replay's losses differ by ")


def test_graphs_that_exceed_memory_are_not_captured(train_steps, monkeypatch, caplog):
    def shortage(self, work):
        work()
        raise torch.OutOfMemoryError("a test's")

    expected, weights, _ = train_steps(8, graphs=False)
    monkeypatch.setattr(Repeated, "_capture", shortage)
    with caplog.at_level(logging.WARNING):
        losses, trained, _ = train_steps(8)
    assert np.abs(np.array(losses) - expected).max() < 1e-5
    assert (trained - weights).norm() < 1e-4 * weights.norm()
    assert caplog.messages == [
        "the training goes on without CUDA graphs: their memory does not fit beside the training's (cpu)"
    ]
