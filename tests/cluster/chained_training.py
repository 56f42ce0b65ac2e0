"""A training in which every step hashes the previous value, so that the last value shows whether all were done.

    python chained_training.py ROOT [own|cluster]   train what is not done of six trials and five children

It saves a checkpoint every second step at the place where the real training does, and records every step.
STEP_SECONDS is the length of a step, CPUS the number of concurrent trainings per machine, and GRACE_SECONDS replaces
the time that trainings have to save.
"""

import dataclasses
import hashlib
import os
import sys
import threading
import time
from pathlib import Path

from raysweep.scheduling.records import State, read_record
from raysweep.storage.atomic_files import read_json, write_json, write_text
from raysweep.storage.run_folder import RunFolder, TrialFolder
from tests.cluster.fake_trainings import result_of, train
from tests.cluster.listening import free_port

LEVELS = ("A1", "A2", "B1", "B2", "C1")
TRIALS = {
    **dict.fromkeys(LEVELS, (None, 8)),
    "all": (None, 12),
    **{f"all-{level}": ("all", 6) for level in LEVELS},
}
"""By name: its parent and its steps."""
SAVED_EVERY = 2
GIVE_NOTICE = "give notice"
REMOVE_NODE = "remove the node"
"""Files in ROOT that ask for it."""


def hash_step(value, name, step):
    """Return the value after the step."""
    return hashlib.sha256(f"{value} {name} {step}".encode()).hexdigest()[:16]


def expected_values():
    """Return every trial's last value if nothing goes wrong."""
    values = {"scratch": "scratch"}
    for name, (parent, steps) in TRIALS.items():
        value = values[parent or "scratch"]
        for step in range(1, steps + 1):
            value = hash_step(value, name, step)
        values[name] = value
    return {name: values[name] for name in TRIALS}


def train_in_chain(job, *, device, rank, world_size, on_evaluation, should_stop):
    """Resume from the newest checkpoint."""
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
            file.write(f"{os.getpid()} {step}\n")
        seconds = {"step": state["seconds"]["step"] + time.time() - began}
        state = {"step": step, "value": hash_step(state["value"], job.trial, step), "seconds": seconds}
        reason = should_stop() or ""
        if step % SAVED_EVERY == 0 or reason:
            write_json(folder.checkpoints / f"step-{step:08d}" / "checkpoint.json", {"state": state})
    if reason:
        result = result_of(steps=0, loss=0.0, device=device)
    else:
        how = {"device": device, "rank": rank, "world_size": world_size}
        result = train(job, on_evaluation=on_evaluation, should_stop=should_stop, **how)
        write_text(folder.model / "chain.txt", state["value"])
        write_json(folder.result, state)
    return dataclasses.replace(result, steps=state["step"], stopped=reason, seconds=state["seconds"])


def open_tasks(run):
    """Return the tasks that are not done."""
    from tests.sweep_tasks import make_task

    tasks = [make_task(run, name, parent=parent, steps=steps) for name, (parent, steps) in TRIALS.items()]
    return [
        dataclasses.replace(task, parent=None if task.parent and is_done(run, task.parent) else task.parent)
        for task in tasks
        if not is_done(run, task.job.trial)
    ]


def is_done(run, name):
    """Return whether the trial's record says that it is done."""
    record = read_record(run.trial(name))
    return record is not None and record.state is State.DONE


def steps_of(run, name):
    """Return (process, step) of every step that was done."""
    path = run.trial(name).root / "steps.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(process), int(step)) for process, step in map(str.split, lines)]


class Printing:
    """A listener that prints the lines that the test reads."""

    def advance(self, stage, done, total, unit):
        """Print nothing."""

    def say(self, message):
        print(message, flush=True)


def main():
    """Train what is left; return 0 if all is done, 130 if interrupted, 1 with a message if Ray is lost."""
    from raysweep.cli.app import end_on_sigterm
    from raysweep.cluster.session import open_session
    from raysweep.cluster.sweep import run_sweep
    from raysweep.config.resource_settings import ResourcesConfig
    from raysweep.errors import LostRayError
    from raysweep.pipeline import signals

    end_on_sigterm()
    signals.GRACE_S = float(os.environ.get("GRACE_SECONDS", signals.GRACE_S))
    root, is_cluster = Path(sys.argv[1]), sys.argv[2:] == ["cluster"]
    run = RunFolder(root)
    address, cpus = start_nodes(root) if is_cluster else None, int(os.environ.get("CPUS", "3"))
    workers = "own" if sys.argv[2:] == ["own"] else "auto"
    resources = ResourcesConfig(max_failures=2, gpus_per_trial=0, address=address, train_workers=workers)
    try:
        with open_session(resources, scratch=run.ray, cpus=None if is_cluster else cpus) as session:
            train = "tests.cluster.chained_training:train_in_chain"
            run_sweep(session, open_tasks(run), Printing(), storage=run.ray, train=train)
    except KeyboardInterrupt:
        sys.exit(130)
    except LostRayError as error:
        print(f"error: {error}", flush=True)
        sys.exit(error.exit_code)
    sys.exit(0 if all(is_done(run, name) for name in TRIALS) else 1)


def start_nodes(root):
    """Start a head, and a node that is drained or removed when a file asks for it; return the address."""
    # These nodes start without a token, and a process that joins them must not ask for one.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S"] = "0.5"
    from ray.cluster_utils import Cluster

    from raysweep.cluster.ray_internals import drain_node

    head = {"num_cpus": 1, "include_dashboard": True, "dashboard_port": free_port()}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    node = cluster.add_node(num_cpus=2)

    def wait_for(*names):
        while not any((root / name).exists() for name in names):
            time.sleep(0.1)

    def obey():
        wait_for(GIVE_NOTICE, REMOVE_NODE)
        if (root / GIVE_NOTICE).exists():
            drain_node(cluster.address, node.node_id, "spot", within_s=120.0)
            wait_for(REMOVE_NODE)
        cluster.remove_node(node, allow_graceful=False)

    threading.Thread(target=obey, daemon=True).start()
    return cluster.address


if __name__ == "__main__":
    main()
