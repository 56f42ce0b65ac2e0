"""Trainings that take no time, called like `training.loop.train`; workers import them by name."""

import dataclasses
import json
import math
import os
import signal
import threading
import time
from pathlib import Path

from raysweep.errors import NonFiniteLossError, TrainingError
from raysweep.storage.atomic_files import write_json
from raysweep.storage.run_folder import TrialFolder
from raysweep.training.job import Evaluation, TrainingResult


def train(job, *, device, rank, world_size, on_evaluation, should_stop):
    """Record when it ran, and leave a model; a child's parent must have left one before."""
    began = time.time()
    folder = TrialFolder(job.folder)
    if job.start != "scratch":
        assert (Path(job.start) / "model.txt").exists(), f"{job.start} is not there yet"
    loss = abs(math.log10(job.settings.learning_rate) + 3)
    on_evaluation(Evaluation(step=1, losses={"infill": loss, "context": 1.0, "infill_textonly": loss}, is_best=True))
    folder.model.mkdir(parents=True, exist_ok=True)
    (folder.model / "model.txt").write_text(f"{job.trial} at {job.settings.learning_rate}")
    folder.metrics.write_text(json.dumps({"step": 1, "loss": loss}) + "\n")
    title = Path("/proc/self/cmdline").read_bytes().decode().strip("\0 ")
    write_json(job.folder / "times.json", {"began": began, "ended": time.time(), "title": title})
    return result_of(steps=job.settings.steps, loss=loss, device=device)


def result_of(*, steps, loss, device):
    """Return a result with these values."""
    return TrainingResult(
        steps=steps,
        best_step=1,
        best_losses={"infill": loss, "context": 1.0, "infill_textonly": loss},
        stopped="",
        examples=1,
        tokens=1,
        padding_share=0.0,
        seconds={"step": 0.0},
        device=device,
        parameters=1,
        peak_memory_bytes=0,
    )


def train_as_named(job, **how):
    """Behave as the trial's name says: `bad` raises an error, `killed` is killed once and `doomed` every time.

    `crowded` runs out of memory at its first start, and the loss of `diverged` is not a number.
    """
    start = count_start(job)
    if job.trial == "crowded" and start == 1:
        raise MemoryError
    if job.trial == "diverged" and start == 1:
        raise NonFiniteLossError("diverged: the loss is not finite at step 3 (documents 4, 7)", 3, (4, 7))
    if job.trial == "bad":
        raise TrainingError("bad: the loss is not finite at step 3")
    if job.trial == "doomed" or (job.trial == "killed" and start == 1):
        (job.folder / "checkpoint").write_text("step 1")
        os.kill(os.getpid(), signal.SIGKILL)
    if job.trial == "killed":
        assert (job.folder / "checkpoint").read_text() == "step 1"
    return train(job, **how)


def count_start(job):
    """Return the number of this start of the training."""
    starts = job.folder / "starts"
    with starts.open("a") as file:
        file.write("x")
    return len(starts.read_text())


def starts_of(folder):
    """Return how often the training was started."""
    return len((folder.root / "starts").read_text())


def train_until_asked(job, *, should_stop, **how):
    """Take steps of a tenth of a second until all are done, or until asked to stop; then save a checkpoint.

    The first attempt waits for that request, however late it comes, and does not take the last step before.
    """
    checkpoint = job.folder / "checkpoint"
    job.folder.mkdir(parents=True, exist_ok=True)
    step, reason = int(checkpoint.read_text()) if checkpoint.exists() else 0, None
    most = job.settings.steps - (job.start == "scratch" and not checkpoint.exists())
    while step < job.settings.steps and reason is None:
        time.sleep(0.1)
        step = min(step + 1, most)
        reason = should_stop()
    if reason is not None:
        checkpoint.write_text(str(step))
    result = train(job, should_stop=should_stop, **how)
    return dataclasses.replace(result, steps=step, stopped=reason or "")


def train_on_cpu(job, **how):
    """Run the real loop as if its worker had a GPU."""
    from raysweep.training import loop  # imports torch, which the other trainings do not need

    return loop.train(job, **{**how, "device": "cpu"})


def train_and_lose_the_second_worker(job, *, rank, **how):
    """Run the real loop, and kill its second worker once, when there is a checkpoint."""
    mark = job.folder / "second worker lost"

    def die():
        while not list(job.folder.glob("checkpoints/step-*/checkpoint.json")):
            time.sleep(0.005)
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)

    if rank == 1 and not mark.exists():
        threading.Thread(target=die, daemon=True).start()
    return train_on_cpu(job, rank=rank, **how)
