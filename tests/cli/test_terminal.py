"""The live view is only for a terminal that someone sees; `ray exec` always gives a command a terminal."""

import os
import pty
import termios
import threading
from pathlib import Path

import pytest

from raysweep.cli import terminal


@pytest.fixture
def far(monkeypatch):
    """Make a terminal as ssh does; yield the command's end and ssh's end."""
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.2 22")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(terminal, "_ANSWER_S", 60.0)
    far, near = pty.openpty()
    termios.tcsetwinsize(near, (24, 80))
    with os.fdopen(near, "r+b", buffering=0) as screen:
        yield screen, far
    os.close(far)


def answer(far):
    """Reply as a visible terminal does: with the cursor's position, after a key pressed before."""
    assert os.read(far, 16) == b"\x1b[6n"
    os.write(far, b"x\x1b[12;1R")


def test_a_responding_terminal_gets_the_live_view(far):
    """Its settings are restored, so that typed characters are shown again."""
    screen, other = far
    before = termios.tcgetattr(screen)
    thread = threading.Thread(target=answer, args=(other,))
    thread.start()
    assert terminal.is_watched(screen, screen)
    thread.join()
    assert termios.tcgetattr(screen) == before


def test_a_terminal_with_output_to_a_file_gets_no_live_view(far, monkeypatch):
    """With `ray exec cluster.yaml … > log` from a terminal, nothing answers."""
    monkeypatch.setattr(terminal, "_ANSWER_S", 0.3)
    screen, _ = far
    assert not terminal.is_watched(screen, screen)


def test_a_file_gets_no_live_view_even_with_forced_colours(far, monkeypatch, command):
    """With FORCE_COLOR, as in CI services, every command that shows progress used to end with 70."""
    screen, _ = far
    with Path(os.devnull).open("w") as file:
        assert not terminal.is_watched(screen, file)
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = command("prepare")
    assert done.exit_code == 0, done.exception
    assert "40 documents" in done.stdout


def test_a_terminal_without_a_size_gets_no_live_view(far):
    """This is `ray exec` from a script, in which ssh has no keyboard either."""
    screen, _ = far
    termios.tcsetwinsize(screen, (0, 0))
    assert not terminal.is_watched(screen, screen)


def test_a_local_terminal_is_not_probed(far, monkeypatch):
    monkeypatch.delenv("SSH_CONNECTION")
    screen, _ = far
    assert terminal.is_watched(screen, screen)


def test_probing_the_terminal_does_not_stop_a_background_job(far, monkeypatch):
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp() + 1)
    screen, _ = far
    assert not terminal.is_watched(screen, screen)


def test_a_command_without_a_keyboard_gets_no_live_view(far):
    screen, _ = far
    with Path(os.devnull).open() as nothing:
        assert not terminal.is_watched(nothing, screen)
