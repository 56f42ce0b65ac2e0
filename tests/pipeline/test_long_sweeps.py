"""A sweep of very many trials: what the driver takes for each does not grow with their number."""

import time
import tracemalloc

import pytest

from raysweep.pipeline.sweep_watch import open_sweep
from raysweep.pipeline.tasks import SilentListener
from raysweep.scheduling.capacity import Capacity, ResourceRequest
from raysweep.scheduling.order import simulate
from raysweep.scheduling.outcomes import Finished
from raysweep.scheduling.records import State, read_record
from raysweep.storage.run_folder import RunFolder
from raysweep.training.job import Evaluation
from tests.sweep_tasks import make_task

RESULT = {"steps": 3, "best_step": 1, "best_losses": {"infill": 3.0}}


def sweep(folder, trials):
    """Return CPU seconds, and retained bytes, per trial of a sweep of fake trainings in families of four."""
    run = RunFolder(folder)
    tasks = [
        make_task(run, f"t{number}", parent=f"t{number - number % 4}" if number % 4 else None)
        for number in range(trials)
    ]
    request = ResourceRequest(cpus=1, gpus=0.0)
    tracemalloc.start()
    began, running = time.process_time(), []
    with open_sweep(
        tasks,
        requests={task.job.trial: request for task in tasks},
        capacity=Capacity(cpus=4, gpus=0),
        listener=SilentListener(),
        budget=None,
    ) as watch:
        while not watch.state.is_over:
            while (training := watch.state.release()) is not None:
                watch.state.begin(training.name)
                running.append(training)
            training = running.pop(0)
            watch.state.evaluate(training.name, Evaluation(step=1, losses={"infill": 3.0}, is_best=True))
            training.folder.model.mkdir(parents=True)
            (training.folder.model / "model.safetensors").write_text(training.name)
            watch.state.end(training.name, Finished(result=RESULT))
            watch.state.count_states()
        taken, kept = time.process_time() - began, tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert {read_record(task.folder).state for task in tasks} == {State.DONE}
    return taken / trials, kept / trials


@pytest.mark.parametrize("trials", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_driver_time_and_memory_per_trial_are_bounded(tmp_path, trials):
    """For releasing, starting, recording and ending it; the bounds are those of a thousand trials."""
    seconds, kept = sweep(tmp_path / "run", trials)
    print(f"{trials} trials: {seconds * 1e3:.1f} ms of CPU and {kept / 1e3:.1f} kB a trial")
    assert seconds < 0.05
    assert kept < 2_000


def test_two_thousand_trials_are_planned_quickly():
    """The plan used to check every trial for each start: 4 s of CPU for a thousand."""
    durations = {f"t{number}": 1.0 + number % 7 for number in range(2000)}
    parents = {name: [f"t{number - number % 4}"] if number % 4 else [] for number, name in enumerate(durations)}
    began = time.process_time()
    schedule = simulate(durations, parents, gpus=4)
    assert time.process_time() - began < 1.0
    assert max(schedule.end.values()) == pytest.approx(sum(durations.values()) / 4, rel=0.01)
