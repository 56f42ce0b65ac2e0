"""`run` and its stages from the command line: messages, and exit codes that scripts rely on."""

import json
import re
import shlex

import pytest

import raysweep
from raysweep.errors import ChangedError, ConfigError, InputError


def test_a_run_does_all_stages_once_and_exits_with_0(command):
    """The second time, every stage is skipped; a changed setting is refused with the options that help."""
    first = command("run", "--inline")
    assert first.exit_code == 0, first.output
    assert "evaluate: scored 2 of 2 models" in first.stdout
    assert "report: " in first.stdout.splitlines()[-1]
    second = command("run", "--inline")
    assert second.exit_code == 0
    assert [line.split(",")[0] for line in second.stdout.splitlines()] == [
        "prepare: skip",
        "mask: skip",
        "A1: skip",
        "evaluate: skip",
        "report: skip",
    ]
    error = command("run", "--inline", "--set", "trials.A1.steps=3").exception
    assert isinstance(error, ChangedError)
    assert error.exit_code == 2
    assert "Use --force A1" in str(error)


@pytest.mark.parametrize(("stage", "need"), [("mask", "prepare"), ("train", "mask"), ("report", "evaluate")])
def test_a_stage_of_a_missing_run_creates_nothing(command, tmp_path, stage, need):
    """The lock, taken before the refusal, left a folder that looked like a run."""
    refused = command(stage, "--name", "absent").exception
    assert isinstance(refused, ConfigError)
    assert f"stage '{stage}' needs '{need}', which is not done; do `python -m raysweep {need} " in str(refused)
    assert not (tmp_path / "runs").exists()


def test_a_command_in_an_api_message_can_be_pasted(command, tmp_path):
    """It names the run's storage, config, profile and settings, which contain spaces."""
    (tmp_path / "my texts").mkdir()
    (tmp_path / "experiments.yaml").rename(tmp_path / "my texts" / "experiments.yaml")
    place = ("--name", "pilot", "--storage", "a place", "--config", "my texts/experiments.yaml")
    assert command("prepare", *place, "--set", "trials.A1.steps=1").exit_code == 0
    with pytest.raises(InputError) as refused:
        raysweep.load("a place/pilot").losses()
    (pasted,) = re.findall(r"losses\.parquet: not there; do `(.*)` first$", str(refused.value))
    assert shlex.split(pasted)[0] == "raysweep"
    assert command(*shlex.split(pasted)[1:], "--inline").exit_code == 0
    run = raysweep.load("a place/pilot")
    assert len(run.losses())
    assert run.config.trials["A1"].steps == 1


def test_a_failed_trial_exits_with_1_and_its_reason_on_stderr(command, tmp_path):
    """The configured notification is sent, too."""
    tell = json.dumps(["sh", "-c", 'printf %s "$1" > "$0"', f"{tmp_path}/told"])
    result = command("run", "--inline", "--set", "trials.A1.learning_rate=1e30", "--set", f"notify.command={tell}")
    assert result.exit_code == 1
    assert result.stderr.startswith("failed: A1: ")
    assert (tmp_path / "told").read_text().startswith("tiny: failed, 0 of 1 trials are done. A1: ")


def test_an_insufficient_budget_is_refused(command):
    """It is refused before anything is done, with exit code 2."""
    error = command("run", "--inline", "--set", "budget.wall_hours=1e-9").exception
    assert isinstance(error, ConfigError)
    assert error.exit_code == 2
    assert "budget.wall_hours: found 1e-09" in str(error)
