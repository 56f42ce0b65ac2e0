"""The gradients of a step: the original's loss, and no dependence on how the step is cut up."""

import numpy as np
import pytest
import torch

from raysweep.config.training_settings import ModelConfig, TrainingConfig
from raysweep.errors import MemoryShortageError
from raysweep.masking.vocabulary import gpt2
from raysweep.model.gpt2 import build_model
from raysweep.training import step as step_module
from raysweep.training.distributed import DistributedGroup
from raysweep.training.loss import Objective, label_weights, objective_of
from raysweep.training.optimizer import make_optimizer
from raysweep.training.original_loss import as_original, original_loss
from raysweep.training.step import Engine, step_gradients, validation_losses

BOTH = Objective(context=True, infill=True)


@pytest.fixture
def make_engine(store, small_start):
    def make(micro_batch, dropout=0.0):
        model = build_model(
            str(small_start), model=ModelConfig(dropout=dropout), vocabulary=gpt2(), max_tokens=64, seed=0
        )
        group = DistributedGroup(device=torch.device("cpu"))
        return Engine(
            trial="A1",
            model=model,
            source=store,
            task="ilm",
            group=group,
            autocast=None,
            micro_batch=micro_batch,
        )

    return make


def run_step(engine, examples, objective=BOTH, step=1):
    return step_gradients(engine, examples, engine.assemble(examples, objective), objective, seed=0, step=step)


def gradients(engine):
    return torch.cat([parameter.grad.flatten().double() for parameter in engine.model.parameters()])


def loss_of(sums):
    return (sums.nats[:2] / sums.labels[:2]).sum().item()


def test_gradient_accumulation_gives_the_gradients_of_one_batch(make_engine):
    """Accumulation divides by the labels of the whole step; the original's mean of means differs by percents."""
    whole, parts = make_engine(32), make_engine(4)
    examples = np.arange(32)
    assert loss_of(run_step(whole, examples)) == pytest.approx(loss_of(run_step(parts, examples)), rel=1e-6)
    difference = (gradients(whole) - gradients(parts)).norm() / gradients(whole).norm()
    assert difference < 1e-6


def test_losses_of_fifty_steps_equal_those_of_the_original_code(make_engine, store):
    """From the same weights and batches, in float32 without dropout, losses agree to 1e-4 nats at every step."""
    engine, settings = make_engine(4), TrainingConfig(learning_rate=1e-2)
    original = as_original(make_engine(4).model)
    ours, theirs = (
        make_optimizer(engine.model, settings),
        torch.optim.AdamW(original.parameters(), lr=1e-2, weight_decay=0),
    )
    losses = []
    for step in range(1, 51):
        examples = np.arange(2 * step, 2 * step + 2)
        expected = original_loss(original, store.assemble(examples), torch.device("cpu"), row_tokens=64)
        expected.backward()
        losses.append((loss_of(run_step(engine, examples)), expected.item()))
        for model, optimizer in ((engine.model, ours), (original, theirs)):
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    assert losses[-1][0] < losses[0][0] - 1, "it must have learnt something"
    np.testing.assert_allclose(*np.array(losses).T, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, Objective(context=True, infill=True)),
        ({"minimal_supervision": True}, Objective(context=False, infill=True)),
        ({"task": "lm"}, Objective(context=True, infill=False)),
        ({"task": "reverse_lm"}, Objective(context=True, infill=False)),
        ({"task": "lm_all"}, Objective(context=True, infill=True)),
        ({"task": "no_context_ilm"}, Objective(context=True, infill=True)),
    ],
)
def test_each_task_has_its_objective(settings, expected):
    """Language models have no answers to learn."""
    assert objective_of(TrainingConfig(**settings)) == expected


def test_minimal_supervision_trains_only_on_answers(make_engine):
    """Context labels get no loss and no gradient of their own."""
    engine = make_engine(8)
    sums = run_step(engine, np.arange(8), Objective(context=False, infill=True))
    assert sums.nats[0] == sums.labels[0] == 0
    assert sums.labels[1] > sums.labels[2] > 0


def test_labels_are_weighted_by_their_part():
    """10 context labels, 1 end and 3 answer tokens; a part without labels weighs nothing."""
    assert label_weights(torch.tensor([10.0, 1.0, 3.0])).tolist() == pytest.approx([0.1, 0.25, 0.25, 0.0])
    assert label_weights(torch.tensor([10.0, 0.0, 0.0])).tolist() == pytest.approx([0.1, 0.0, 0.0, 0.0])


def test_dropout_depends_only_on_the_step(make_engine):
    """A resumed training draws the same masks as an uninterrupted one, whatever was drawn before."""
    engine = make_engine(8, dropout=0.5)
    first = loss_of(run_step(engine, np.arange(8), step=7))
    torch.rand(100)
    assert loss_of(run_step(engine, np.arange(8), step=7)) == first
    assert loss_of(run_step(engine, np.arange(8), step=8)) != first


def test_validation_does_not_depend_on_batches_and_restores_dropout(make_engine):
    """nats per token over all examples; the padding and the last, smaller batch count for nothing."""
    engine = make_engine(32, dropout=0.5)
    whole = validation_losses(engine, np.arange(32))
    engine.micro_batch = 5
    assert validation_losses(engine, np.arange(32)) == pytest.approx(whole, rel=1e-6)
    assert whole.keys() == {"context", "infill", "infill_textonly"}
    assert engine.model.training


@pytest.fixture
def memory_for(monkeypatch):
    """Lets the model run at most so many examples at once, as a small GPU would."""
    real = {name: getattr(step_module, name) for name in ("token_losses", "score_labels")}

    def limit(examples):
        def limited(name):
            def run(model, batch, *rest):
                if len(batch.ids_BT) > examples:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return real[name](model, batch, *rest)

            return run

        for name in real:
            monkeypatch.setattr(step_module, name, limited(name))

    return limit


def test_out_of_memory_halves_the_micro_batch_and_repeats_the_step(make_engine, memory_for, caplog):
    """The step is done again from its beginning, with the same gradients, and the log says so."""
    plain, small = make_engine(16), make_engine(16)
    run_step(plain, np.arange(16))
    memory_for(3)
    run_step(small, np.arange(16))
    assert small.micro_batch == 2
    assert "A1: step 1: out of memory; micro-batches of 8 from now on" in caplog.text
    torch.testing.assert_close(gradients(small), gradients(plain), rtol=1e-4, atol=1e-6)


def test_out_of_memory_in_validation_halves_the_micro_batch(make_engine, memory_for):
    """The losses are the same."""
    engine = make_engine(16)
    expected = validation_losses(engine, np.arange(16))
    memory_for(5)
    assert validation_losses(engine, np.arange(16)) == pytest.approx(expected, rel=1e-6)
    assert engine.micro_batch == 4


def test_a_single_example_that_does_not_fit_ends_the_training(make_engine, memory_for):
    """The message suggests remedies."""
    memory_for(0)
    with pytest.raises(
        MemoryShortageError, match=r"A1: step 1: a single example does not fit the memory of cpu; use a smaller"
    ):
        run_step(make_engine(4), np.arange(4))
