"""A training that was killed, again and again, ends with the bits of one that was not."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from raysweep.errors import TrainingError
from raysweep.model.checkpoints import Checkpoints
from raysweep.storage.run_folder import TrialFolder
from raysweep.training.job import TrainingJob
from raysweep.training.loop import train
from raysweep.training.metrics import read_metrics
from raysweep.training.sigterm import stop_on_sigterm

SCRIPT = Path(__file__).parent / "killed_trainings.py"
ROOT = Path(__file__).parents[2]


RENAMES = ["step-00000006", "best-00000008", "step-00000012", "model", "training.json"]


def run_script(what, job, tmp_path, *arguments):
    """Run the script, which must end well; returns what it printed."""
    done = subprocess.run(
        script(what, job, tmp_path, *arguments), capture_output=True, text=True, check=False, env=script_environment()
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def script(what, job, tmp_path, *arguments):
    """The command that runs the script."""
    path = tmp_path / "job.json"
    path.write_bytes(TypeAdapter(TrainingJob).dump_json(job))
    return [sys.executable, str(SCRIPT), what, str(path), *arguments]


def script_environment():
    """With this checkout on its path."""
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": search}


def test_a_repeatedly_killed_training_ends_with_the_same_bits(make_job, tmp_path):
    """Signal 9 between steps, and before and after what a training renames: same weights, every step once."""
    job, whole = make_job(), make_job(fields={"folder": tmp_path / "whole"})
    run_script("kill", job, tmp_path, *RENAMES)
    expected, (first, second) = train(whole, device="cpu"), (TrialFolder(at.folder) for at in (job, whole))
    assert (first.model / "model.safetensors").read_bytes() == (second.model / "model.safetensors").read_bytes()
    assert (first.model / "README.md").read_text() == (second.model / "README.md").read_text()
    assert first.metrics.read_bytes() == second.metrics.read_bytes()
    assert [line["step"] for line in read_metrics(first.metrics) if line["kind"] == "step"] == list(range(1, 13))
    result = train(job, device="cpu")
    unlike = {"seconds", "peak_memory_bytes", "tokens_per_second"}
    of_one, of_two = (dataclasses.asdict(outcome) for outcome in (result, expected))
    assert {key: of_one[key] for key in of_one.keys() - unlike} == {key: of_two[key] for key in of_two.keys() - unlike}
    assert not first.checkpoints.exists()
    assert [path.name for path in first.root.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_at_random_moments_do_not_change_the_result(make_job, tmp_path, kills):
    """Signal 9 whenever it comes: while data is read, in mid-step, in mid-checkpoint, while the model is written."""
    job = make_job(steps=16)
    printed = run_script("random", job, tmp_path, str(kills), "0").splitlines()
    expected, *folders = (TrialFolder(Path(line)) for line in printed)
    for folder in folders:
        assert (folder.model / "model.safetensors").read_bytes() == (expected.model / "model.safetensors").read_bytes()
        assert folder.metrics.read_bytes() == expected.metrics.read_bytes()
        assert [line["step"] for line in read_metrics(folder.evaluations)] == [4, 8, 12, 16]
        assert not folder.checkpoints.exists()


def test_sigterm_writes_a_checkpoint_and_the_next_call_resumes(make_job, tmp_path):
    """A batch system's or a cloud's notice, in a process of its own: no step is lost, the weights come out equal.

    The settings that say how long it trains are part of no fingerprint here, so that it can end soon afterwards.
    """
    job = make_job(steps=4000, evaluate_every=4, checkpoint_every=4000)
    with subprocess.Popen(
        script("terminate", job, tmp_path), stdout=subprocess.PIPE, text=True, env=script_environment()
    ) as process:
        assert process.stdout.readline() == "step 4\n"
        process.send_signal(signal.SIGTERM)
        *_, last = process.stdout.read().splitlines()
    assert process.returncode == 0
    reason, steps = last.split(" after ")
    assert reason == "SIGTERM"
    assert 4 <= int(steps) < 4000, "it stopped at the next step, not at the end"
    kept = Checkpoints(TrialFolder(job.folder).checkpoints, job.fingerprint, job.trial).newest()
    assert kept.step == int(steps)
    assert not TrialFolder(job.folder).result.exists()
    ends = int(steps) + 4
    job, whole = (
        dataclasses.replace(make_job(steps=ends, evaluate_every=4), folder=folder)
        for folder in (job.folder, tmp_path / "whole")
    )
    assert [train(training, device="cpu").steps for training in (job, whole)] == [ends, ends]
    models = [(TrialFolder(at.folder).model / "model.safetensors").read_bytes() for at in (job, whole)]
    assert models[0] == models[1]


def test_an_existing_sigterm_handler_is_restored(make_job):
    """A pipeline's or Ray's; and where there was none, there is none afterwards."""
    seen = []

    def answer(number, frame):
        seen.append(number)

    before = signal.signal(signal.SIGTERM, answer)
    try:
        train(make_job(steps=2), device="cpu", on_evaluation=lambda _: os.kill(os.getpid(), signal.SIGTERM))
        assert signal.getsignal(signal.SIGTERM) is answer
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]
    with stop_on_sigterm() as should_stop:
        assert should_stop() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert should_stop() == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) is before


def stop_after(job, steps):
    asked = iter([None] * (steps - 1) + ["stop"])
    train(job, device="cpu", should_stop=lambda: next(asked))


def test_a_damaged_checkpoint_costs_work_but_does_not_change_the_result(make_job, tmp_path, caplog):
    """The previous checkpoint is used, and the final weights are the same."""
    job, whole = make_job(), make_job(fields={"folder": tmp_path / "whole"})
    stop_after(job, 8)
    file = TrialFolder(job.folder).checkpoints / "step-00000008" / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x55")
    train(job, device="cpu")
    train(whole, device="cpu")
    assert "checkpoint of step 8 is damaged" in caplog.text
    models = [(TrialFolder(at.folder).model / "model.safetensors").read_bytes() for at in (job, whole)]
    assert models[0] == models[1]


def test_a_training_keeps_the_configured_number_of_checkpoints(make_job):
    """The setting is `keep`; at the end of the training all are deleted."""
    job = make_job(keep=3)
    stop_after(job, 11)
    steps = sorted(TrialFolder(job.folder).checkpoints.glob("step-*"))
    assert [path.name for path in steps] == ["step-00000006", "step-00000009", "step-00000011"]
    train(job, device="cpu")
    assert not TrialFolder(job.folder).checkpoints.exists()


def test_checkpoints_with_another_fingerprint_are_not_resumed(make_job):
    """The settings changed since: the user decides whether to start anew."""
    stop_after(make_job(), 3)
    with pytest.raises(TrainingError, match="belongs to other work"):
        train(make_job(fields={"fingerprint": "work-2"}), device="cpu")


def test_the_best_score_is_restored_on_resume(make_job):
    """The original forgets it, and its next evaluation overwrites the best model."""
    job = make_job(evaluate_every=2, learning_rate=2.0)
    stop_after(job, 7)
    kept = Checkpoints(TrialFolder(job.folder).checkpoints, job.fingerprint, job.trial).newest()
    before = {line["step"]: line for line in read_metrics(TrialFolder(job.folder).metrics) if "is_best" in line}
    best = min(before.values(), key=lambda line: line["infill"])
    assert kept.state["best_step"] == best["step"] < 6, "the test needs a best model that is not the last"
    result = train(job, device="cpu")
    assert result.best_losses["infill"] <= best["infill"]
