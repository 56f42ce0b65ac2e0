"""What `raysweep plan` announces is what `raysweep run` trains, whatever is on disk."""

import contextlib
import io
import json
import tempfile
from pathlib import Path
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from raysweep.cli.app import app
from raysweep.cli.plan_output import print_plan
from raysweep.cli.settings import Settings
from raysweep.errors import ChangedError, RaysweepError
from raysweep.pipeline import run_record
from raysweep.pipeline.identities import corpus_identity, examples_identity, trial_identities
from raysweep.scheduling.records import State, TrialRecord, begin, end, read_model_digest, write_record
from raysweep.scheduling.trials import remaining_trials
from raysweep.storage.atomic_files import write_json, write_text
from raysweep.storage.run_folder import TrialFolder
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
ON_DISK = settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


class Trained:
    """An executor that records the trials it was asked to train."""

    def check(self, listener):
        """Refuse nothing."""

    def __init__(self):
        self.names = []

    def train(self, tasks, _):
        self.names += [task.job.trial for task in tasks]


def run_with(states, place, forced=()):
    """Make a run with examples and a record of each trial in its state; None for no record."""
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


def planned(place, forced=(), extended=(), **changes):
    """Return the trials that `raysweep plan --json` schedules, its exit code, and its output."""
    file = place / "experiments.yaml"
    file.write_text(json.dumps({"default": "tiny", "profiles": {"tiny": {**TINY, "trials": TRIALS, **changes}}}))
    settings = Settings(file=file, storage=str(place))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = print_plan(settings, as_json=True, gpus=[], forced=list(forced), extended=list(extended))
    plan = json.loads(out.getvalue())
    return [trial["trial"] for trial in plan["trials"] if trial["starts_at_s"] is not None], code, plan


@ON_DISK
@given(states=STATES, forced=FORCED)
def test_run_trains_the_trials_announced_by_plan(states, forced):
    """The trials and their order agree; where changed settings make the run ask, nothing is trained."""
    with tempfile.TemporaryDirectory() as place:
        run = run_with(states, Path(place), forced)
        announced, code, output = planned(Path(place), forced)
        refused: list[str] = []
        try:
            run.do("train")
        except ChangedError as error:
            refused, announced = list(error.problems), []
        assert run.executor.names == announced
        assert output["refusal"] == refused
        assert (code == 2) == bool(refused)
        assert CHANGED in states.values() or not refused


class StartedError(Exception):
    """Raised when a run begins its first stage, so it has refused nothing."""


def outcome(run):
    """Return what a run of all stages refuses; [] if it begins."""

    def begin(stage):
        raise StartedError

    run.listener.begin = begin
    try:
        run.do()
    except StartedError:
        return []
    except RaysweepError as error:
        return str(error).splitlines()


DONE, MISSING, CUT, REMADE = "done", "never made", "a file is cut short", "its input was made again"
PREPARED = st.sampled_from([DONE, MISSING, CHANGED, CUT])
MASKED = st.sampled_from([DONE, MISSING, CHANGED, CUT, REMADE])


@ON_DISK
@given(states=STATES, prepared=PREPARED, masked=MASKED, thin=st.booleans(), forced=FORCED)
def test_plan_refuses_what_run_refuses(states, prepared, masked, thin, forced):
    """This holds in every state of the table of decisions, word for word; planning changes nothing on disk."""
    with tempfile.TemporaryDirectory() as place:
        run = run_with(states, Path(place), forced)
        settle_stages(run, prepared, masked, thin=thin)
        before = {path: path.read_bytes() for path in Path(place).rglob("*") if path.is_file()}
        _, code, output = planned(Path(place), forced)
        after = {path: path.read_bytes() for path in Path(place).rglob("*") if path.is_file()}
        assert {path: data for path, data in after.items() if path.name != "experiments.yaml"} == before
        run.command = Settings(file=Path(place) / "experiments.yaml", storage=place).command()
        assert output["refusal"] == outcome(run)
        assert (code == 0) == (output["refusal"] == [])


def settle_stages(run, prepared, masked, *, thin):
    """Put the corpus and the examples into a state."""
    folder, record = run.folder, run.record
    counts = {level: {"train": 5, "valid": 0 if thin else 5, "test": 5} for level in ("A1", "C1")}
    write_json(folder.splits, {"counts": counts})
    write_text(folder.examples / "shard-00000.examples", "examples")
    made = {
        "prepare": (prepared, corpus_identity(run.config, None), [folder.splits], {}),
        "mask": (masked, examples_identity(run.config), [folder.examples], {"documents": "another"}),
    }
    for stage, (state, identity, outputs, made_from) in made.items():
        record = run_record.forget(folder, record, stage)
        if state == MISSING:
            continue
        identity = {**identity, "seed": 999} if state == CHANGED else identity
        now = (
            made_from
            if state == REMADE
            else run.stages["mask"].targets(record.stages)[0].made_from
            if made_from
            else {}
        )
        record = run_record.mark_done(folder, record, stage, identity, seconds=1.0, outputs=outputs, made_from=now)
        if state == CUT:
            file = next(path for output in outputs for path in ([output] if output.is_file() else output.iterdir()))
            file.write_text(file.read_text()[:-3])
    run.record = record


class Finished(Trained):
    """An executor that leaves the records and models of finished trainings."""

    def train(self, tasks, listener):
        super().train(tasks, listener)
        for task in tasks:
            if task.fresh:
                task.folder.clear()
            parent = TrialFolder(task.folder.root.with_name(task.parent)) if task.parent else None
            made_from = {**task.made_from, **({"parent": read_model_digest(parent)} if parent else {})}
            job = task.job
            work = {"trial": job.trial, "fingerprint": job.fingerprint, "identity": task.identity}
            record = begin(task.folder, **work, made_from=made_from)
            write_text(task.folder.model / "weights", f"{job.fingerprint} {made_from}")
            end(task.folder, record, State.DONE, result={"steps": job.settings.steps, "resumable": True})


COMMANDS = st.fixed_dictionaries(
    {
        "steps": st.dictionaries(st.sampled_from(["A1", "all", "all-C1"]), st.sampled_from([2, 6, 8]), max_size=1),
        "forced": st.sets(st.sampled_from(["A1", "all", "all-C1", "later"]), max_size=1),
        "is_extended": st.booleans(),
        "examples": st.sampled_from(["as before", "as before", "made again"]),
    }
)


@settings(ON_DISK, max_examples=20)
@given(commands=st.lists(COMMANDS, min_size=2, max_size=4))
def test_plan_and_run_agree_over_sequences_of_commands(commands):
    """Whatever earlier commands trained, extended, forced or remade, both agree on the trainings or the refusal."""
    keeping = {"training": {**TINY["training"], "keep": "resume"}}
    with tempfile.TemporaryDirectory() as place, patch("raysweep.model.checkpoints.Checkpoints.take_over"):
        run_with(dict.fromkeys(TRIALS), Path(place))
        steps = dict.fromkeys(TRIALS, 4)
        for number, command in enumerate(commands):
            wanted = {**steps, **command["steps"]}
            trials = {name: {**trial, "steps": wanted[name]} for name, trial in TRIALS.items()}
            asked = {"forced": command["forced"], "extended": [*command["steps"]] if command["is_extended"] else []}
            changes = {**keeping, "trials": trials}
            run = make_run(Path(place), changes, executor=Finished(), **asked)
            if command["examples"] == "made again":
                write_text(run.folder.examples / "shard-00000.examples", f"examples {number}")
                made_from = run.stages["mask"].targets(run.record.stages)[0].made_from
                made = {"seconds": 1.0, "outputs": [run.folder.examples], "made_from": made_from}
                run.record = run_record.mark_done(run.folder, run.record, "mask", examples_identity(run.config), **made)
            announced, code, output = planned(Path(place), **asked, **changes)
            refused: list[str] = []
            try:
                run.do("train")
            except RaysweepError as error:
                refused, announced = str(error).splitlines(), []
            assert run.executor.names == announced
            assert output["refusal"] == refused
            assert (code == 2) == bool(refused)
            if not refused:
                steps = wanted
                again = make_run(Path(place), changes, executor=Finished())
                again.do("train")
                assert again.executor.names == [], "what is done is not done again"


def test_a_changed_trial_is_reported_with_the_required_option(tmp_path, capsys):
    """The plan names the setting, both values and the option, and ends with the run's exit code for refusal."""
    run_with({**dict.fromkeys(TRIALS, State.DONE), "A1": CHANGED}, tmp_path)
    file = tmp_path / "experiments.yaml"
    _, code, output = planned(tmp_path)
    assert code == 2
    rows = {trial["trial"]: trial for trial in output["trials"]}
    assert (rows["A1"]["state"], rows["A1"]["reason"]) == ("changed", "changed (steps: 999 → 4): needs --force A1")
    assert (rows["all"]["state"], rows["all"]["reason"]) == ("done", None)
    assert print_plan(Settings(file=file, storage=str(tmp_path)), as_json=False, gpus=None) == 2
    output = capsys.readouterr()
    assert "A1: changed (steps: 999 → 4): needs --force A1" in output.out
    assert output.err.startswith("run would refuse to start:\ntrial 'A1': its config differs")
    assert print_plan(Settings(file=file, storage=str(tmp_path)), as_json=False, gpus=None, forced=["A1"]) == 0
    assert "A1: forced" in capsys.readouterr().out


def test_run_dry_run_equals_plan(tmp_path, monkeypatch):
    """Output and exit code are the same."""
    run_with({**dict.fromkeys(TRIALS, State.DONE), "A1": CHANGED}, tmp_path)
    planned(tmp_path)
    monkeypatch.chdir(tmp_path)
    words = ["--storage", str(tmp_path)]
    dry, plan = (CliRunner().invoke(app, [*command, *words]) for command in (["run", "--dry-run"], ["plan"]))
    assert dry.output == plan.output
    assert dry.exit_code == plan.exit_code == 2


@ON_DISK
@given(states=STATES, forced=FORCED)
def test_the_budget_check_counts_only_trials_to_train(states, forced):
    """Forced trials and their children are counted."""
    done = [name for name, state in states.items() if state in (CHANGED, State.DONE)]
    with tempfile.TemporaryDirectory() as place:
        run = run_with(states, Path(place), forced)
        with contextlib.suppress(ChangedError):
            run.do("train")
            assert run.executor.names == list(remaining_trials(run.trials, done, forced))
