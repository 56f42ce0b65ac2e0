"""Conventions of command lines: -h, --version, completion, --json, quiet mode, and output that can be piped."""

import io
import json
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from shlex import quote

import pytest
import yaml
from typer.testing import CliRunner

from raysweep import __version__
from raysweep.cli import doctor
from raysweep.cli.app import app
from raysweep.cli.progress_view import trial_table
from raysweep.cli.run_commands import _failure_line
from raysweep.cli.settings import Settings
from raysweep.cli.terminal import PrintableConsole
from raysweep.errors import ConfigError, DamagedError
from raysweep.pipeline.status import TrialStatus, Unfinished
from raysweep.scheduling.records import State
from tests.cli.test_options import commands

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("words", [[], *([name] for name in ("run", "plan", "status", "doctor", "infill", "runs"))])
def test_h_is_an_alias_for_help(words):
    """This is the common convention."""
    short, long = (CliRunner().invoke(app, [*words, flag]) for flag in ("-h", "--help"))
    assert short.exit_code == long.exit_code == 0
    assert short.output == long.output
    assert short.output.startswith("Usage: ")


def test_the_version_is_printed():
    """Bug reports need it."""
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"raysweep {__version__}\n")


def test_shell_completion_is_available():
    """The script for bash contains the program's name."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from raysweep.cli.app import main; sys.argv = ['raysweep']; main()"],
        env={"_RAYSWEEP_COMPLETE": "complete_bash", "COMP_WORDS": "raysweep pla", "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.stdout.split() == ["plan"], done.stderr


def test_the_help_is_not_truncated_at_80_columns(monkeypatch):
    """The list of commands can be read at a glance; every command's description is complete."""
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(app, ["--help"], terminal_width=80).output
    assert "..." not in shown.split("Commands:")[1]
    for name in commands():
        lines = CliRunner().invoke(app, [*name.split(), "--help"], terminal_width=80).output.splitlines()
        assert max(map(len, lines)) <= 80, name
        assert not any("<list" in line for line in lines if line.startswith("  -")), name


@pytest.fixture
def prepared(command):
    assert command("prepare").exit_code == 0
    return command


def test_runs_are_listed_with_their_progress(prepared, tmp_path):
    """A folder without runs gives an empty list, and a wrong folder an error."""
    row = json.loads(prepared("runs", "--json").output)[0]
    assert (row["run"], row["profile"], row["reached"], row["answer"]) == ("tiny", "tiny", "prepare", "")
    header, line = prepared("runs").output.splitlines()
    assert header.split() == ["run", "profile", "began", "done", "answer"]
    assert line.split()[:2] == ["tiny", "tiny"]
    (tmp_path / "empty").mkdir()
    assert prepared("runs", "--storage", "empty").output == "no runs in empty\n"
    error = prepared("runs", "--storage", "none").exception
    assert isinstance(error, ConfigError)
    assert str(error) == "--storage: no folder 'none'; `raysweep run` makes it, or name another"


def test_a_damaged_run_is_listed_as_damaged(prepared, tmp_path):
    """Otherwise nobody would find it."""
    (tmp_path / "runs" / "tiny" / "run.json").write_text("{")
    (row,) = json.loads(prepared("runs", "--json").output)
    assert row["reached"] == "unreadable"
    assert "is damaged" in row["answer"]


def test_the_status_of_a_truncated_record_is_an_error(prepared, tmp_path):
    """Otherwise it would look like a waiting run, but the next `run` would refuse."""
    record = tmp_path / "runs" / "tiny" / "run.json"
    record.write_bytes(record.read_bytes()[:-40])
    for words in (["status"], ["status", "--json"]):
        error = prepared(*words).exception
        assert isinstance(error, DamagedError)
        assert str(error).startswith(f"{record}: is damaged")
        assert "delete it and run again" in str(error)


def test_status_and_doctor_print_json(prepared, monkeypatch):
    """Scripts that watch a run or a machine need it."""
    status = json.loads(prepared("status", "--json").output)
    assert status["run"] == "tiny"
    assert [(row["trial"], row["state"], row["step"]) for row in status["trials"]] == [("A1", "pending", 0)]
    monkeypatch.delitem(doctor.CHECKS, "Ray")
    result = prepared("doctor", "--json")
    status = json.loads(result.output)
    assert status["ok"] is True
    assert {check["check"]: check["ok"] for check in status["checks"]} == dict.fromkeys(doctor.CHECKS, True)
    wrong = prepared("doctor", "--json", "--set", "data.path=none.csv")
    assert wrong.exit_code == 1
    assert json.loads(wrong.output)["ok"] is False


def test_quiet_prints_only_warnings_and_errors(command):
    """Warnings and errors are still printed."""
    loud, quiet = command("prepare"), command("prepare", "-q", "--force", "prepare")
    assert "prepare: 40 documents" in loud.output
    assert quiet.exit_code == 0
    assert quiet.stdout == ""
    assert quiet.stderr.startswith("note: prepare: level A1")


def test_output_to_a_file_is_not_wrapped(monkeypatch):
    """Logs are searched by line."""
    monkeypatch.delenv("COLUMNS", raising=False)
    out = io.StringIO()
    PrintableConsole(file=out).print("word " * 100)
    assert out.getvalue().count("\n") == 1
    out = io.StringIO()
    PrintableConsole(file=out, force_terminal=True, width=80).print("word " * 100)
    assert out.getvalue().count("\n") > 1


def test_a_closed_output_pipe_ends_without_a_message(tmp_path):
    """`raysweep plan | head -1` ends without a message."""
    line = f"{quote(sys.executable)} -m raysweep plan --storage {quote(str(tmp_path))} | head -1"
    for _ in range(3):
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=ROOT)
        assert done.stderr == ""
        assert done.stdout.startswith("local: 11 trials")


def test_the_status_table_is_not_truncated_at_80_columns():
    """Names, states, steps and losses are not cut; a failure is on the line below."""
    rows = [
        TrialStatus(
            trial=name, state=state, step=12_000, steps=60_000, loss=3.214, tokens_per_second=21_300.0,
            seconds_left=7800.0, busy_seconds=2000.0, reason=reason,
        )
        for name, state, reason in (
            ("control-steps-B2", State.RUNNING, ""),
            ("all-B2-seed0", State.FAILED, "step 12,001: the loss is not finite " * 3),
        )
    ]  # fmt: skip
    out = io.StringIO()
    PrintableConsole(file=out, width=80).print(trial_table(rows))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    for row in rows:
        (line,) = (line for line in lines if line.startswith(row.trial))
        assert str(row.state) in line
        assert "12,000/60,000" in line
        assert "3.214" in line
    assert any(line.startswith("✘ all-B2-seed0: step 12,001: the loss is not finite") for line in lines)


def test_a_failure_is_shown_as_one_short_line(tmp_path):
    """It is the first line of the reason; the log has all of it."""
    settings = Settings(file=ROOT / "experiments.yaml", storage=str(tmp_path), name="pilot")
    long = Unfinished(trial="A1", state=State.FAILED, reason="\n".join(["the loss is not finite " * 20] * 30))
    line = _failure_line(settings, long)
    assert line.startswith("failed: A1: the loss is not finite the loss")
    assert line.endswith(f" … (`raysweep logs A1 --name pilot --storage {shlex.quote(str(tmp_path))}`)")
    assert len(line) < 260 + len(str(tmp_path))
    assert "\n" not in line
    short = Unfinished(trial="A1", state=State.BLOCKED, reason="its parent all failed")
    assert _failure_line(settings, short) == "blocked: A1: its parent all failed"


def test_an_unknown_key_lists_the_known_ones(command):
    """This holds where no known key is similar to it."""
    error = str(command("check", "--set", "training.zzz=3").exception)
    assert error.startswith("--set training: unknown field 'zzz'; known are steps, batch_size, accumulation, ")


CORE = {
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?",
}
"""Numbers of the core schema of YAML 1.2 (section 10.3.2)."""


def test_the_shipped_numbers_are_numbers_in_yaml_1_2():
    """An editor that reads YAML 1.2, as the schema's editors do, must see the same numbers as raysweep."""
    import re

    from raysweep.config.safe_yaml import parse_yaml

    text = (ROOT / "experiments.yaml").read_text(encoding="utf-8")
    plain = [token.value for token in yaml.scan(text) if isinstance(token, yaml.ScalarToken) and token.plain]
    numbers = {
        value for value in plain if isinstance(parse_yaml(value), (int, float)) and value not in ("true", "false")
    }
    assert {"4e-3", "50000", "5e-5"} <= numbers
    assert [value for value in numbers if not any(re.fullmatch(pattern, value) for pattern in CORE.values())] == []
    text_to_us = {value for value in plain if isinstance(parse_yaml(value), str)}
    assert [value for value in text_to_us if any(re.fullmatch(pattern, value) for pattern in CORE.values())] == []


def test_an_interruption_prints_the_command_to_resume(monkeypatch):
    """It prints the command as it was typed."""
    code = textwrap.dedent(
        """
        import sys
        from raysweep.cli import app, plan_output
        def interrupt(*_, **__):
            raise KeyboardInterrupt
        plan_output.print_plan = interrupt
        sys.argv = ["raysweep", "plan", "--set", "training.steps=3"]
        app.main()
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 130
    assert done.stderr == ("interrupted; what is saved is kept. To go on: `raysweep plan --set training.steps=3`\n")
