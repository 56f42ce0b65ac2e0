"""A training that can be cut anywhere: each step hashes the one before, so that the last tells whether all was done.

    python chained_training.py ROOT [own|cluster]   train the six and five that are not done, as `raysweep train` would

It saves a checkpoint every second step where the real one saves its own, and notes each step it does.
"""

import dataclasses
import hashlib
import os
import socket
import sys
import threading
import time
from pathlib import Path

from raysweep.scheduling.records import State, read_record
from raysweep.storage.atomic_files import read_json, write_json, write_text
from raysweep.storage.run_folder import RunFolder, TrialFolder
from tests.cluster.fake_trainings import train

LEVELS = ("A1", "A2", "B1", "B2", "C1")
TRIALS = {
    **dict.fromkeys(LEVELS, (None, 8)),
    "all": (None, 12),
    **{f"all-{level}": ("all", 6) for level in LEVELS},
}
"""By name: its parent and its steps."""
SAVED_EVERY = 2
SIGNS = ("remove the node", "give the node notice")
"""Files that ask for it."""


def hashed(value, name, step):
    """The next link of the chain."""
    return hashlib.sha256(f"{value} {name} {step}".encode()).hexdigest()[:16]


def expected():
    """What every trial leaves if nothing happens to it."""
    values = {"scratch": "scratch"}
    for name, (parent, steps) in TRIALS.items():
        value = values[parent or "scratch"]
        for step in range(1, steps + 1):
            value = hashed(value, name, step)
        values[name] = value
    return {name: values[name] for name in TRIALS}


def train_in_chain(job, *, device, rank, world_size, on_evaluation, should_stop):
    """Go on from the newest checkpoint, a quarter of a second a step."""
    folder = TrialFolder(job.folder)
    value = "scratch" if job.start == "scratch" else (Path(job.start) / "chain.txt").read_text()
    saved = sorted(folder.checkpoints.glob("step-*/checkpoint.json"))
    state = read_json(saved[-1])["state"] if saved else {"step": 0, "value": value, "seconds": {"step": 0.0}}
    if folder.result.exists():
        state = read_json(folder.result)
    reason = ""
    while state["step"] < job.settings.steps and not reason:
        began, step = time.time(), state["step"] + 1
        time.sleep(float(os.environ.get("STEP_SECONDS", "0.25")))
        with (job.folder / "steps.log").open("a") as file:
            file.write(f"{os.getpid()} {step} {began}\n")
        seconds = {"step": state["seconds"]["step"] + time.time() - began}
        state = {"step": step, "value": hashed(state["value"], job.trial, step), "seconds": seconds}
        reason = should_stop() or ""
        if step % SAVED_EVERY == 0 or reason:
            write_json(folder.checkpoints / f"step-{step:08d}" / "checkpoint.json", {"state": state})
    how = {"device": device, "rank": rank, "world_size": world_size}
    done = train(job, on_evaluation=on_evaluation, should_stop=should_stop, **how) if not reason else None
    if done:
        write_text(folder.model / "chain.txt", state["value"])
        write_json(folder.result, state)
    result = done or unfinished(device)
    return dataclasses.replace(result, steps=state["step"], stopped=reason, seconds=state["seconds"])


def unfinished(device):
    """A result without a model."""
    from tests.cluster.fake_trainings import result_of

    return result_of(steps=0, loss=0.0, device=device)


def open_tasks(run):
    """Those that are not done."""
    from tests.sweep_tasks import make_task

    tasks = [make_task(run, name, parent=parent, steps=steps) for name, (parent, steps) in TRIALS.items()]
    done = {task.job.trial for task in tasks if is_done(run, task.job.trial)}
    return [
        dataclasses.replace(task, parent=None if task.parent in done else task.parent)
        for task in tasks
        if task.job.trial not in done
    ]


def is_done(run, name):
    """Whether its record says so."""
    record = read_record(run.trial(name))
    return record is not None and record.state is State.DONE


class Printing:
    """A listener whose lines the test reads."""

    def advance(self, stage, done, total, unit):
        """Nobody watches."""

    def say(self, message):
        print(message, flush=True)


def main():
    """Train what is left; 0 if all is done."""
    from raysweep.cli.app import end_on_sigterm
    from raysweep.cluster.session import open_session
    from raysweep.cluster.sweep import run_sweep
    from raysweep.config.resource_settings import ResourcesConfig

    end_on_sigterm()
    root, is_cluster = Path(sys.argv[1]), sys.argv[2:] == ["cluster"]
    run = RunFolder(root)
    address = start_nodes(root) if is_cluster else None
    workers = "own" if sys.argv[2:] == ["own"] else "auto"
    resources = ResourcesConfig(max_failures=2, gpus_per_trial=0, address=address, train_workers=workers)
    with open_session(resources, scratch=run.ray, cpus=None if is_cluster else 3) as session:
        run_sweep(
            session, open_tasks(run), Printing(), storage=run.ray, train="tests.cluster.chained_training:train_in_chain"
        )
    sys.exit(0 if all(is_done(run, name) for name in TRIALS) else 1)


def give_notice(node, *, seconds):
    """What a cloud does before it takes a spot instance away."""
    from ray._private.worker import global_worker
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    until = int((time.time() + seconds) * 1000)
    global_worker.gcs_client.drain_node(node, reason, "spot", until)


def start_nodes(root):
    """A head and a node that is gone as soon as a file says so, at once or half a minute later."""
    # These nodes start without a token, and who joins them must not ask them for one.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S"] = "0.5"
    from ray.cluster_utils import Cluster

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = {"num_cpus": 1, "include_dashboard": True, "dashboard_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    node = cluster.add_node(num_cpus=2)

    def remove():
        while not any((root / sign).exists() for sign in SIGNS):
            time.sleep(0.1)
        if (root / SIGNS[1]).exists():
            give_notice(node.node_id, seconds=30)
            time.sleep(30)
        cluster.remove_node(node, allow_graceful=False)

    threading.Thread(target=remove, daemon=True).start()
    return cluster.address


if __name__ == "__main__":
    main()
