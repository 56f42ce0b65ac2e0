"""The benchmark times other ways to train on the same examples, and makes sure that their work is the same."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from raysweep.config.training_settings import SCRATCH, ModelConfig, TrainingConfig
from raysweep.errors import ConfigError
from raysweep.masking.vocabulary import gpt2
from raysweep.model.gpt2 import build_model
from raysweep.training import baseline_trainers, hf_trainer
from raysweep.training.baseline_trainers import find_baselines
from raysweep.training.benchmark import benchmark_training
from raysweep.training.hardware import DeviceStopwatch
from raysweep.training.hf_trainer import WAYS, time_trainer
from raysweep.training.original_loss import as_transformers
from raysweep.training.synthetic import synthetic_examples

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def time_way(name, dtype=torch.float32):
    """The loss and the seconds of two steps of two examples, after one to warm up."""
    watch = DeviceStopwatch(CPU)
    model = build_model(SCRATCH, model=ModelConfig(size="micro"), vocabulary=gpt2(), max_tokens=64, seed=0)
    loss = time_trainer(
        WAYS[name],
        as_transformers(model),
        synthetic_examples(6, max_tokens=64),
        TrainingConfig(batch_size=2),
        warmup=np.arange(2),
        timed=np.arange(2, 6),
        watch=watch,
        dtype=dtype,
    )
    return loss, watch.seconds


def liger(scale=1.0):
    """A stand-in for liger_kernel, whose kernels need a GPU: the same function of the same arguments."""

    class LigerFusedLinearCrossEntropyLoss(torch.nn.Module):
        def __init__(self, ignore_index):
            super().__init__()
            self.ignore_index = ignore_index

        def forward(self, weight_VD, states_ND, labels_N):
            return scale * cross_entropy(states_ND @ weight_VD.T, labels_N, ignore_index=self.ignore_index)

    module = ModuleType("liger_kernel.transformers")
    module.LigerFusedLinearCrossEntropyLoss = LigerFusedLinearCrossEntropyLoss
    return {"liger_kernel": ModuleType("liger_kernel"), "liger_kernel.transformers": module}


def test_the_transformers_trainer_is_timed_beside_our_steps():
    """At its best in our precision, and as it comes in float32; the JSON has the ratio of each."""
    result = benchmark_training(
        device="cpu", batch_size=2, steps=2, warmup_steps=1, precision="bf16", like="hf-trainer, hf-default"
    )
    for name, precision in (("hf-trainer", "bfloat16"), ("hf-default", "float32")):
        assert result[name]["precision"] == precision
        assert result[name]["first_batch_loss"] == pytest.approx(np.log(50_264), rel=0.02), "untrained: any token"
        ratio = result["examples_per_s"] / result[name]["examples_per_s"]
        assert result[f"ratio_to_{name.replace('-', '_')}"] == pytest.approx(ratio)
        assert result[f"cpu_ratio_to_{name.replace('-', '_')}"] > 0
        assert result[name]["tokens_per_s"] * ratio == pytest.approx(result["tokens_per_s"]), "of the same examples"


def test_the_trainer_with_ligers_loss_has_the_same_loss(monkeypatch):
    """Liger has no patch for GPT-2, so its loss is put in place by hand."""
    for name, module in liger().items():
        monkeypatch.setitem(sys.modules, name, module)
    (fused, seconds), (plain, _) = time_way("hf-liger"), time_way("hf-trainer")
    assert fused == pytest.approx(plain, rel=1e-5)
    assert seconds > 0


def test_a_trainer_with_another_loss_is_not_compared(monkeypatch):
    """A loss that is not ours on the first batch ends the measurement."""
    for name, module in liger(scale=1.01).items():
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(AssertionError, match="the Trainer's loss is"):
        time_way("hf-liger")


def test_the_trainers_defaults_disable_tf32_and_restore_the_setting():
    """A comparison in TF32 would flatter the defaults, which have none."""
    torch.set_float32_matmul_precision("high")
    try:
        with hf_trainer._float32_products(WAYS["hf-default"]):
            assert torch.get_float32_matmul_precision() == "highest"
        with hf_trainer._float32_products(WAYS["hf-trainer"]):
            assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_rows_are_padded_to_the_longest_of_their_batch():
    """Padding has no label, and with a mask none is attended to."""
    rows = [(torch.arange(1, 4), torch.tensor([-100, 2, 3])), (torch.tensor([9]), torch.tensor([-100]))]
    batch = hf_trainer._Collator(multiple=4, has_mask=True)(rows)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 0], [9, 0, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 2, 3, -100], [-100] * 4]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]


def test_batches_grouped_by_length_contain_every_example_once():
    """Batches are formed like those of `group_by_length`: sorted within windows of 50 batches."""
    lengths = np.random.default_rng(0).integers(1, 200, size=40).tolist()
    order = hf_trainer._order(lengths, 4, is_grouped=True)
    assert sorted(order) == list(range(40))
    assert [lengths[place] for place in order] == sorted(lengths, reverse=True)
    assert sorted(hf_trainer._order(lengths, 4, is_grouped=False)) == list(range(40))
    assert hf_trainer._order([], 4, is_grouped=True) == []


@pytest.mark.parametrize(
    ("names", "device", "absent", "gpus", "message"),
    [
        ("original,keras", CPU, "", 0, "found 'keras'; must be one of original, hf-trainer"),
        ("hf-trainer", CPU, "accelerate", 0, "pip install accelerate"),
        ("hf-trainer", GPU, "", 2, "set CUDA_VISIBLE_DEVICES to one"),
        ("hf-liger", CPU, "", 0, "Liger's kernels need a GPU"),
        ("hf-liger", GPU, "liger_kernel", 1, "pip install liger-kernel"),
    ],
)
def test_a_trainer_that_cannot_be_timed_is_refused_at_once(monkeypatch, names, device, absent, gpus, message):
    """With what it lacks, before anything is measured."""
    monkeypatch.setattr(baseline_trainers, "find_spec", lambda name: None if name == absent else object())
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    with pytest.raises(ConfigError, match=message):
        find_baselines(names, device)


def test_trainer_names_are_separated_by_commas(monkeypatch):
    """By default no trainer is named."""
    monkeypatch.setattr(baseline_trainers, "find_spec", lambda name: object())
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert find_baselines("original, hf-liger", GPU) == ["original", "hf-liger"]
    assert find_baselines("", CPU) == []
