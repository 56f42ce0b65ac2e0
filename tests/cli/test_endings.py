"""How a command ends when it fails or is interrupted."""

import errno
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from raysweep.cli import app as command_line
from raysweep.cli.endings import Commands, end_with
from raysweep.errors import ConfigError, TrainingError


@pytest.fixture
def end(monkeypatch, capsys, tmp_path):
    """Run a command that executes the given work; return its exit code and stderr."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(sys, "argv", ["raysweep", "work"])

    def run(work):
        app = typer.Typer(cls=Commands)
        app.command()(work)
        app.command("other")(lambda: None)
        monkeypatch.setattr(command_line, "app", app)
        work.__name__ = "work"
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        return ended.value.code, capsys.readouterr().err

    return run


def raises(error):
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("a: found 1", "b: found 2"), 2, "error: a: found 1\nb: found 2\n"),
        (TrainingError("A1: no data"), 1, "error: A1: no data\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x"),
            1,
            "error: x: No space left on device; make room; the ",
        ),
        (
            OSError(errno.EISDIR, "Is a directory", ".a.part", None, "a"),
            2,
            "error: a: Is a directory; a folder is there",
        ),
        (
            OSError(errno.EEXIST, "File exists", "a.csv"),
            2,
            "error: a.csv: File exists; a file is there where a folder is needed; name",
        ),
        (
            OSError(errno.ENOTDIR, "Not a directory", "a/b"),
            2,
            "error: a/b: Not a directory; a part of this path is a file",
        ),
        (OSError(errno.EROFS, "Read-only file system", "x"), 2, "error: x: Read-only file system; mount it writable"),
        (OSError(errno.EMFILE, "Too many open files", "x"), 1, "error: x: Too many open files; raise the limit"),
        (typer.Exit(3), 3, ""),
    ],
)
def test_a_known_error_ends_with_its_message_and_exit_code(end, error, code, message):
    """Scripts rely on the codes, and people on the messages."""
    ended, printed = end(raises(error))
    assert ended == code
    assert printed.startswith(message)


@pytest.mark.parametrize(
    "error", [KeyError("start"), OSError(errno.ENOENT, "No such file", "x"), OSError("odd"), MemoryError()]
)
def test_an_unexpected_error_exits_with_70_and_logs_the_traceback(end, error):
    """Only the user can read the log, since a traceback may show texts and paths."""
    code, printed = end(raises(error))
    assert code == 70
    assert printed.startswith(f"error: unexpected {type(error).__name__}: ")
    assert "Traceback" not in printed
    path = Path(re.search(r"the traceback is in (.+\.log)\. This is a fault", printed)[1])
    assert re.search(rf"raysweep .*Python .*\nTraceback (?s:.*)\n{type(error).__name__}", path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_traceback_is_printed_if_no_log_file_can_be_written(end, monkeypatch):
    """An example is a full disk: the printed traceback is then the only one."""

    def fail(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", fail)
    code, printed = end(raises(KeyError("start")))
    assert code == 70
    assert "Traceback" in printed
    assert "the traceback is above, since no file can be written for it ([Errno 28]" in printed


def test_an_unexpected_error_message_is_limited_to_80_characters(end):
    """It may contain a whole document."""
    _, printed = end(raises(ValueError("word " * 1000)))
    assert printed.count("word") <= 16


@pytest.mark.parametrize("code", [0, None, 1, "a text"])
def test_third_party_code_that_exits_the_process_is_an_error(end, code):
    """Once, a mask function that called `sys.exit(0)` ended the run with 0 and no report."""
    ended, printed = end(raises(SystemExit(code)))
    assert ended == 70
    assert f"unexpected RuntimeError: code that raysweep called ended the process (sys.exit({code!r}))" in printed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_exits_with_130_and_prints_how_to_resume(end, number):
    """A shell reports Ctrl-C with this code."""

    def work() -> None:
        signal.raise_signal(number)

    assert end(work) == (130, "interrupted; what is saved is kept. To go on: `raysweep work`\n")


def test_a_broken_pipe_to_another_process_is_reported(end):
    """It is reported: a run must not end as if `head` had closed its output."""
    code, printed = end(raises(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    assert code == 70
    assert "a pipe to another process broke" in printed


def test_a_closed_output_ends_a_command_with_141():
    """`raysweep check --schema | head -1` ends with 141, as a shell reports for other programs."""
    words = [sys.executable, "-m", "raysweep", "check", "--schema"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_terminal_that_cannot_encode_a_character_ends_no_command(tmp_path):
    """The terminal gets an escape instead of the character, such as the branch that leads to a trial."""
    words = [sys.executable, "-m", "raysweep", "plan", "--storage", str(tmp_path)]
    variables = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(words, capture_output=True, text=True, env=variables, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\u251c\u2500 A1" in done.stdout


def test_an_invalid_option_is_reported_by_the_command_line_parser(end, monkeypatch):
    """It ends with the usage and exit code 2."""
    monkeypatch.setattr(sys, "argv", ["raysweep", "work", "--nonsense"])
    code, printed = end(lambda: None)
    assert code == 2
    assert "No such option" in printed


def test_an_os_error_without_a_path_keeps_its_traceback(tmp_path, monkeypatch):
    """'Permission denied' alone does not help; the traceback does."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert end_with(PermissionError(errno.EACCES, "Permission denied")) == 70


@pytest.mark.parametrize("arguments", [["plan", "--no-{}"], ["{}"], ["check", "{}"], ["preview", "--count", "{}"]])
def test_command_line_errors_are_escaped_and_short(monkeypatch, capsys, arguments):
    """It prints the usage and one line, without control characters, and does not fill the screen."""
    hostile = "\x1b]0;PWN\x07\u202e" + "x" * 5000
    monkeypatch.setattr(sys, "argv", ["raysweep", *(argument.format(hostile) for argument in arguments)])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    printed = capsys.readouterr().err
    assert ended.value.code == 2
    assert printed.startswith("Usage: ")
    assert "\nError: " in printed
    assert len(printed) < 700
    assert not set(printed) & {"\x1b", "\x07", "\u202e"}


def test_the_program_without_a_command_prints_the_help(monkeypatch, capsys):
    """The commands are listed on stderr, with the exit code for wrong usage."""
    monkeypatch.setattr(sys, "argv", ["raysweep"])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 2
    assert "check-run" in capsys.readouterr().err
