"""Six tiny trainings and five children on two GPUs declared to Ray: who ran when, according to the records.

pytest -m slow -s tests/cluster/test_timeline.py      print the figures
"""

from itertools import pairwise

import pytest

from raysweep.config.loading import parse_config
from raysweep.config.resource_settings import ResourcesConfig
from raysweep.pipeline.inline_executor import InlineExecutor
from raysweep.pipeline.jobs import train_tasks
from raysweep.pipeline.run import Run
from raysweep.scheduling.attempts import read_events
from raysweep.scheduling.ledger import collect_ledger
from raysweep.scheduling.records import State, read_record
from raysweep.storage.run_folder import RunFolder
from tests.sweep_tasks import RecordingListener

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # Ray leaves the handles of the processes that it started to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LEVELS = ["A1", "A2", "B1", "B2", "C1"]
CONFIG = {
    "data": {"sample": {"rows": 1000, "level_shares": dict.fromkeys(LEVELS, 20)}},
    "masking": {"examples_per_document": 2, "max_tokens": 64},
    "evaluation": {"examples_per_document": 1},
    "training": {"steps": 60, "batch_size": 4, "learning_rate": 1e-3, "evaluate_every": 30, "valid_examples": 16},
    "trials": {
        **{level: {"levels": [level]} for level in LEVELS},
        "all": {"levels": LEVELS, "steps": 90},
        **{f"all-{level}": {"from": "all", "levels": [level], "steps": 30} for level in LEVELS},
    },
}
GPUS = 2


@pytest.fixture(scope="module", params=["shared", "own"])
def sweep(request, shared_ray, tmp_path_factory):
    """Return how the trainings got their processes, and the run of a finished sweep."""
    from raysweep.cluster.session import open_session
    from raysweep.cluster.sweep import run_sweep

    while shared_ray:
        shared_ray.pop().close()
    config = parse_config(CONFIG)
    folder = RunFolder(tmp_path_factory.mktemp("timeline") / "run")
    run = Run(
        config=config,
        profile="tiny",
        folder=folder,
        executor=InlineExecutor(),
        listener=RecordingListener(),
        command=[],
    )
    run.do("prepare")
    run.do("mask")
    targets = {target.name: target for target in run.stages["train"].targets({})}
    tasks = train_tasks(
        config,
        folder,
        list(run.trials.values()),
        targets,
        costs={name: float(trial.settings.steps) for name, trial in run.trials.items()},
        fresh=(),
    )
    resources = ResourcesConfig(gpus_per_trial=1, train_workers=request.param)
    with open_session(resources, scratch=folder.ray, cpus=GPUS, gpus=GPUS) as session:
        run_sweep(session, tasks, RecordingListener(), storage=folder.ray)
    return request.param, run


def times(run):
    """Return by trial when it took its GPU, and when it returned the GPU."""
    by_trial = {}
    for name in run.trials:
        events = {event["what"]: event["at"] for event in read_events(run.folder.trial(name))}
        by_trial[name] = (events["begin"], events["over"])
    return by_trial


def test_all_eleven_trials_finish_at_the_first_attempt(sweep):
    """The models are real."""
    _, run = sweep
    records = [read_record(run.folder.trial(name)) for name in run.trials]
    assert [(record.state, record.attempts) for record in records] == [(State.DONE, 1)] * 11


def test_no_child_starts_before_its_parent_ends(sweep):
    """A child needs its parent's model."""
    _, run = sweep
    by_trial = times(run)
    for name, trial in run.trials.items():
        if trial.parent is not None:
            assert by_trial[name][0] >= by_trial[trial.parent][1]


def test_independent_trials_run_concurrently_within_the_gpu_limit(sweep):
    """Two run at a time, from the first to the last but one."""
    _, run = sweep
    together = [busy for _, _, busy, _ in moments(run)]
    assert max(together) == GPUS


def moments(run):
    """Return (start, end, GPUs in use, trials waiting for a GPU) between any two events."""
    by_trial = times(run)
    edges = sorted({at for begin, over in by_trial.values() for at in (begin, over)})
    for since, until in pairwise(edges):
        busy = sum(begin <= since < over for begin, over in by_trial.values())
        waiting = sum(
            begin > since and (trial.parent is None or by_trial[trial.parent][1] <= since)
            for (begin, _), trial in zip(by_trial.values(), run.trials.values(), strict=True)
        )
        yield since, until, busy, waiting


def test_no_gpu_is_idle_while_a_ready_trial_waits(sweep, capsys):
    """An exception is at most 15 % of the time between first start and last end, in which processes start."""
    how, run = sweep
    by_trial = times(run)
    window = max(over for _, over in by_trial.values()) - min(begin for begin, _ in by_trial.values())
    idle = sum((until - since) * min(GPUS - busy, waiting) for since, until, busy, waiting in moments(run)) / GPUS
    seconds = collect_ledger(run.folder, list(run.trials))["total"]
    with capsys.disabled():
        shares = ", ".join(f"{part} {value / len(by_trial):.1f} s" for part, value in seconds.items())
        print(f"\n{how}: {window:.0f} s, idle beside waiting {idle / window:.1%}; a trial: {shares}")
    assert idle <= 0.15 * window


def test_the_models_equal_those_of_a_run_without_ray(sweep, tmp_path):
    """They are equal to the bit: a training leaves nothing in its process that changes the next one's weights."""
    from dataclasses import replace

    import torch

    from raysweep.pipeline.jobs import training_job
    from raysweep.training.loop import train

    torch.set_num_threads(1)
    _, run = sweep
    for name in ("C1", "all-C1"):
        folder = run.folder.trial(name)
        job = training_job(run.config, run.folder, run.trials[name], read_record(folder).fingerprint)
        train(replace(job, folder=tmp_path / name), device="cpu")
        ours = (tmp_path / name / "model" / "model.safetensors").read_bytes()
        assert ours == (folder.model / "model.safetensors").read_bytes()
