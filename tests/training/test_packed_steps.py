"""Steps whose examples share rows, go through in parts, or run in compiled code: the same losses and gradients."""

import numpy as np
import pytest
import torch

from raysweep.config.training_settings import TrainingConfig
from raysweep.evaluation.scoring import CELLS, score_examples
from raysweep.model.sequence_packing import Packing
from raysweep.model.token_losses import full_precision
from raysweep.training.attempt import make_engine, packing_of
from raysweep.training.distributed import DistributedGroup
from raysweep.training.hardware import autocast_type, pad_multiple
from raysweep.training.loss import Objective
from raysweep.training.step import step_gradients, validation_losses

BOTH = Objective(context=True, infill=True)
CPU, GPU = torch.device("cpu"), torch.device("cuda")
EXAMPLES = np.random.default_rng(0).permutation(120)[:24]
"""Long and short ones together, as a step over several batches has them."""


@pytest.fixture
def engine_for(store, build_small_model):
    """Makes an engine on the CPU from a trial's settings."""

    def make(dropout=0.0, **settings):
        model = build_small_model(dropout)
        return make_engine(
            "A1", model, store, TrainingConfig(batch_size=24, **settings), DistributedGroup(device=CPU), 64
        )

    return make


def run_step(engine, examples=EXAMPLES):
    batches = engine.assemble(examples, BOTH)
    sums = step_gradients(engine, examples, batches, BOTH, seed=0, step=1)
    gradients = torch.cat([parameter.grad.flatten().double() for parameter in engine.model.parameters()])
    losses = (sums.nats / sums.labels).tolist()
    return losses, gradients, 1 - sums.tokens / sums.positions


@pytest.mark.parametrize("micro_batch", [24, 5])
def test_packed_bucketed_and_plain_steps_are_equal(engine_for, micro_batch):
    """Losses to 1e-5 nats a token, gradients to 1e-6 of their norm; and packing leaves a fraction of the padding."""
    plain, plain_gradients, padding = run_step(engine_for(packing="off"))
    bucketed = np.sort(EXAMPLES)  # of like length or not: another order, other rows
    for examples in (EXAMPLES, bucketed):
        losses, gradients, packed_padding = run_step(engine_for(packing="on", micro_batch=micro_batch), examples)
        assert losses == pytest.approx(plain, abs=1e-5)
        assert (gradients - plain_gradients).norm() < 1e-6 * plain_gradients.norm()
        assert packed_padding < padding / 2


def test_validation_losses_do_not_depend_on_packing(engine_for):
    """Losses agree to 1e-5 nats a token, in micro-batches of any size."""
    expected = validation_losses(engine_for(packing="off"), EXAMPLES)
    for micro_batch in (1, 7, 24):
        losses = validation_losses(engine_for(packing="on", micro_batch=micro_batch), EXAMPLES)
        assert losses == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("packing", ["off", "on"])
def test_validation_losses_equal_the_scores_of_the_matrix(engine_for, store, packing):
    """Training's evaluation and the matrix agree to 1e-5 nats a token on the same examples."""
    engine = engine_for(packing=packing, micro_batch=7)
    losses = validation_losses(engine, EXAMPLES)
    engine.model.eval()
    with full_precision():
        sums = score_examples(engine.model, store, np.sort(EXAMPLES), batch_tokens=300, context_examples=99)
    parts = {"context": ("context",), "infill": ("answer", "end"), "infill_textonly": ("answer",)}
    for part, names in parts.items():
        columns = [column for column, (_, name) in enumerate(CELLS) if name in names]
        assert losses[part] == pytest.approx(sums.nats[:, columns].sum() / sums.tokens[:, columns].sum(), abs=1e-5)


@pytest.mark.parametrize(
    ("setting", "device", "expected"),
    [
        ("off", CPU, None),
        ("off", GPU, None),
        ("auto", CPU, None),
        ("auto", GPU, Packing(widest=256, least_saving=0.1)),
        ("on", CPU, Packing(widest=256)),
        ("on", GPU, Packing(widest=256)),
    ],
)
def test_packing_is_used_only_on_gpus_by_default(setting, device, expected):
    """On a CPU, batches of similar length were as fast."""
    assert packing_of(setting, device, 256) == expected


@pytest.mark.parametrize(
    ("precision", "device", "capability", "expected"),
    [
        ("auto", CPU, None, None),
        ("auto", GPU, (8, 0), torch.bfloat16),
        ("auto", GPU, (9, 0), torch.bfloat16),
        ("auto", GPU, (7, 5), None),
        ("fp32", GPU, (9, 0), None),
        ("bf16", CPU, None, torch.bfloat16),
        ("bf16", GPU, (7, 5), torch.bfloat16),
    ],
)
def test_bf16_is_used_only_with_hardware_support(monkeypatch, precision, device, capability, expected):
    """Older GPUs would emulate it; if requested, it is used there too."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    assert autocast_type(precision, device) == expected


def test_bf16_steps_have_nearly_the_losses_of_fp32_steps(engine_for):
    """They agree to two digits, the precision of bfloat16; weights, softmax and sums stay float32."""
    expected, gradients, _ = run_step(engine_for(precision="fp32"))
    losses, found_gradients, _ = run_step(engine_for(precision="bf16", packing="on"))
    assert losses == pytest.approx(expected, rel=1e-2)
    assert found_gradients.dtype == gradients.dtype
    assert torch.nn.functional.cosine_similarity(found_gradients, gradients, dim=0) > 0.99


def test_row_lengths_are_multiples_of_eight_on_tensor_cores():
    """Multiples of eight suit tensor cores."""
    assert pad_multiple(CPU) == 1
    assert pad_multiple(GPU) == 8


def test_padding_never_exceeds_the_models_positions(engine_for):
    """A model of 64 positions and rows in multiples of 33: an example of 34 tokens would get 66."""
    plain, packed = engine_for(packing="off"), engine_for(packing="on")
    expected, *_ = run_step(plain)
    for engine in (plain, packed):
        engine.pad_multiple = 33
        losses, *_ = run_step(engine)
        assert losses == pytest.approx(expected, abs=1e-5)
    assert max(rows.ids_RW.shape[1] for rows in plain.assemble(EXAMPLES, BOTH)) == 64


def test_compiled_code_serves_all_lengths_with_few_graphs(engine_for, compiled_kernels):
    """Steps of many shapes, packed or not, compile it a handful of times, not once a shape; losses stay."""
    compiled, plain = engine_for(), engine_for()
    compiled.kernels, graphs = compiled_kernels
    compiled.pad_multiple = 8
    shapes = set()
    for packing in (None, Packing(widest=64)):
        compiled.packing = plain.packing = packing
        for first in range(0, 60, 5):
            examples = np.arange(first, first + 2 + first % 7)
            shapes |= {(packing is None, *rows.ids_RW.shape) for rows in compiled.assemble(examples, BOTH)}
            expected, losses = run_step(plain, examples), run_step(compiled, examples)
            assert losses[0] == pytest.approx(expected[0], abs=1e-5)
            compiled.model.zero_grad()
            plain.model.zero_grad()
    assert len(shapes) > 2 * len(graphs) > 0
    assert len(graphs) <= 6
