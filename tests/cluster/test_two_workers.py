"""A trial with two GPUs trains on two of Ray Train's workers as one worker would; one of them may be lost."""

import threading
from dataclasses import replace

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from raysweep.config.resource_settings import ResourcesConfig
from raysweep.pipeline.inline_executor import InlineExecutor
from raysweep.scheduling.records import State, read_record
from raysweep.training.metrics import read_metrics
from tests.cluster.listening import exposed_listeners
from tests.pipeline.conftest import make_run

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
CHANGES = {
    "training": {
        "steps": 24,
        "batch_size": 5,
        "accumulation": 2,
        "learning_rate": 3e-4,
        "evaluate_every": 8,
        "checkpoint_every": 8,
        "valid_examples": 8,
    },
    "model": {"dropout": 0.0},
    "trials": {"A1": {"levels": ["A1"], "gpus": 2}},
}


class OnRay(InlineExecutor):
    """Train on Ray, and do the rest in this process."""

    def __init__(self, session, train):
        super().__init__()
        self.session, self.function = session, train

    def train(self, tasks, listener):
        from raysweep.cluster.sweep import run_sweep

        run_sweep(self.session, tasks, listener, storage=tasks[0].job.folder.parents[1] / "ray", train=self.function)


class Listeners(threading.Thread):
    """Record, every half second, which processes of this session listen outside the loopback interface."""

    def __init__(self):
        super().__init__(daemon=True)
        self.exposed, self.workers, self.is_over = set(), 0, threading.Event()

    def run(self):
        while not self.is_over.wait(0.5):
            family = psutil.Process().children(recursive=True)
            listening = [process for process in family if is_train_worker(process)]
            self.workers = max(self.workers, len(listening))
            self.exposed |= set(exposed_listeners(family))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.join()


def is_train_worker(process):
    try:
        return "RayTrainWorker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


@pytest.fixture
def two_gpus(session):
    """Trials ask for GPUs that no machine has; their workers communicate by gloo."""
    return replace(session, resources=ResourcesConfig(max_failures=1))


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory):
    """Return the trial's folder of the same run without Ray."""
    return trained(tmp_path_factory.mktemp("one"), InlineExecutor())


def trained(storage, executor):
    """Return the trial's folder of a run up to its training."""
    run = make_run(storage, CHANGES, executor=executor)
    assert run.do("prepare", "mask", "train") == []
    return run.folder.trial("A1")


def assert_same_training(ours, theirs):
    """Check that every step occurs once; losses agree to 1e-4, and weights to the rounding of sums in another order."""
    lines = [read_metrics(folder.metrics) for folder in (ours, theirs)]
    assert [(line["kind"], line["step"]) for line in lines[0]] == [(line["kind"], line["step"]) for line in lines[1]]
    for our_line, their_line in zip(*lines, strict=True):
        for name in our_line.keys() - {"kind", "step", "is_best"}:
            assert our_line[name] == pytest.approx(their_line[name], rel=1e-4), (our_line["step"], name)
    models = [load_file(folder.model / "model.safetensors") for folder in (ours, theirs)]
    for name, weights in models[0].items():
        np.testing.assert_allclose(weights, models[1][name], atol=2e-4, err_msg=name)


def test_two_workers_train_the_same_model_as_one(two_gpus, one_worker, tmp_path):
    """Each takes half of every batch, and they add up their gradients; nobody else can connect to their store.

    PyTorch's store used to listen on every interface.
    """
    with Listeners() as listeners:
        folder = trained(tmp_path, OnRay(two_gpus, "tests.cluster.fake_trainings:train_on_cpu"))
    assert listeners.workers >= 2
    assert listeners.exposed == set()
    assert_same_training(folder, one_worker)
    assert read_record(folder).attempts == 1


@pytest.mark.slow
def test_a_training_that_loses_one_of_two_workers_resumes_with_two(two_gpus, one_worker, tmp_path):
    """The other worker waits for it in a collective operation, and is ended with it."""
    train = "tests.cluster.fake_trainings:train_and_lose_the_second_worker"
    folder = trained(tmp_path, OnRay(two_gpus, train))
    record = read_record(folder)
    assert (record.state, record.attempts, record.failures) == (State.DONE, 2, {"lost worker": 1})
    assert_same_training(folder, one_worker)
