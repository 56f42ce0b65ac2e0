"""The state of a search with ASHA, without Ray: who waits, who goes on, what the records say."""

import json

import pytest

from raysweep.config.training_settings import AshaConfig, SearchConfig
from raysweep.pipeline.sweep_state import SweepState
from raysweep.scheduling.capacity import Capacity, ResourceRequest
from raysweep.scheduling.outcomes import Finished, Paused
from raysweep.scheduling.records import State, read_record
from raysweep.storage.run_folder import RunFolder, TrialFolder
from tests.pipeline.test_sweep_state import FixedSuggestions, released
from tests.sweep_tasks import RecordingListener, make_task

LOSSES = [3.0, 1.0, 2.0, 4.0, 1.5, 0.5]
"""Of the samples at their first rung; each gets better by a tenth a rung."""
SEARCH = SearchConfig(
    samples=6, space={"learning_rate": {"low": 1e-4, "high": 1e-2}}, asha=AshaConfig(grace_evaluations=1, reduction=2)
)


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


def open_state(run, *, cpus):
    task = make_task(run, "A1", search=SEARCH, steps=40, evaluate_every=10)
    child = make_task(run, "A1-B1", parent="A1")
    tasks = [task, child]
    return SweepState(
        tasks,
        requests={task.job.trial: ResourceRequest(cpus=1, gpus=0) for task in tasks},
        capacity=Capacity(cpus=cpus, gpus=0),
        listener=RecordingListener(),
        suggestions=lambda _: FixedSuggestions(),
    )


class Trainings:
    """Executes the released trainings, and records how far each sample got."""

    def __init__(self, run, state, *, order=min, until=None):
        self.run, self.state, self.order, self.until = run, state, order, until
        self.steps = {}

    def go(self):
        """Run until the samples are over, or `until` starts; return the other trials that started."""
        running, others = released(self.state), []
        while samples := [name for name in running if "/samples/" in name]:
            name = self.order(samples)
            running.remove(name)
            if name == self.until:
                return others
            self.train(name)
            more = released(self.state)
            running += more
            others += [name for name in more if "/samples/" not in name]
        return others

    def train(self, name):
        """Train to the next rung (and one step further, as the loop does) or to the end."""
        training = self.state._trainings[name]
        sample = int(name[-2:])
        step = training.pause_at or 40
        folder = training.folder
        folder.root.mkdir(parents=True, exist_ok=True)
        best = LOSSES[sample] - 0.1 * [10, 20, 40].index(step)
        line = {"kind": "evaluation", "step": step, "infill": best, "context": 1.0, "is_best": True}
        with folder.metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.steps[name] = step
        if training.pause_at is not None:
            self.state.end(name, Paused(steps=step + 1))
            return
        folder.model.mkdir(parents=True, exist_ok=True)
        (folder.model / "model.txt").write_text(name)
        self.state.end(name, Finished(result={"steps": 40, "best_step": 40, "best_losses": {"infill": best}}))


def steps_of(trainings):
    return {name[-2:]: step for name, step in trainings.steps.items()}


def test_successive_halving_stops_poor_samples_and_finishes_the_best_of_each_round(run):
    """Four samples reach 10 steps, two reach 20 and one 40; then likewise for the last two of six."""
    state = open_state(run, cpus=4)
    trainings = Trainings(run, state)
    assert trainings.go() == ["A1-B1"]
    assert steps_of(trainings) == {"00": 10, "01": 40, "02": 20, "03": 10, "04": 10, "05": 40}
    record = read_record(run.trial("A1"))
    assert record.state is State.DONE
    search = record.result["search"]
    assert search["sample"] == 5
    assert [sample["stopped_at"] for sample in search["tried"]] == [10, None, 20, 10, 10, None]
    assert [sample["loss"] for sample in search["tried"]] == pytest.approx([3.0, 0.8, 1.9, 4.0, 1.5, 0.3])
    assert search["busy_seconds"] == sum(sample["busy_seconds"] for sample in search["tried"]) > 0
    assert (run.trial("A1").model / "model.txt").read_text() == "A1/samples/05"


def test_the_record_of_a_stopped_sample_gives_the_reason(run):
    """It did not fail; others did better."""
    state = open_state(run, cpus=4)
    Trainings(run, state).go()
    record = read_record(TrialFolder(run.trial("A1").root / "samples" / "00"))
    assert record.state is State.STOPPED
    assert record.reason == "its search stopped it at step 10: infill 3.000, others did better"


@pytest.mark.parametrize(("cpus", "order"), [(1, min), (2, max), (8, max)])
def test_the_number_of_concurrent_trainings_does_not_change_which_samples_stop(run, cpus, order):
    """Asynchronous ASHA would stop different samples for every number of workers."""
    state = open_state(run, cpus=cpus)
    trainings = Trainings(run, state, order=order)
    trainings.go()
    assert steps_of(trainings) == {"00": 10, "01": 40, "02": 20, "03": 10, "04": 10, "05": 40}


def test_an_interrupted_search_resumes_without_repeating_any_part(run):
    """The state at a rung is on disk; a sample killed on its way to the second rung resumes from its checkpoint."""
    state = open_state(run, cpus=1)
    first = Trainings(run, state, until="A1/samples/02")
    first.go()
    state.mark_stopped("interrupted")
    assert steps_of(first) == {"00": 10, "01": 10}

    second = Trainings(run, open_state(run, cpus=1))
    assert second.go() == ["A1-B1"]
    assert steps_of(second) == {"01": 40, "02": 20, "03": 10, "04": 10, "05": 40}
    assert read_record(run.trial("A1")).result["search"]["sample"] == 5


def test_other_trials_use_the_cores_while_samples_wait_for_their_round(run):
    """A paused sample holds no resources."""
    task = make_task(run, "A1", search=SEARCH, steps=40, evaluate_every=10)
    other = make_task(run, "B1")
    state = SweepState(
        [task, other],
        requests={name: ResourceRequest(cpus=1, gpus=0) for name in ("A1", "B1")},
        capacity=Capacity(cpus=4, gpus=0),
        listener=RecordingListener(),
        suggestions=lambda _: FixedSuggestions(),
    )
    trainings = Trainings(run, state)
    assert released(state) == [f"A1/samples/{sample:02d}" for sample in range(4)]
    trainings.train("A1/samples/00")
    assert released(state) == ["B1"]
