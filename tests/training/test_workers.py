"""Several workers train one model, their examples packed or not: the same steps, the same numbers."""

import logging
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from raysweep.errors import TrainingError
from raysweep.storage.run_folder import TrialFolder
from raysweep.training import attempt
from raysweep.training.attempt import compare_devices
from raysweep.training.distributed import DistributedGroup
from raysweep.training.loop import train
from raysweep.training.metrics import read_metrics
from tests.training.test_resume import run_script


def test_two_workers_train_the_same_model_as_one_worker(make_job, tmp_path):
    """Over 12 steps of 2 × 5 examples, one odd: losses to 1e-5, weights to rounding; one set of files.

    The two workers pack rows and the one does not, so this is as well a whole training with packing and without.
    After step 10 the second worker is asked to stop, as by a notice that its machine is needed: both do, and go on;
    before it their gradients are those of a GPU's pass.
    """
    settings = {"dropout": 0.0, "batch_size": 5, "accumulation": 2, "learning_rate": 1e-3}
    alone = make_job(**settings)
    together = make_job(**settings, packing="on", fields={"folder": tmp_path / "together" / "A1"})
    run_script("workers", together, tmp_path)
    expected, result = train(alone, device="cpu"), train(together, device="cpu")

    lines = [read_metrics(TrialFolder(job.folder).metrics) for job in (together, alone)]
    assert [(line["kind"], line["step"]) for line in lines[0]] == [(line["kind"], line["step"]) for line in lines[1]]
    for ours, theirs in zip(*lines, strict=True):
        del ours["kind"], theirs["kind"]
        assert ours == pytest.approx(theirs, rel=1e-5)
    models = [load_file(TrialFolder(job.folder).model / "model.safetensors") for job in (together, alone)]
    for name, weights in models[0].items():
        np.testing.assert_allclose(weights, models[1][name], atol=2e-5, err_msg=name)
    assert (result.examples, result.tokens, result.best_step) == (
        expected.examples,
        expected.tokens,
        expected.best_step,
    )
    assert result.padding_share < expected.padding_share


@dataclass(frozen=True, kw_only=True)
class TwoWorkers(DistributedGroup):
    """Two workers, of which the other one tells this."""

    answer: str

    def gather(self, text):
        return [text, self.answer]


@pytest.fixture
def compare(monkeypatch):
    """Compares an L4 with a worker that tells this."""
    monkeypatch.setattr(attempt, "device_name", lambda _: "NVIDIA L4")
    monkeypatch.setattr(attempt, "autocast_type", lambda *_: torch.bfloat16)

    def compare(answer):
        compare_devices("A1", "auto", TwoWorkers(device=torch.device("cpu"), world_size=2, answer=answer))

    return compare


def test_a_warning_is_logged_if_workers_have_different_gpus(compare, caplog):
    """The faster ones wait; the same GPU twice is nothing to tell of."""
    with caplog.at_level(logging.WARNING):
        compare("NVIDIA L4 in bf16")
        assert caplog.messages == []
        compare("NVIDIA A100 in bf16")
    assert caplog.messages == [
        "A1: its 2 workers train on NVIDIA A100 in bf16, NVIDIA L4 in bf16; each step waits for the slowest: "
        "set resources.accelerator_type to one of these GPUs"
    ]


def test_workers_that_would_use_different_precisions_are_refused(compare):
    """`auto` takes bfloat16 where the GPU has it: the sum of both kinds of gradients would be neither."""
    with pytest.raises(TrainingError, match="A1: its 2 workers train on NVIDIA L4 in bf16, Tesla T4 in fp32; all must"):
        compare("Tesla T4 in fp32")


def test_all_workers_stop_if_one_lacks_onednn(monkeypatch):
    """A node of another kind: with its products by MKL the sum of the gradients would be of two precisions."""
    monkeypatch.setattr(attempt, "refuse_onednn", lambda *_: "")
    group = TwoWorkers(device=torch.device("cpu"), world_size=2, answer="found fp32_onednn, and torch has none")
    with pytest.raises(TrainingError, match=r"A1: training.precision: found fp32_onednn, and torch has none"):
        compare_devices("A1", "fp32_onednn", group)
