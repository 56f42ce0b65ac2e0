"""What `.ci/run` and `.ci/cluster` leave on the machine when they fail or are killed: nothing."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]
README = "<!-- test command -->\n```bash\ntrue\n```\n"


def program(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/bash", *lines, ""]))
    path.chmod(0o755)


def wait_until(condition):
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture
def begin(tmp_path):
    """Starts a script of `.ci` in a folder of fake programs, with the paths of the machine replaced."""
    started = []

    def begin(name, replaced=(), **variables):
        script = (ROOT / ".ci" / name).read_text()
        for before, after in replaced:
            assert before in script
            script = script.replace(before, str(after))
        (tmp_path / ".ci").mkdir(exist_ok=True)
        (tmp_path / ".ci" / name).write_text(script)
        (tmp_path / ".ci" / name).chmod(0o755)
        environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "RAYSWEEP_CLUSTER_LIMIT_S": "600"}
        environment |= variables
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([tmp_path / ".ci" / name], env=environment, **pipes))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def running(name):
    """Processes whose command line begins with the name."""
    return [process for process in psutil.process_iter(["cmdline"]) if (process.info["cmdline"] or [""])[0] == name]


@pytest.mark.parametrize("status", [3, 0])
def test_parallel_checks_end_with_a_failing_check(tmp_path, begin, status):
    """Also what a script among them started; where all went well nothing is left to end."""
    name = f"beside{os.getpid()}"
    (tmp_path / "README.md").write_text(README)
    for path in ("bin/python3", "bin/chromium", ".ci/audit", ".ci/newest_ray"):
        program(tmp_path / path)
    program(tmp_path / ".ci/cluster", f'echo "$RAYSWEEP_CLUSTER_LIMIT_S" > {tmp_path}/clustered')
    for path in ("python", "pip", "mypy"):
        program(tmp_path / ".venv/bin" / path)
    program(tmp_path / ".venv/bin/uv", f'echo "$UV_FIND_LINKS $UV_HTTP_RETRIES" > {tmp_path}/links')
    program(tmp_path / ".venv/bin/lint-imports", f'echo "$UV_HTTP_RETRIES" > {tmp_path}/retries')
    waits = f"(exec -a {name} sleep 600) & touch {tmp_path}/began; wait"
    program(tmp_path / ".ci/lock", waits if status else "exit 0")
    until_it_began = f"while [ ! -e {tmp_path}/began ]; do sleep 0.02; done" if status else ""
    program(tmp_path / ".venv/bin/ruff", until_it_began, f"exit {status}")
    links = {"UV_FIND_LINKS": "" if status else "own", "PIP_FIND_LINKS": "one two"}
    script = begin("run", RAYSWEEP_CLUSTER_LIMIT_S="", **links)
    output = script.communicate(timeout=120)[1]
    assert (script.returncode, output) == (status, "")
    assert (tmp_path / "links").read_text() == ("one,two 8\n" if status else "own 8\n")
    assert (tmp_path / "clustered").exists() == (status == 0)
    if not status:
        assert (tmp_path / "retries").read_text() == "\n", "a test without an index must not wait for one"
        assert (tmp_path / "clustered").read_text() == "600\n", "what hangs must not take the whole CI's time"
    wait_until(lambda: not running(name))


@pytest.mark.parametrize(
    ("fails", "ends", "message"),
    [
        ("exit 2", 2, "in 20 s once more: .venv/bin/pip"),
        ("sleep 2.1; exit 1", 1, "took over 120 s and failed: .venv/bin/pip"),
        ("exec sleep 600", 124, "took over 120 s and failed: .venv/bin/pip"),
    ],
)
def test_a_failing_package_index_is_retried_once_but_a_silent_one_is_not(tmp_path, begin, fails, ends, message):
    """By the clock of a fake: the whole of CI has 20 minutes."""
    (tmp_path / "README.md").write_text(README)
    program(tmp_path / "bin/python3")
    program(tmp_path / ".venv/bin/pip", f"echo asked >> {tmp_path}/asked", fails)
    script = begin("run", [("sleep 20", "sleep 0"), ("--foreground 480", "--foreground 3"), ("-lt 120", "-lt 2")])
    assert message in script.communicate(timeout=120)[1]
    assert script.returncode == ends
    assert (tmp_path / "asked").read_text().count("asked") == (2 if ends == 2 else 1)


@pytest.mark.parametrize(("seconds", "limit"), [(0, "600\n"), (700, "440\n"), (901, None)])
def test_the_cluster_test_is_limited_to_the_remaining_time(tmp_path, begin, seconds, limit):
    """On a slow machine the suite takes more of the 20 minutes, and a test that is cut off would fail the rest."""
    (tmp_path / "README.md").write_text(README)
    for path in ("bin/python3", "bin/chromium", ".ci/audit", ".ci/lock", ".ci/newest_ray"):
        program(tmp_path / path)
    for path in ("python", "pip", "uv", "mypy", "lint-imports", "ruff"):
        program(tmp_path / ".venv/bin" / path)
    program(tmp_path / ".ci/cluster", f'echo "$RAYSWEEP_CLUSTER_LIMIT_S" > {tmp_path}/clustered')
    script = begin("run", RAYSWEEP_CLUSTER_LIMIT_S="", SECONDS=str(seconds))
    output = script.communicate(timeout=120)[0]
    assert script.returncode == 0
    if limit is None:
        assert "cluster: skipped: " in output
        assert not (tmp_path / "clustered").exists()
    else:
        given = (tmp_path / "clustered").read_text()
        assert int(limit) - 100 < int(given) <= int(limit)


@pytest.mark.parametrize(
    ("log", "status", "message"),
    [
        ("", 0, "no known vulnerability in"),
        ("Found 1 known vulnerability in 1 package", 1, "take the fixed version"),
        ("ConnectionError: HTTPSConnectionPool", 1, "skipped, its service stopped answering"),
        ("", 124, "skipped, its service does not answer"),
        ("a: Dependency not found on PyPI", 1, "take the fixed version"),
    ],
    ids=["sound", "vulnerable", "unreachable", "slow", "unknown"],
)
def test_an_audit_fails_for_vulnerabilities_but_not_for_an_unreachable_service(tmp_path, begin, log, status, message):
    """The service answers for one package, and then as told."""
    (tmp_path / "constraints.txt").write_text("packaging==25.0\ntorch==2.9.0\n")
    (tmp_path / "requirements.lock").write_text("packaging==25.0 --hash=sha256:0\n")
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/audit.accepted").write_text("")
    program(tmp_path / "pip-audit", f'[[ "$*" != *all.txt ]] || {{ echo "{log}"; exit {status}; }}')
    install = f'[ "$1" != venv ] || {{ mkdir -p "$3/bin"; cp {tmp_path}/pip-audit "$3/bin"; }}'
    program(tmp_path / ".venv/bin/uv", install)
    script = begin("audit")
    printed = "".join(script.communicate(timeout=120))
    assert message in printed
    assert script.returncode == (1 if "take the fixed" in message else 0)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", ["run", "cluster"])
def test_a_signal_ends_the_cluster_test(begin, policy, tmp_path, name, end):
    """Ctrl-C goes to the shell alone: what it waits for leads a process group."""
    mark = f"lab{os.getpid()}"
    for path in ("bin/python3", "bin/chromium", ".ci/audit", ".ci/lock", ".ci/newest_ray"):
        program(tmp_path / path)
    for path in ("pip", "uv", "mypy", "lint-imports", "ruff"):
        program(tmp_path / ".venv/bin" / path)
    (tmp_path / "README.md").write_text(README)
    for tool in ("sshd", "bin/rsync", "bin/sudo", "bin/ip"):
        program(tmp_path / tool)
    python = (f'[[ "$*" != *cluster_lab* ]] || {{ touch {tmp_path}/began; (exec -a {mark} sleep 600); }}',)
    program(tmp_path / ".venv/bin/python", *python)
    paths = [("/usr/sbin/policy-rc.d", policy), ("/usr/sbin/sshd", tmp_path / "sshd")]
    script = (ROOT / ".ci/cluster").read_text()
    for before, after in paths:
        script = script.replace(before, str(after))
    program(tmp_path / ".ci/cluster", script)
    script = begin(name, paths if name == "cluster" else ())
    wait_until(lambda: running(mark))
    script.send_signal(end)
    assert script.wait(120) in (-end, 128 + end)
    wait_until(lambda: not running(mark))


def test_the_cluster_test_is_skipped_without_its_requirements(begin, tmp_path, policy):
    """As on macOS; said with what is missing."""
    for tool in ("bash", "dirname", "grep"):
        (tmp_path / "few" / tool).parent.mkdir(exist_ok=True)
        (tmp_path / "few" / tool).symlink_to(shutil.which(tool))
    program(tmp_path / ".venv/bin/python", f"touch {tmp_path}/began")
    script = begin("cluster", [("/usr/sbin/policy-rc.d", policy)], PATH=str(tmp_path / "few"))
    assert script.communicate(timeout=120)[0] == "cluster: skipped: needs setpriv (Debian: util-linux, coreutils)\n"
    assert script.returncode == 0
    assert not (tmp_path / "began").exists()


@pytest.fixture
def policy(tmp_path):
    """The file that keeps Debian from starting what it installs; apt-get works for as long as `slow` is there."""
    (tmp_path / "slow").touch()
    program(tmp_path / "bin/id", "echo 0")
    program(tmp_path / "bin/unshare", "exit 1")
    apt = f"[ -e {tmp_path}/policy ] && touch {tmp_path}/began; while [ -e {tmp_path}/slow ]; do sleep 0.02; done"
    program(tmp_path / "bin/apt-get", apt)
    program(tmp_path / ".venv/bin/python")
    yield tmp_path / "policy"
    (tmp_path / "slow").unlink(missing_ok=True)


@pytest.fixture
def install(begin, tmp_path, policy):
    """Starts `.ci/cluster` on a machine without sshd."""
    paths = [("/usr/sbin/policy-rc.d", policy), ("/usr/sbin/sshd", tmp_path / "no sshd")]
    return lambda: begin("cluster", [(before, f'"{after}"' if " " in str(after) else after) for before, after in paths])


def test_the_policy_file_is_removed_if_the_installation_is_interrupted(install, policy, tmp_path):
    """It stays until apt-get, which may start what it installs, is over."""
    script = install()
    wait_until((tmp_path / "began").exists)
    script.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert policy.exists()
    (tmp_path / "slow").unlink()
    assert script.wait(120) == 128 + signal.SIGTERM
    assert not policy.exists()


def test_a_policy_file_left_by_a_killed_script_is_removed_by_the_next(install, policy, tmp_path):
    """It would keep every service of the machine from starting, for good."""
    script = install()
    wait_until((tmp_path / "began").exists)
    script.kill()
    script.wait()
    (tmp_path / "slow").unlink()
    assert "exit 101" in policy.read_text()
    assert install().wait(120) == 0
    assert not policy.exists()


def test_a_policy_file_of_the_machines_owner_is_kept(install, policy, tmp_path):
    """Only a file with our mark is ours."""
    (tmp_path / "slow").unlink()
    policy.write_text("#!/bin/sh\nexit 101\n")
    assert install().wait(120) == 0
    assert policy.exists()
