"""What `raysweep plan` says is to be trained is what `raysweep run` trains, whatever is on disk."""

import contextlib
import io
import json
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raysweep.cli.plan_output import print_plan
from raysweep.cli.settings import Settings
from raysweep.errors import ChangedError
from raysweep.pipeline import run_record
from raysweep.pipeline.identities import corpus_identity, examples_identity, trial_identities
from raysweep.scheduling.records import State, TrialRecord, write_record
from raysweep.scheduling.trials import remaining_trials
from raysweep.storage.atomic_files import write_json
from tests.pipeline.conftest import TINY, make_run

TRIALS = {
    "A1": {"levels": ["A1"]},
    "all": {"levels": ["A1", "C1"]},
    "all-C1": {"from": "all", "levels": ["C1"], "steps": 2},
    "later": {"from": "all-C1", "levels": ["C1"], "steps": 2},
}
CHANGED = "done, but with other settings"
STATES = st.fixed_dictionaries({name: st.sampled_from([None, CHANGED, *State]) for name in TRIALS})
FORCED = st.sets(st.sampled_from(list(TRIALS)))
ON_DISK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Trained:
    """An executor that remembers what it was to train."""

    def check(self, listener):
        """Nothing is refused."""

    def __init__(self):
        self.names = []

    def train(self, tasks, _):
        self.names += [task.job.trial for task in tasks]


def run_with(states, place, forced=()):
    """A run whose examples are made, with a record of each trial in its state; None for no record."""
    run = make_run(place, {"trials": TRIALS}, forced=forced, executor=Trained())
    write_json(run.folder.splits, {"counts": {level: {"train": 5, "valid": 5, "test": 5} for level in ("A1", "C1")}})
    for stage, made_with in (("prepare", corpus_identity(run.config, None)), ("mask", examples_identity(run.config))):
        run.record = run_record.mark_done(run.folder, run.record, stage, made_with, seconds=1.0)
    identities, fingerprints = trial_identities(run.config, run.trials)
    for name, state in states.items():
        if state == CHANGED:
            identity = {**identities[name], "steps": 999}
            record = TrialRecord(trial=name, state=State.DONE, fingerprint="another", identity=identity)
            write_record(run.folder.trial(name), record)
        elif state is not None:
            record = TrialRecord(
                trial=name, state=state, fingerprint=fingerprints[name], identity=identities[name], result={}
            )
            write_record(run.folder.trial(name), record)
    return run


def planned(place):
    """The trials that `raysweep plan --json` gives a time to start at."""
    file = place / "experiments.yaml"
    file.write_text(json.dumps({"default": "tiny", "profiles": {"tiny": {**TINY, "trials": TRIALS}}}))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_plan(Settings(file=file, storage=str(place)), as_json=True, gpus=[])
    return [trial["trial"] for trial in json.loads(out.getvalue())["trials"] if trial["starts_at_s"] is not None]


@ON_DISK
@given(states=STATES)
def test_the_run_trains_what_the_plan_announced(states):
    """The same trials in the same order; or nothing, where the run must ask because settings changed."""
    with tempfile.TemporaryDirectory() as place:
        run = run_with(states, Path(place))
        announced = planned(Path(place))
        try:
            run.do("train")
        except ChangedError:
            assert CHANGED in states.values()
            assert run.executor.names == []
        else:
            assert run.executor.names == announced


@ON_DISK
@given(states=STATES, forced=FORCED)
def test_the_budget_is_asked_about_what_is_trained(states, forced):
    """What is forced is counted, and what starts from it."""
    done = [name for name, state in states.items() if state in (CHANGED, State.DONE)]
    with tempfile.TemporaryDirectory() as place:
        run = run_with(states, Path(place), forced)
        with contextlib.suppress(ChangedError):
            run.do("train")
            assert run.executor.names == list(remaining_trials(run.trials, done, forced))
