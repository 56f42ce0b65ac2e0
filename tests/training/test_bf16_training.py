"""Trainings in bfloat16 on a CPU: the losses of float32 ones, and the same bits after a stop."""

import dataclasses

import pytest

from raysweep.errors import TrainingError
from raysweep.model.checkpoints import Checkpoints
from raysweep.storage.run_folder import TrialFolder
from raysweep.training.loop import train


def test_a_bf16_training_ends_with_the_losses_of_a_float32_one(make_job, tmp_path):
    """Within 1 % after 12 steps: bfloat16 keeps two to three digits of a product, and weights and sums stay float32."""
    found = {
        precision: train(make_job(precision=precision, fields={"folder": tmp_path / precision}), device="cpu")
        for precision in ("fp32", "bf16", "auto")
    }
    assert {name: result.precision for name, result in found.items()} == {
        "fp32": "fp32",
        "bf16": "bf16",
        "auto": "fp32",
    }
    assert found["bf16"].best_losses == pytest.approx(found["fp32"].best_losses, rel=1e-2)
    assert found["bf16"].best_losses != found["fp32"].best_losses
    assert found["auto"].best_losses == found["fp32"].best_losses


def test_a_bf16_training_that_was_stopped_ends_with_the_same_bits(make_job, tmp_path):
    """Checkpoints hold the float32 weights and the optimiser's state, from which the next step follows."""
    whole, job = (make_job(precision="bf16", steps=6, fields={"folder": tmp_path / name}) for name in ("whole", "cut"))
    train(whole, device="cpu")
    asked = iter(["", "", "asked"])
    assert train(job, device="cpu", should_stop=lambda: next(asked, "")).stopped == "asked"
    folders = [TrialFolder(each.folder) for each in (whole, job)]
    assert Checkpoints(folders[1].checkpoints, job.fingerprint, "A1", keep=2).newest().step == 3
    train(dataclasses.replace(job), device="cpu")
    one, two = ((folder.model / "model.safetensors").read_bytes() for folder in folders)
    assert one == two


def test_a_training_does_not_go_on_in_another_precision(make_job):
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
