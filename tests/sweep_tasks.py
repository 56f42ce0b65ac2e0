"""A listener that records what it is told, and tasks around tiny trainings."""

from raysweep.config.training_settings import ModelConfig, TrainingConfig
from raysweep.pipeline.tasks import TrainTask
from raysweep.training.job import TrainingJob


class RecordingListener:
    """A listener that records messages, progress and stages."""

    def __init__(self):
        self.lines = []
        self.progress = []
        self.stages = []

    def begin(self, stage):
        self.stages.append(stage)

    def advance(self, stage, done, total, unit):
        self.progress.append((stage, done, total, unit))

    def say(self, message):
        self.lines.append(message)


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
        identity={"name": name},
        parent=parent,
        gpus=gpus,
        search=search,
        fresh=fresh,
    )
