"""A training that was killed, again and again, ends with the bits of one that was not."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from raysweep.errors import TrainingError
from raysweep.model.checkpoints import Checkpoints
from raysweep.store import TrialFolder
from raysweep.training.job import TrainingJob
from raysweep.training.loop import train
from raysweep.training.metrics import read_metrics

SCRIPT = Path(__file__).parent / "killed_trainings.py"
ROOT = Path(__file__).parents[2]


RENAMES = ["step-00000006", "best-00000008", "step-00000012", "model", "training.json"]


def run_script(what, job, tmp_path, *arguments):
    """Run the script, which must end well."""
    path = tmp_path / "job.json"
    path.write_bytes(TypeAdapter(TrainingJob).dump_json(job))
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, SCRIPT, what, path, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": search},
    )
    assert done.returncode == 0, done.stderr


def test_a_training_killed_again_and_again_ends_with_the_same_bits(make_job, tmp_path):
    """Signal 9 between steps, and before and after what a training renames: same weights, every step once."""
    job, whole = make_job(), make_job(fields={"folder": tmp_path / "whole"})
    run_script("kill", job, tmp_path, *RENAMES)
    expected, (one, two) = train(whole, device="cpu"), (TrialFolder(at.folder) for at in (job, whole))
    assert (one.model / "model.safetensors").read_bytes() == (two.model / "model.safetensors").read_bytes()
    assert (one.model / "README.md").read_text() == (two.model / "README.md").read_text()
    assert one.metrics.read_bytes() == two.metrics.read_bytes()
    assert [line["step"] for line in read_metrics(one.metrics) if line["kind"] == "step"] == list(range(1, 13))
    result = train(job, device="cpu")
    unlike = {"seconds", "peak_memory_bytes", "tokens_per_second"}
    of_one, of_two = (dataclasses.asdict(each) for each in (result, expected))
    assert {key: of_one[key] for key in of_one.keys() - unlike} == {key: of_two[key] for key in of_two.keys() - unlike}
    assert not one.checkpoints.exists()
    assert [path.name for path in one.root.iterdir() if path.name.startswith(".")] == []


def stop_after(job, steps):
    asked = iter([None] * (steps - 1) + ["stop"])
    train(job, device="cpu", should_stop=lambda: next(asked))


def test_a_damaged_checkpoint_costs_work_and_changes_nothing(make_job, tmp_path, caplog):
    """The one before it is used, and the weights come out the same."""
    job, whole = make_job(), make_job(fields={"folder": tmp_path / "whole"})
    stop_after(job, 8)
    file = TrialFolder(job.folder).checkpoints / "step-00000008" / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x55")
    train(job, device="cpu")
    train(whole, device="cpu")
    assert "checkpoint of step 8 is damaged" in caplog.text
    models = [(TrialFolder(at.folder).model / "model.safetensors").read_bytes() for at in (job, whole)]
    assert models[0] == models[1]


def test_checkpoints_of_other_work_are_not_resumed(make_job):
    """The settings changed since: the user decides whether to start anew."""
    stop_after(make_job(), 3)
    with pytest.raises(TrainingError, match="belongs to other work"):
        train(make_job(fields={"fingerprint": "work-2"}), device="cpu")


def test_the_best_score_is_remembered_over_a_resume(make_job):
    """The original forgets it, and its next evaluation overwrites the best model."""
    job = make_job(evaluate_every=2, learning_rate=2.0)
    stop_after(job, 7)
    kept = Checkpoints(TrialFolder(job.folder).checkpoints, job.fingerprint, job.trial).newest()
    before = {line["step"]: line for line in read_metrics(TrialFolder(job.folder).metrics) if "is_best" in line}
    best = min(before.values(), key=lambda line: line["infill"])
    assert kept.state["best_step"] == best["step"] < 6, "the test needs a best model that is not the last"
    result = train(job, device="cpu")
    assert result.best_losses["infill"] <= best["infill"]
