"""Trainings on a CPU in another precision than float32 by MKL: its losses, and the same bits after a stop."""

import dataclasses

import pytest
import torch

from raysweep.errors import TrainingError
from raysweep.model import cpu_products
from raysweep.model.checkpoints import Checkpoints
from raysweep.model.cpu_products import has_onednn
from raysweep.storage.run_folder import TrialFolder
from raysweep.training import hardware
from raysweep.training.attempt import prepare
from raysweep.training.distributed import DistributedGroup
from raysweep.training.loop import train
from raysweep.training.metrics import read_metrics


def test_a_bf16_training_has_nearly_the_losses_of_a_float32_one(make_job, tmp_path):
    """Within 1 % after 12 steps: bfloat16 keeps two to three digits of a product, and weights and sums stay float32."""
    losses = {
        precision: train(make_job(precision=precision, fields={"folder": tmp_path / precision}), device="cpu")
        for precision in ("fp32", "bf16", "auto")
    }
    assert {name: result.precision for name, result in losses.items()} == {
        "fp32": "fp32",
        "bf16": "bf16",
        "auto": "fp32",
    }
    assert losses["bf16"].best_losses == pytest.approx(losses["fp32"].best_losses, rel=1e-2)
    assert losses["bf16"].best_losses != losses["fp32"].best_losses
    assert losses["auto"].best_losses == losses["fp32"].best_losses


@pytest.fixture
def onednn(monkeypatch):
    """Products of every size by oneDNN: those of a layer of the small model are below the least size."""
    if not has_onednn():
        pytest.skip("no AVX-512, or no oneDNN in torch")
    monkeypatch.setattr(cpu_products, "_LEAST_MULTIPLICATIONS", 1)


@pytest.mark.parametrize("steps", [6, pytest.param(50, marks=pytest.mark.slow)])
def test_a_onednn_training_has_the_losses_of_an_mkl_one(make_job, tmp_path, onednn, steps):
    """Every loss of its steps and evaluations within 1e-5; sums are added in another order, so the bits differ."""
    losses, lines = {}, {}
    for precision in ("fp32", "fp32_onednn"):
        job = make_job(precision=precision, steps=steps, fields={"folder": tmp_path / precision})
        losses[precision] = train(job, device="cpu")
        metrics = read_metrics(TrialFolder(job.folder).metrics)
        lines[precision] = [value for line in metrics for name, value in line.items() if "loss" in name]
    assert len(lines["fp32"]) > steps // 2
    ours, theirs = losses["fp32_onednn"], losses["fp32"]
    assert ours.precision == "fp32_onednn"
    assert lines["fp32_onednn"] == pytest.approx(lines["fp32"], rel=1e-5)
    assert ours.best_losses == pytest.approx(theirs.best_losses, rel=1e-5)
    assert ours.best_losses != theirs.best_losses
    assert "matrix products in float32 (by oneDNN)" in (tmp_path / "fp32_onednn" / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (
            "cpu",
            r"A1: training.precision: found fp32_onednn, .* a CPU for which torch \S+ has no .*; set auto or fp32$",
        ),
        (
            "meta",
            r"A1: training.precision: found fp32_onednn, .* trained on meta; set auto or fp32, or resources.gpus",
        ),
    ],
)
def test_a_device_without_onednn_is_refused_before_the_first_step(make_job, monkeypatch, device, expected):
    """MKL in its place would be another precision than the one recorded; every worker of the training stops."""
    monkeypatch.setattr(hardware, "has_onednn", lambda: False)
    job, group = make_job(precision="fp32_onednn"), DistributedGroup(device=torch.device(device))
    with pytest.raises(TrainingError, match=expected):
        prepare(job, group, Checkpoints(TrialFolder(job.folder).checkpoints, job.fingerprint, "A1", keep=2))


@pytest.mark.parametrize("precision", ["bf16", "fp32_onednn"])
def test_a_stopped_training_in_any_precision_resumes_bitwise(make_job, tmp_path, precision, request):
    """Checkpoints hold the float32 weights and the optimiser's state, from which the next step follows."""
    if precision == "fp32_onednn":
        request.getfixturevalue("onednn")
    whole, job = (
        make_job(precision=precision, steps=6, fields={"folder": tmp_path / name}) for name in ("whole", "cut")
    )
    train(whole, device="cpu")
    asked = iter(["", "", "asked"])
    assert train(job, device="cpu", should_stop=lambda: next(asked, "")).stopped == "asked"
    folders = [TrialFolder(training.folder) for training in (whole, job)]
    assert Checkpoints(folders[1].checkpoints, job.fingerprint, "A1", keep=2).newest().step == 3
    train(dataclasses.replace(job), device="cpu")
    first, second = ((folder.model / "model.safetensors").read_bytes() for folder in folders)
    assert first == second


def test_a_training_does_not_resume_in_another_precision(make_job):
    """'auto' was float32 on the device where it began; the checkpoint stays, and goes on in float32."""
    job, asked = make_job(precision="auto", steps=6), iter(["", "", "asked"])
    train(job, device="cpu", should_stop=lambda: next(asked, ""))
    on_gpu, pinned = (
        dataclasses.replace(job, settings=job.settings.model_copy(update={"precision": precision}))
        for precision in ("bf16", "fp32")
    )
    with pytest.raises(TrainingError, match=r"A1: training.precision: bf16 .*step 3 was trained in fp32.*--force A1"):
        train(on_gpu, device="cpu")
    result = train(pinned, device="cpu")
    assert (result.steps, result.precision) == (6, "fp32")
