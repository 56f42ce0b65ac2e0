"""How large micro-batches are, found by a try of the longest examples before the first step."""

import logging

import numpy as np
import pytest
import torch

from raysweep.config.training_settings import TrainingConfig
from raysweep.errors import MemoryShortageError
from raysweep.training import hardware, micro_batch
from raysweep.training import step as step_module
from raysweep.training.attempt import make_engine
from raysweep.training.distributed import DistributedGroup
from raysweep.training.loss import Objective
from raysweep.training.micro_batch import fit_micro_batch, fit_to_memory

BOTH = Objective(context=True, infill=True)
CPU = torch.device("cpu")


@pytest.fixture
def engine(store, build_small_model):
    return make_engine(
        "A1", build_small_model(), store, TrainingConfig(batch_size=16), DistributedGroup(device=CPU), 64
    )


@pytest.fixture
def memory_of(monkeypatch):
    """A device on which an example takes a share of the memory: passes beyond it fail, and the rest is measured."""
    real, tried = step_module.token_losses, []

    def limit(share_per_example):
        def token_losses(model, batch, *rest):
            tried.append(len(batch.ids_BT))
            if len(batch.ids_BT) * share_per_example > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(model, batch, *rest)

        monkeypatch.setattr(step_module, "token_losses", token_losses)
        return lambda device: tried[-1] * share_per_example

    limit.tried = tried
    return limit


@pytest.mark.parametrize(
    ("examples", "share_per_example", "expected", "tried"),
    [
        (16, 0.01, 16, [16]),
        (16, 0.06, 8, [16, 8, 8]),  # 16 would take 96 %: they fit, but leave too little
        (16, 0.10, 8, [16, 8, 8]),
        (16, 0.20, 4, [16, 8, 4, 4]),
        (24, 0.11, 6, [24, 12, 6, 6]),
        (5, 0.40, 2, [5, 3, 2, 2]),
        (16, 0.95, 1, [16, 8, 4, 2, 1, 1]),  # one example that fits is used, however tightly
    ],
)
def test_the_largest_micro_batch_that_leaves_a_margin_is_chosen(
    engine, memory_of, caplog, examples, share_per_example, expected, tried
):
    """The whole step first, then its half twice, as in a step of two, its quarter; no gradient is left behind."""
    caplog.set_level(logging.INFO)
    fit_micro_batch(engine, np.arange(examples), BOTH, measure=memory_of(share_per_example))
    assert (engine.micro_batch, memory_of.tried) == (expected, tried)
    assert caplog.messages == [
        f"A1: micro-batches of {expected}: a step has {examples} examples a worker, "
        f"and {expected} of the longest take {100 * expected * share_per_example:.0f} % of cpu"
    ]
    assert all(parameter.grad is None for parameter in engine.model.parameters())


def test_a_single_example_that_does_not_fit_is_reported_before_the_first_step(engine, memory_of):
    """The message suggests remedies."""
    with pytest.raises(MemoryShortageError, match=r"A1: before step 1: a single example does not fit .* use a smaller"):
        fit_micro_batch(engine, np.arange(4), BOTH, measure=memory_of(1.5))


class Gpu:
    """A device's name without the device."""

    type = "cuda"


@pytest.mark.parametrize(
    ("device", "setting", "accumulation", "world_size", "tries"),
    [(CPU, "auto", 1, 1, None), (Gpu(), 4, 1, 1, None), (Gpu(), "auto", 3, 1, 48), (Gpu(), "auto", 3, 2, 24)],
)
def test_the_micro_batch_size_is_tuned_only_on_gpus_without_a_setting(
    monkeypatch, store, build_small_model, device, setting, accumulation, world_size, tries
):
    """The trial uses a worker's share of all batches of a step, and the longest examples of the training."""
    settings = TrainingConfig(batch_size=16, micro_batch=setting, accumulation=accumulation)
    group = DistributedGroup(device=CPU, world_size=world_size)
    engine = make_engine("A1", build_small_model(), store, settings, group, 64)
    assert engine.micro_batch == (16 if setting == "auto" else setting)
    engine.group = DistributedGroup(device=device, world_size=world_size)
    seen = []
    monkeypatch.setattr(micro_batch, "fit_micro_batch", lambda engine, longest, objective: seen.append(longest))
    monkeypatch.setattr(DistributedGroup, "all_reduce_min", lambda self, number: number)
    examples = np.arange(60)
    lengths = store.lengths(examples)
    fit_to_memory(engine, settings, examples, lengths, BOTH)
    assert [len(longest) for longest in seen] == ([] if tries is None else [tries])
    for longest in seen:
        assert sorted(lengths[longest]) == sorted(lengths)[-tries:]


def test_available_memory_excludes_other_processes(monkeypatch):
    """Of 80 GB another process has 40; we can have the 4 GB that we use and the 36 that are free; our peak was 20."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (36, 80))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 4)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 20)
    assert hardware.memory_share(torch.device("cuda")) == 0.5
