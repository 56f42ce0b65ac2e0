"""What differs between two runs, or two trials."""

import pytest

from raysweep.cli.diff_output import print_differences
from raysweep.errors import ConfigError, InputError
from raysweep.evidence.evidence_schema import EVIDENCE_VERSION
from raysweep.pipeline.run_diff import find_differences, read_compared
from raysweep.scheduling import records
from raysweep.scheduling.records import State
from raysweep.storage.atomic_files import write_json, write_text
from raysweep.storage.run_folder import RunFolder


def finish(folder, name, *, identity, **result):
    record = records.begin(folder, trial=name, fingerprint=name, identity=identity, now=0.0)
    records.end(folder, record, State.DONE, result=result, now=5.0)


def make_run(storage, name, *, steps, loss, verdict):
    folder = RunFolder(storage / name)
    write_json(folder.record, {"name": name})
    write_text(folder.config, f"seed: 0\ntrials:\n  A1: {{steps: {steps}, levels: [A1]}}\n")
    answer = {"headline": f"{verdict}.", "reasons": [{"code": "H1", "verdict": verdict}]}
    write_json(folder.evidence, {"version": EVIDENCE_VERSION, "answer": answer})
    finish(folder.trial("A1"), "A1", identity={"steps": steps, "seed": 0}, best_losses={"infill": loss})
    return folder


@pytest.fixture
def pilot(tmp_path):
    make_run(tmp_path, "other", steps=20, loss=2.5, verdict="refuted")
    folder = make_run(tmp_path, "pilot", steps=10, loss=3.5, verdict="supported")
    finish(folder.trial("B1"), "B1", identity={"steps": 10, "seed": 1}, best_losses={"infill": 3.5})
    return folder


def differences(folder, first, second):
    differing = find_differences(*(read_compared(name, folder=folder) for name in (first, second)))
    return {(difference.kind, difference.field): (difference.first, difference.second) for difference in differing}


def test_diff_shows_differing_settings_trials_and_answers_of_two_runs(pilot):
    """Values that are equal, and the times of the runs, are not shown."""
    assert differences(pilot, "pilot", "other") == {
        ("setting", "trials.A1.steps"): (10, 20),
        ("result", "answer"): ("supported.", "refuted."),
        ("result", "answer.H1"): ("supported", "refuted"),
        ("result", "A1.best_losses.infill"): (3.5, 2.5),
        ("result", "B1.state"): ("done", None),
        ("result", "B1.reason"): ("", None),
        ("result", "B1.attempts"): (1, None),
        ("result", "B1.busy_seconds"): (5.0, None),
        ("result", "B1.best_losses.infill"): (3.5, None),
    }


def test_diff_compares_two_trials_of_one_run_or_of_two(pilot):
    """They are named by trial of the current run, or as RUN/TRIAL."""
    assert differences(pilot, "A1", "B1") == {("setting", "seed"): (0, 1)}
    assert differences(pilot, "A1", "other/A1") == {
        ("setting", "steps"): (10, 20),
        ("result", "best_losses.infill"): (3.5, 2.5),
    }


def test_a_report_of_another_version_is_named_with_the_command_that_makes_it_again(pilot):
    """Its scores have another form, which ended the command as a fault in raysweep."""
    score = {"level": "A1", "metric": "infill_textonly", "bits_per_byte": 1.5}
    write_json(pilot.evidence, {"version": 1, "answer": {"headline": "x", "reasons": []}, "scores": [score]})
    with pytest.raises(InputError, match=r"evidence.json: was written by another version .* --force report"):
        differences(pilot, "pilot", "other")


def test_comparing_a_run_with_a_trial_is_refused(pilot):
    """The message says which is which."""
    with pytest.raises(ConfigError, match="'pilot' is a run and 'A1' a trial"):
        differences(pilot, "pilot", "A1")


def test_an_unknown_run_or_trial_name_is_refused(pilot):
    """The message says what was looked for, and where."""
    with pytest.raises(ConfigError, match=r"'C9': found neither a run of this name in .*; give a run, a trial"):
        differences(pilot, "C9", "A1")


def test_the_run_of_a_missing_trial_is_named(pilot):
    """The message named the run of the profile, also for a trial of another run."""
    for name, message in (
        ("other/C9", "nor a trial 'C9' of the run 'other' with a record, nor a folder"),
        ("C9", "nor a trial 'C9' of the run 'pilot' with a record, nor a folder"),
        ("oter/A1", r"nor a trial 'A1' of the run 'oter' with a record \(there is no run 'oter'; --name names"),
    ):
        with pytest.raises(ConfigError, match=message):
            differences(pilot, name, "A1")


def test_runs_with_different_tokenizers_are_compared_in_bits_per_byte(tmp_path, capsys):
    """Their tokens differ, and so do their losses per token; the test also covers a tokenizer set in only one run."""
    for name, tokenizer, bits in (("old", None, 1.5), ("gpt2", "gpt2", 1.5), ("corpus", "corpus", 1.25)):
        folder = make_run(tmp_path, name, steps=10, loss=3.5, verdict="supported")
        write_text(folder.config, f"model: {{tokenizer: {tokenizer}}}\n" if tokenizer else "seed: 0\n")
        answer = {"headline": "x", "reasons": []}
        score = {"level": "A1", "bits_per_byte": {"A1": bits}}
        scores = [score | {"metric": metric} for metric in ("context", "infill_textonly")]
        write_json(folder.evidence, {"version": EVIDENCE_VERSION, "answer": answer, "scores": scores})
    for first, is_told in (("old", False), ("corpus", True)):
        rows = find_differences(*(read_compared(name, folder=folder) for name in (first, "gpt2")))
        values = {row.field: (row.first, row.second) for row in rows}
        assert values.get("A1.bits_per_byte.A1") == ((1.25, 1.5) if is_told else None)
        print_differences(first, "gpt2", rows, as_json=False)
        assert ("bits_per_byte can" in capsys.readouterr().out) is is_told
