"""What `preview`, `diff`, `check` and `bundle` print about a run."""

import json

import pytest

from raysweep.errors import ConfigError
from raysweep.scheduling import records
from raysweep.scheduling.records import State
from raysweep.storage.atomic_files import write_json, write_text
from raysweep.storage.run_folder import RunFolder


def test_a_preview_shows_the_same_examples_each_time(command):
    """They are drawn with the run's seed; answers follow the blanks that they fill."""
    assert command("prepare").exit_code == command("mask", "--inline").exit_code == 0
    first, again = (command("preview", "--count", 3) for _ in range(2))
    assert first.exit_code == 0
    assert first.stdout == again.stdout
    assert first.stdout.startswith("context  [blank]  → answers start  answer  ■ answer ends")
    assert first.stdout.count("\nexample ") == 3
    assert first.stdout != command("preview", "--count", 3, "--set", "seed=1").stdout


def test_a_preview_shows_the_effect_of_markup_removal(command, tmp_path):
    """It shows the text before and after, only around the first place that changed."""
    text = "A long beginning. " * 9 + "We saw {n} birds &amp; fish.<br>Bye"
    rows = [f"w{n},Thai,{('A1', 'C1')[n % 2]},{text.format(n=n)}" for n in range(40)]
    (tmp_path / "a.csv").write_text("writing_id,l1,cefr_level,text\n" + "\n".join(rows) + "\n")
    sets = ("--set", "data.path=a.csv", "--set", "data.clean=true")
    assert command("prepare", *sets).exit_code == command("mask", "--inline", *sets).exit_code == 0
    shown = command("preview", "--count", 1, *sets).stdout
    assert shown.count(": ng. We saw ") == 3
    assert "w0: ng. We saw 0 birds &amp; fish.<br>Bye → ng. We saw 0 birds & fish.⏎Bye\n" in shown


def test_a_preview_can_be_limited_to_one_level(command):
    """Only documents of that level are shown; a level without examples is named."""
    command("prepare")
    command("mask", "--inline")
    assert command("preview", "--level", "C1", "--count", 2).stdout.count("\nexample ") == 2
    error = command("preview", "--level", "B2").exception
    assert isinstance(error, ConfigError)
    assert str(error) == "--level: found 'B2', which has no examples; levels are A1, C1"


@pytest.mark.parametrize(
    ("words", "missing", "stage"),
    [
        (["preview"], "examples", "mask"),
        (["ilm-export", "--out", "ilm"], "corpus", "prepare"),
        (["mask"], None, "prepare"),
    ],
)
def test_missing_inputs_are_reported_with_the_single_command_that_makes_them(command, words, missing, stage):
    """The command must not also start hours of training."""
    message = f"holds no {missing}; do" if missing else f"needs '{stage}', which is not done; do"
    assert f"{message} `python -m raysweep {stage} --profile tiny --name tiny` first" in str(command(*words).exception)


def test_a_profile_name_with_a_space_is_quoted_in_commands(command, tmp_path):
    """Every other word of the commands is quoted, too."""
    config = tmp_path / "experiments.yaml"
    config.write_text(config.read_text().replace("tiny", "my run"))
    output = str(command("preview", "--name", "pilot").exception)
    assert "do `python -m raysweep mask --profile 'my run' --name pilot` first" in output


@pytest.fixture
def two_runs(tmp_path):
    for name, steps, loss in (("first", 2_000, 2.5), ("second", 4_000, None)):
        folder = RunFolder(tmp_path / "runs" / name)
        write_json(folder.record, {"name": name})
        write_text(folder.config, f"trials:\n  A1: {{steps: {steps}, from: null}}\n")
        record = records.begin(folder.trial("A1"), trial="A1", fingerprint=name, identity={"steps": steps}, now=0.0)
        result = {"best_losses": {"infill": loss}} if loss else {}
        records.end(folder.trial("A1"), record, State.DONE, result=result, now=5.0)


def test_diff_prints_a_row_per_field(command, two_runs):
    """Numbers are formatted for people; a dash means that one side has no such field."""
    result = command("diff", "first", "second")
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["field", "first", "second"],
        ["setting", "trials.A1.steps", "2,000", "4,000"],
        ["result", "A1.best_losses.infill", "2.5", "–"],
    ]


def test_diff_json_prints_one_object(command, two_runs):
    """A null means that one side has no such field."""
    difference = json.loads(command("diff", "first", "second", "--json").stdout)
    assert (difference["first"], difference["second"]) == ("first", "second")
    assert difference["differences"][1] == {
        "kind": "result",
        "field": "A1.best_losses.infill",
        "first": 2.5,
        "second": None,
    }


def test_diff_of_a_run_with_itself_states_that_nothing_differs(command, two_runs):
    """An empty table would be unclear."""
    assert command("diff", "first", "first").stdout == "first and first have the same settings and results\n"


def test_check_names_every_profile_or_the_requested_one(command):
    """Without a profile the whole file is checked; with `--set`, the profile that the setting is applied to."""
    assert command("check").stdout.splitlines()[0] == "experiments.yaml: profile tiny: fine, 1 trials"
    assert command("check", "--profile", "tiny", "--set", "seed=3").stdout == command("check").stdout
    error = command("check", "--profile", "big").exception
    assert isinstance(error, ConfigError)
    assert "'big'" in str(error)
    assert json.loads(command("check", "--schema").stdout)["type"] == "object"


def test_check_notes_a_level_without_a_trial(command):
    """Its documents are prepared and scored, and the trial may be forgotten; without such a level, nothing is noted."""
    both = '{"A1": {"levels": ["A1"], "steps": 2}, "C1": {"levels": ["C1"], "steps": 2}}'
    assert "note: no trial" not in command("check", "--set", f"trials={both}").output
    checked = command("check", "--set", 'trials={"A1": {"levels": ["A1"], "steps": 2}}')
    assert checked.exit_code == 0
    assert "note: no trial trains on C1 of data.levels" in checked.output


def test_the_plan_states_the_steps_assumed_for_a_search(command):
    """Its own steps stand in the config too, and are not those of its samples."""
    space = "{samples: 2, space: {steps: {low: 2, high: 3000}}}"
    output = command("plan", "--set", "trials.A1.warmup_steps=0", "--set", f"trials.A1.search={space}").stdout
    assert "A1: its steps are searched; the forecast takes every sample to have the most, 3,000\n" in output
    assert "6,000 steps in all" in output
