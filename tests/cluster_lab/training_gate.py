"""Holds trainings of the lab's nodes in their middle, so that a test can interrupt them there, however short they are.

    python -m tests.cluster_lab.training_gate FOLDER TRIAL...       one for each lab

A trial's first attempt trains freely until its first checkpoint is on the node's disk.  From then on its process has
a seventh of the time, in which it sends that checkpoint; none while FOLDER/TRIAL.still is there; all once
FOLDER/TRIAL.go is.  The gate runs before everything else on the machine, so that no load makes it late, and looks 30
times a second.
"""

import json
import os
import signal
import sys
import time
from contextlib import suppress
from glob import glob
from itertools import cycle
from pathlib import Path

import psutil

LOOK_EVERY_S = 0.03
TURNS = 14
"""Looks from one piece of time that a held training gets to the next."""
AWAKE = 2
"""Looks that such a piece lasts."""
CHECKPOINTS = "home/ubuntu/.cache/raysweep/staging/*/*/trials/{trial}/checkpoints/*/checkpoint.json"
WORKER = "ray::RayTrainWorker"


class Gate:
    """Of one trial."""

    def __init__(self, folder, trial):
        self.trial, self._still, self._go = trial, folder / f"{trial}.still", folder / f"{trial}.go"
        self._held = []

    def look(self, nodes, turn):
        """Look for the training where it may be, or give its process the time that is due; False when it may go on."""
        if self._go.exists():
            self.tell(signal.SIGCONT)
            return False
        if not self._held:
            # One training at a time is on a node.
            self._held = next((workers_of(pid) for pid in nodes if self._is_on(pid)), [])
            self.tell(signal.SIGSTOP)
        elif turn in (0, AWAKE):
            self.tell(signal.SIGCONT if turn == 0 and not self._still.exists() else signal.SIGSTOP)
        return True

    def _is_on(self, pid):
        # Unlike `Path.glob` it passes over a node that is gone.
        return bool(glob(f"/proc/{pid}/root/{CHECKPOINTS.format(trial=self.trial)}"))  # noqa: PTH207

    def tell(self, what):
        """Send a signal to what it holds."""
        for process in self._held:
            # With its node it may be gone.
            with suppress(psutil.NoSuchProcess):
                process.send_signal(what)


def instances(folder):
    """The first process of each instance that runs."""
    pids = []
    for file in folder.glob("i*/node.json"):
        with suppress(FileNotFoundError):
            pids.append(json.loads(file.read_text())["pid"])
    return pids


def workers_of(pid):
    """The processes of Ray Train's workers below one."""
    with suppress(psutil.NoSuchProcess):
        below = psutil.Process(pid).children(recursive=True)
        return [process for process in below if _title(process).startswith(WORKER)]
    return []


def _title(process):
    with suppress(psutil.NoSuchProcess):
        return (process.cmdline() or [""])[0]
    return ""


def main():
    """Look until killed, or until every trial may go on."""
    folder = Path(sys.argv[1])
    gates = [Gate(folder, trial) for trial in sys.argv[2:]]
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError as error:
        print(f"may be late on a busy machine: {error}", flush=True)
    try:
        for turn in cycle(range(TURNS)):
            gates = [gate for gate in gates if gate.look(instances(folder), turn)]
            if not gates:
                return
            time.sleep(LOOK_EVERY_S)
    finally:
        for gate in gates:
            gate.tell(signal.SIGCONT)


if __name__ == "__main__":
    main()
