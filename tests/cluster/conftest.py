"""One Ray session for a module, a listener that remembers, and tasks around tiny trainings."""

import os
import sys
from pathlib import Path

import pytest

from raysweep.config.running import ResourcesConfig
from raysweep.config.trials import ModelConfig, TrainingConfig
from raysweep.pipeline.work import TrainTask
from raysweep.store import RunFolder
from raysweep.training.job import TrainingJob

HERE = str(Path(__file__).parent)
# `fake_trainings` is imported by name: here, and by the workers, which inherit the environment.
sys.path.insert(0, HERE)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")]))


class Remembering:
    """A listener for tests."""

    def __init__(self):
        self.lines = []
        self.progress = []

    def advance(self, stage, done, total, unit):
        self.progress.append((stage, done, total, unit))

    def say(self, message):
        self.lines.append(message)


@pytest.fixture(scope="module")
def listener():
    return Remembering()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return RunFolder(tmp_path_factory.mktemp("runs") / "run with a space")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Two CPUs and a GPU that is only said to be there; trials run on a CPU unless they ask for the GPU."""
    from raysweep.cluster.session import open_session

    resources = ResourcesConfig(max_failures=1, gpus_per_trial=0)
    with open_session(resources, scratch=tmp_path_factory.mktemp("ray"), cpus=2, gpus=1) as session:
        yield session


def make_task(run, name, *, parent=None, search=None, fresh=False, gpus=None, **settings):
    """A trial whose `steps` and `learning_rate` tell the fake training what to do."""
    job = TrainingJob(
        trial=name,
        folder=run.trial(name).root,
        examples=run.examples,
        levels=("A1",),
        settings=TrainingConfig(**{"steps": 3, **settings}),
        model=ModelConfig(),
        start="scratch" if parent is None else str(run.trial(parent).model),
        seed=7,
        max_tokens=16,
        fingerprint=f"print-of-{name}",
    )
    return TrainTask(
        job=job,
        folder=run.trial(name),
        identity={"name": name},
        parent=parent,
        gpus=gpus,
        search=search,
        fresh=fresh,
    )
