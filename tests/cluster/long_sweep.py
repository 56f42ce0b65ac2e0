"""Measures what the process that runs a sweep takes for each of very many trials, by its CPU time and its memory.

    python -m tests.cluster.long_sweep 1000      # trials; some minutes on two cores

Ray, Tune, Train, the session, the searcher, the records, the metrics, the budget and the ledger are the real ones.  The
trainings are made up: they evaluate once, leave a model of some bytes, and return.  The trials are families of one
general model and nine fine-tunes of it, four at a time, in processes that they share (`train_workers: shared`): with
processes of their own the starts would be most of the time, and none of it this process's.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import psutil

from raysweep.config.budget_settings import BudgetConfig, PricesConfig
from raysweep.config.resource_settings import ResourcesConfig
from raysweep.planning.budget import BudgetWatch
from raysweep.scheduling.ledger import write_ledger
from raysweep.scheduling.records import State, read_record
from raysweep.storage.run_folder import RunFolder
from tests.sweep_tasks import make_task

FAMILY = 10
AT_A_TIME = 4
MARKS = 10


class DriverWatch:
    """A listener that notes this process's CPU time and memory at every tenth of the trials."""

    def __init__(self, trials):
        self.marks = []
        self._every = max(1, trials // MARKS)

    def advance(self, stage, done, total, unit):
        """Note a mark."""
        if done % self._every == 0 and done > (self.marks[-1][0] if self.marks else -1):
            memory = psutil.Process().memory_info().rss
            self.marks.append((done, time.process_time(), memory, time.monotonic()))
            if len(self.marks) > 1:
                print(self.describe(-1), flush=True)

    def say(self, message):
        """Print nothing."""

    def describe(self, place):
        """A line on the trials up to a mark, since the one before."""
        done, cpu, memory, at = self.marks[place]
        before = self.marks[self.marks.index(self.marks[place]) - 1]
        count = done - before[0]
        return (
            f"{done:6,} trials  {1e3 * (cpu - before[1]) / count:5.1f} ms of CPU a trial  {memory / 1e6:6.1f} MB  "
            f"{(at - before[3]) / count:.2f} s a trial"
        )


def measure(root, trials):
    """Sweep; returns the watch with its marks."""
    from raysweep.cluster.session import open_session
    from raysweep.cluster.sweep import run_sweep

    run = RunFolder(root)
    names = [f"t{number:05d}" for number in range(trials)]
    tasks = [
        make_task(run, name, parent=names[number - number % FAMILY] if number % FAMILY else None)
        for number, name in enumerate(names)
    ]
    watch = DriverWatch(trials)
    budget = BudgetWatch(run, BudgetConfig(gpu_hours=1e6), PricesConfig(core_hour=1.0), device="cpu")
    resources = ResourcesConfig(gpus_per_trial=0, train_workers="shared")
    with open_session(resources, scratch=run.ray, cpus=AT_A_TIME) as session:
        train = "tests.cluster.fake_trainings:train"
        run_sweep(session, tasks, watch, storage=run.ray, train=train, budget=budget)
    began = time.process_time()
    write_ledger(run, names)
    print(f"the ledger of {trials:,} trials: {time.process_time() - began:.2f} s of CPU")
    assert {read_record(task.folder).state for task in tasks} == {State.DONE}
    return watch


def main():
    """Measure, and print a line for each tenth of the trials."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("trials", type=int, nargs="?", default=1000)
    trials = parser.parse_args().trials
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder) / "run", trials)


if __name__ == "__main__":
    main()
