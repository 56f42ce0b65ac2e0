"""A sweep of chained trainings in a process of its own, for tests that kill parts of it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.cluster.conftest import ROOT

SCRIPT = str(Path(__file__).parent / "chained_training.py")


class SweepProcess:
    """The command; leaving its context ends it with all its processes.

    Args:
        how: further arguments of the command, see `chained_training`.
        variables: added to its environment.
    """

    def __init__(self, run, output, *how, **variables):
        run.root.mkdir(exist_ok=True)
        self.output = output
        environment = {**os.environ, "PYTHONPATH": ROOT, **variables}
        with output.open("a") as file:
            words = [sys.executable, SCRIPT, str(run.root), *how]
            self.process = subprocess.Popen(words, env=environment, stdout=file, stderr=subprocess.STDOUT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.family() if self.is_alive() else []:
            process.kill()
        self.process.kill()
        self.process.wait()

    def is_alive(self):
        return self.process.poll() is None

    def family(self):
        """Return its processes: children, their children, and so on."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def processes(self, title):
        """Return its processes with this title, such as the name of an actor."""
        chosen = []
        for process in self.family():
            try:
                if title in " ".join(process.cmdline()):
                    chosen.append(process)
            except psutil.Error:
                continue
        return chosen

    def wait_until(self, condition):
        """Wait for the condition while the command runs."""
        until = time.monotonic() + 300
        while not condition():
            assert self.is_alive(), f"the command ended by itself:\n{self.output.read_text()}"
            assert time.monotonic() < until, f"the condition was never met:\n{self.output.read_text()}"
            time.sleep(0.05)

    def wait_for_output(self, text):
        """Wait until the command has printed the text."""
        self.wait_until(lambda: text in self.output.read_text())

    def wait(self):
        """Wait for the command and return its exit code."""
        return self.process.wait(timeout=600)
