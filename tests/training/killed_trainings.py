"""Run by test_resume.py and test_workers.py: trains in child processes, and kills them with signal 9.

    python killed_trainings.py kill JOB.json NAME …   a kill before and after each rename onto a NAME
    python killed_trainings.py random JOB.json N SEED N kills at random moments
    python killed_trainings.py workers JOB.json       two workers (gloo) train one job together
    python killed_trainings.py terminate JOB.json     trains, and prints how it ended; to be sent SIGTERM

One process imports torch and forks; so a killed training costs no import, and it is a real process
that a real signal ends, with no chance to clean up.
"""

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed
from pydantic import TypeAdapter
from transformers import GPT2LMHeadModel

from raysweep.training import attempt
from raysweep.training import benchmark as _benchmark  # noqa: F401  # imported for the assertion below
from raysweep.training.attempt import make_engine
from raysweep.training.distributed import DistributedGroup
from raysweep.training.gradient_pass import GradientPass
from raysweep.training.job import TrainingJob
from raysweep.training.loop import train
from raysweep.training.step import Engine

# A GPU machine that has neither of them can still run the loop's parts and the benchmark.
assert not {"ray", "tensorboardX"} & sys.modules.keys()

TIMEOUT_S = 120


def run_in_child(work: Callable[[], object], kill_after_s: float | None = None) -> int:
    """Run `work` in a fork of this process; returns its exit status, negative if a signal ended it."""
    child = os.fork()
    if child:
        if kill_after_s is not None:
            threading.Event().wait(kill_after_s)
            os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.alarm(TIMEOUT_S)
    try:
        work()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def kill_at_rename(target: str, *, before: bool) -> None:
    """End this process just before, or just after, it renames something onto a path of this name.

    Everything that a training leaves for others comes by rename, so this gives all the states of the
    disk that a kill can leave, but for how far the steps had come.
    """

    def killing(original):
        def rename(path, onto):
            is_target = Path(onto).name == target
            if is_target and before:
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(path, onto)
            if is_target:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return rename

    Path.rename, Path.replace = killing(Path.rename), killing(Path.replace)


def kill_chain(job: TrainingJob, targets: list[str]) -> None:
    """Kill one attempt after another before and after each of the renames, then let one come to its end."""
    for target in targets:
        for before in (True, False):

            def attempt(target=target, before=before):
                kill_at_rename(target, before=before)
                train(job, device="cpu")

            status = run_in_child(attempt)
            if status != -signal.SIGKILL:
                raise SystemExit(f"{target}: exit status {status}, not killed")
    if status := run_in_child(lambda: train(job, device="cpu")):
        raise SystemExit(f"exit status {status}")


def kill_between_steps(job: TrainingJob, step: int) -> None:
    """Kill one attempt after a step that no checkpoint follows."""
    asked = []

    def should_stop():
        asked.append(1)
        if len(asked) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    status = run_in_child(lambda: train(job, device="cpu", should_stop=should_stop))
    assert status == -signal.SIGKILL, status


def kill_at_random(job: TrainingJob, kills: int, seed: int) -> list[TrainingJob]:
    """Kill attempts at random moments, `kills` of them while they ran, and let the last come to its end.

    An attempt that was faster than its kill ends a training; then the next one begins, in another folder.

    Returns:
        The jobs that were trained to their end, first one that was not killed.
    """
    moments = random.Random(seed)
    start = time.monotonic()
    whole = replace(job, folder=job.folder.parent / "timed")
    assert run_in_child(lambda: train(whole, device="cpu")) == 0
    duration = time.monotonic() - start
    jobs = [job]
    while kills:
        status = run_in_child(lambda: train(jobs[-1], device="cpu"), kill_after_s=moments.uniform(0, duration))
        if status == -signal.SIGKILL:
            kills -= 1
        elif status == 0:
            jobs.append(replace(job, folder=job.folder.parent / f"again-{len(jobs)}"))
        else:
            raise SystemExit(f"exit status {status}")
    if status := run_in_child(lambda: train(jobs[-1], device="cpu")):
        raise SystemExit(f"exit status {status}")
    return [whole, *jobs]


def train_until_told(job: TrainingJob) -> None:
    """Train, saying when the first step is done."""
    result = train(job, device="cpu", on_evaluation=lambda evaluation: print(f"step {evaluation.step}", flush=True))
    print(f"{result.stopped or 'done'} after {result.steps}", flush=True)


def check_agreement(rank: int, world_size: int) -> None:
    """Check that all workers know what one of them knows."""
    group = DistributedGroup(rank=rank, world_size=world_size, device=torch.device("cpu"))
    assert group.all_reduce_min(5 + rank) == 5
    assert group.broadcast(7 + rank) == 7
    assert group.any_rank(rank == world_size - 1)
    assert not group.any_rank(False)


def engine_with_gradient_pass(trial: str, model: GPT2LMHeadModel, *how: Any) -> Engine:
    """Make an engine that computes gradients as on a GPU."""
    engine = make_engine(trial, model, *how)
    engine.gradient_pass = GradientPass(model, engine.kernels, engine.device, engine.autocast)
    return engine


def stop_and_go_on(job: TrainingJob, rank: int, world_size: int) -> None:
    """Train as one of several workers; the last of them is asked to stop, so all do at one step, and go on.

    The gradients before the stop are those of a GPU's pass, and those after it autograd's.
    """
    where = {"device": "cpu", "rank": rank, "world_size": world_size}
    is_last = rank == world_size - 1
    with mock.patch.object(attempt, "make_engine", engine_with_gradient_pass):
        stopped = train(job, **where, should_stop=lambda: "its machine is needed" if is_last else None)
    reason = "its machine is needed" if is_last else "another worker was asked to stop"
    assert (stopped.steps, stopped.stopped) == (10, reason)
    train(job, **where)


def train_with_workers(job: TrainingJob, world_size: int) -> None:
    """Train one job with several processes."""
    meeting = job.folder.parent / "meeting"
    children = []
    for rank in range(world_size):
        child = os.fork()
        if child == 0:
            signal.alarm(TIMEOUT_S)
            status = 1
            try:
                torch.distributed.init_process_group(
                    "gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size
                )
                check_agreement(rank, world_size)
                stop_and_go_on(job, rank, world_size)
                torch.distributed.barrier()
                torch.distributed.destroy_process_group()
                status = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            os._exit(status)
        children.append(child)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(statuses):
        raise SystemExit(f"exit statuses {statuses}")


def main() -> None:
    """Do what the arguments say; exits with 0 if all went as it should."""
    what, path, *targets = sys.argv[1:]
    torch.set_num_threads(1)
    job = TypeAdapter(TrainingJob).validate_json(Path(path).read_text(encoding="utf-8"), strict=False)
    if what == "kill":
        kill_between_steps(job, 2)
        kill_between_steps(job, 5)
        kill_chain(job, targets)
    elif what == "random":
        for line in kill_at_random(job, *map(int, targets)):
            print(line.folder)
    elif what == "terminate":
        train_until_told(job)
    else:
        job.folder.parent.mkdir(parents=True, exist_ok=True)
        train_with_workers(job, 2)


if __name__ == "__main__":
    main()
