"""Where the lab cannot be made it says why, and `.ci/cluster` leaves nothing behind, also if it is killed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.cluster_lab import cloud, training_gate

PROBE = """#!/usr/bin/env bash
trap 'exit 1' INT
ip netns add "$NAME"
setsid ip netns exec "$NAME" bash -c "exec -a $NAME sleep 1000" &
touch /srv/"$NAME" && ip netns list > "$SAID"
wait
"""
"""In place of pytest: a network with a name, a process in it that left its session, and a file."""


def program(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


def test_running_without_root_is_reported(monkeypatch):
    """Others can make no namespaces with networks."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cloud.why_not() == "needs root, to make namespaces"


def test_missing_programs_are_listed_with_their_packages(monkeypatch):
    """All of them at once."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool in ("rsync", "sudo") else f"/usr/bin/{tool}")
    assert cloud.why_not().startswith("needs rsync, sudo")


def test_a_kernel_that_refuses_namespaces_is_reported(monkeypatch, tmp_path):
    """As in a container without privileges."""
    for tool in cloud.TOOLS:
        program(tmp_path / tool, "echo 'unshare failed: Operation not permitted' >&2", "exit 1")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(cloud, "SSHD", tmp_path / "ssh")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert cloud.why_not() == "no namespaces here: unshare failed: Operation not permitted"


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("echo 'error: Failed to fetch' >&2; exit 2", "cannot get what nodes install: error: Failed to fetch"),
        ("exec sleep 60", "cannot get what nodes install: uv has not ended within 0.1 s"),
    ],
)
def test_an_unreachable_package_registry_is_a_reason_to_skip(monkeypatch, tmp_path, does, reason):
    """Nothing can be installed then, and nobody waits for ever."""
    program(tmp_path / "bin" / "uv", does)
    monkeypatch.setattr(cloud, "BIN", tmp_path / "bin")
    monkeypatch.setattr(cloud, "PREPARE_S", 0.1 if "sleep" in does else 60.0)
    assert cloud.prepare(tmp_path) == reason


def test_a_paused_training_is_continued_if_the_test_fails(tmp_path, monkeypatch):
    """Else the test waits for a stopped process, to its limit."""
    with subprocess.Popen(["sleep", "60"]) as child:
        process, looks = psutil.Process(child.pid), []

        def fail_later(_):
            looks.append(1)
            if len(looks) == 1:
                return [1]
            wait_until(lambda: process.status() == psutil.STATUS_STOPPED)
            raise ZeroDivisionError

        monkeypatch.setattr(training_gate, "instances", fail_later)
        monkeypatch.setattr(training_gate, "workers_of", lambda _: [process])
        monkeypatch.setattr(training_gate.Gate, "_is_on", lambda *_: True)
        monkeypatch.setattr(os, "sched_setscheduler", lambda *_: None)
        monkeypatch.setattr(sys, "argv", ["gate", str(tmp_path), "all"])
        with pytest.raises(ZeroDivisionError):
            training_gate.main()
        wait_until(lambda: process.status() == psutil.STATUS_SLEEPING)
        child.kill()


@pytest.mark.parametrize(("code", "reason"), [(1, "what holds trainings has failed"), (0, "not within 0 s")])
def test_waiting_for_a_paused_training_fails_with_the_gates_error(tmp_path, code, reason):
    """At once, with the reason; one that has let all go has ended well."""
    (tmp_path / "log").touch()
    processes = {"_aws": SimpleNamespace(poll=lambda: None), "_gate": SimpleNamespace(poll=lambda: code)}
    with pytest.raises(AssertionError, match=reason):
        cloud.Cloud.wait(SimpleNamespace(**processes, _log=tmp_path / "log"), lambda: False, 0)


@pytest.mark.skipif(bool(cloud.why_not()), reason="no namespaces here")
@pytest.mark.parametrize("end", ["kill -9", "limit"])
def test_nothing_is_left_of_a_killed_or_hanging_cluster(tmp_path, end):
    """Neither a process nor a network; what hangs is reported as failed."""
    name = f"probe{os.getpid()}"
    (tmp_path / ".ci").mkdir()
    shutil.copy(cloud.ROOT / ".ci/cluster", tmp_path / ".ci")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").write_text(PROBE)
    (tmp_path / ".venv/bin/python").chmod(0o755)
    output_file = tmp_path / "said"
    limit = {"RAYSWEEP_CLUSTER_LIMIT_S": "4"} if end == "limit" else {}
    script = subprocess.Popen(
        [tmp_path / ".ci/cluster"],
        env={**os.environ, "NAME": name, "SAID": str(output_file), **limit},
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: output_file.exists() and name in output_file.read_text() and count(name))
    if end == "kill -9":
        script.kill()
    assert script.wait(60) == (-signal.SIGKILL if end == "kill -9" else 124)
    wait_until(lambda: not count(name))
    assert not Path("/run/netns", name).exists()
    assert not Path("/srv", name).exists()


def count(name):
    """Processes whose command line begins with the name."""
    return sum(1 for process in psutil.process_iter(["cmdline"]) if (process.info["cmdline"] or [""])[0] == name)


def wait_until(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)
