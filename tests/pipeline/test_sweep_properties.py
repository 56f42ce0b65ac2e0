"""Arbitrary sweeps: random graphs, searches, failures and lost workers, one training at a time or many at once."""

import dataclasses
import json
import random
import tempfile
from itertools import count
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raysweep.config.training_settings import AshaConfig, SearchConfig
from raysweep.errors import NonFiniteLossError, TrainingError
from raysweep.pipeline.inline_executor import InlineExecutor
from raysweep.pipeline.search_rounds import parse_name
from raysweep.pipeline.sweep_state import SweepState
from raysweep.pipeline.training_attempt import run_attempt
from raysweep.scheduling.capacity import Capacity, ResourceRequest
from raysweep.scheduling.failures import Failure
from raysweep.scheduling.outcomes import Failed
from raysweep.scheduling.records import State, read_record
from raysweep.scheduling.retries import Retries
from raysweep.storage.run_folder import RunFolder, TrialFolder
from raysweep.training import loop
from raysweep.training.job import Evaluation
from tests.cluster.fake_trainings import result_of
from tests.sweep_tasks import RecordingListener, make_task

EVERY, STEPS = 10, 40
SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-2}}
FINAL = {State.DONE, State.FAILED, State.BLOCKED, State.STOPPED}
quick = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@dataclasses.dataclass
class Trainings:
    """Trainings whose losses and errors are determined by a seed, the trial and the attempt; they resume."""

    seed: int
    errors: tuple[type[Exception], ...] = ()
    attempts: dict[str, int] = dataclasses.field(default_factory=dict)

    def train(self, job, *, on_evaluation, should_stop, rank=0):
        self.attempts[job.trial] = self.attempts.get(job.trial, 0) + 1
        rng = random.Random(f"{self.seed} {job.trial} {self.attempts[job.trial]}")
        folder, saved = TrialFolder(job.folder), job.folder / "saved"
        error, fails_at = rng.choice([None, None, None, *self.errors]), rng.randrange(EVERY, STEPS + 1, EVERY)
        first = int(saved.read_text()) if saved.exists() else 0
        loss = result = None
        for step in range(first + EVERY, STEPS + 1, EVERY):
            if error is not None and step >= fails_at:
                raise error("it broke", step, ()) if error is NonFiniteLossError else error("it broke")
            loss = random.Random(f"{self.seed} {job.trial}").random() + 1 / step
            with folder.metrics.open("a") as file:
                line = {"kind": "evaluation", "step": step, "infill": loss, "context": loss, "is_best": True}
                file.write(json.dumps(line) + "\n")
            on_evaluation(Evaluation(step=step, losses={"infill": loss}, is_best=True))
            saved.write_text(str(step))
            result = result_of(steps=step, loss=loss, device="cpu")
            if step < STEPS and (reason := should_stop()):
                return dataclasses.replace(result, stopped=reason)
        folder.model.mkdir(exist_ok=True)
        (folder.model / "model.txt").write_text(job.trial)
        return result


@st.composite
def graphs(draw):
    """Draw the trials' names, parents and searches."""
    trials = {}
    for number in range(draw(st.integers(1, 5))):
        parent = draw(st.sampled_from([None, *trials]))
        asha = draw(st.sampled_from([None, AshaConfig(grace_evaluations=1, reduction=2)]))
        search = SearchConfig(samples=draw(st.integers(1, 6)), space=SPACE, asha=asha)
        trials[f"t{number}"] = (parent, draw(st.sampled_from([None, None, search])))
    return trials


def tasks_of(run, graph):
    return [
        make_task(run, name, parent=parent, search=search, steps=STEPS, evaluate_every=EVERY)
        for name, (parent, search) in graph.items()
    ]


def final_records(run, graph):
    """Return every existing record of trials and samples."""
    folders = [folder for name in graph for folder in (run.trial(name), *run.trial(name).samples())]
    records = {str(folder.root.relative_to(run.root)): read_record(folder) for folder in folders}
    return {name: record for name, record in records.items() if record is not None}


def carry_out(state, rng, trainings, *, lost=0.0):
    """Run as many trainings at once as may run, each ending in a random order; yield each training that has begun."""
    running = []
    for _ in range(2000):
        while (training := state.release()) is not None:
            state.begin(training.name)
            running.append(training)
            yield training
        if not running:
            return
        ended = running.pop(rng.randrange(len(running)))
        if rng.random() < lost:
            outcome = Failed(message="gone", failure=rng.choice([Failure.WORKER, Failure.DRIVER, Failure.PREEMPTED]))
        else:
            how = {"on_evaluation": lambda _: None, "pause_at": ended.pause_at}
            outcome = run_attempt(trainings.train, ended.job, **how)
        state.end(ended.name, outcome)
    raise AssertionError("the sweep never ends")


@quick
@given(
    graph=graphs(),
    cpus=st.integers(1, 4),
    gpus=st.sampled_from([0, 1, 2]),
    share=st.sampled_from([0.4, 0.5, 1]),
    max_failures=st.integers(0, 2),
    fail_fast=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_simulated_sweep_ends_with_final_records_and_respects_limits(
    graph, cpus, gpus, share, max_failures, fail_fast, seed
):
    """Parents are done before their children start, only as many run as fit, and every record says how it ended."""
    rng = random.Random(seed)
    trainings = Trainings(seed, errors=(NonFiniteLossError, TrainingError, MemoryError))
    with tempfile.TemporaryDirectory() as place:
        run = RunFolder(Path(place))
        request, capacity = ResourceRequest(cpus=1, gpus=share if gpus else 0), Capacity(cpus=cpus, gpus=gpus)
        state = SweepState(
            tasks_of(run, graph),
            requests=dict.fromkeys(graph, request),
            capacity=capacity,
            listener=RecordingListener(),
            retries=Retries(max_failures, count(step=3600).__next__),  # an hour passes between two looks
            fail_fast=fail_fast,
        )
        for training in carry_out(state, rng, trainings, lost=0.2):
            parent = graph[parse_name(training.name)[0]][0]
            assert parent is None or read_record(run.trial(parent)).state is State.DONE
            assert state.in_use.cpus <= cpus
            assert state.in_use.gpus <= gpus + 1e-6
        assert state.is_over
        if state.halted:
            state.mark_stopped(state.halted)
        records = final_records(run, graph)
        assert {record.state for record in records.values()} <= FINAL
        if not state.halted:
            assert {record.trial for record in records.values()} >= set(graph)
        for name, (parent, _) in graph.items():
            if not state.halted and parent is not None:
                lost = read_record(run.trial(parent)).state in (State.FAILED, State.BLOCKED)
                assert (read_record(run.trial(name)).state is State.BLOCKED) == lost


@quick
@given(graph=graphs(), cpus=st.integers(2, 8), seed=st.integers(0, 1000))
def test_inline_and_concurrent_execution_give_the_same_records(graph, cpus, seed):
    """The way in which a sweep is executed does not affect states, reasons, attempts, settings tried and models."""
    outcomes = []
    for is_inline in (True, False):
        trainings, rng = Trainings(seed, errors=(NonFiniteLossError, TrainingError)), random.Random(seed)
        with tempfile.TemporaryDirectory() as place:
            run = RunFolder(Path(place))
            tasks = tasks_of(run, graph)
            if is_inline:
                with mock.patch.object(loop, "train", trainings.train):
                    InlineExecutor().train(tasks, RecordingListener())
            else:
                requests = dict.fromkeys(graph, ResourceRequest(cpus=1, gpus=0))
                state = SweepState(
                    tasks, requests=requests, capacity=Capacity(cpus=cpus, gpus=0), listener=RecordingListener()
                )
                for _ in carry_out(state, rng, trainings):
                    pass
            outcomes.append(
                {
                    name: (
                        record.state,
                        record.reason.replace(place, ""),
                        record.attempts if "search" not in record.result else 0,
                        record.failures,
                        record.result.get("best_losses"),
                        [(sample["settings"], sample["loss"]) for sample in record.result["search"]["tried"]]
                        if "search" in record.result
                        else None,
                        model.read_text() if (model := run.root / name / "model" / "model.txt").exists() else None,
                    )
                    for name, record in final_records(run, graph).items()
                }
            )
    assert outcomes[0] == outcomes[1]
