"""What is installed is what was tested, to the byte: versions in constraints.txt, hashes in the lock files."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", ".ci/installer.lock", ".ci/audit.lock")


def normal(name):
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path):
    """Version by package."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return {normal(name): version for name, version in re.findall(r"^([\w.-]+)==([\w.!+-]+)", text, re.MULTILINE)}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_hashes(lock):
    """One without is refused by pip, at the user's."""
    entries = re.split(r"^(?=[\w.-]+==)", (ROOT / lock).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert entries
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.split()[0]


def test_the_lock_contains_the_tested_versions():
    """Nodes, CI and the README's commands install one set of versions."""
    tested = pins("constraints.txt")
    assert {name: version for name, version in pins("requirements.lock").items() if tested.get(name) != version} == {}


def test_every_dependency_of_pyproject_except_torch_is_locked():
    """The same torch is another wheel on other machines; see .ci/lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]  # users choose the other extras
    names = {normal(Requirement(words).name) for words in asked} - {"raysweep"}
    assert names - set(pins("requirements.lock")) == {"torch"}


def test_the_lock_serves_the_head_and_the_tests(cluster_yaml):
    """Boto3 allows no python-dateutil of 3 or above; other nodes must not have another one."""
    locked = pins("requirements.lock")
    assert {"boto3", "uv", "ray", "pytest", "python-dateutil"} <= set(locked)
    assert int(locked["python-dateutil"].split(".")[0]) < 3
    assert not re.search(r"^  - .*install.*boto3", cluster_yaml, flags=re.MULTILINE)


def test_nodes_execute_no_unverified_download(cluster_yaml):
    """A script from the network is code that nobody has read; uv comes with its hash."""
    assert not re.search(r"(curl|wget)[^\n]*\|", cluster_yaml)
    assert "--require-hashes" in cluster_yaml


@pytest.fixture
def cluster_yaml():
    return (ROOT / "cluster.yaml").read_text(encoding="utf-8")


def test_an_outdated_lock_fails_the_check(tmp_path):
    """The check itself; without an index it passes and says that nothing was compared."""
    done = subprocess.run([ROOT / ".ci/lock", "--check"], capture_output=True, text=True, env=changed(tmp_path))
    assert done.returncode == 1, done.stdout
    assert "requirements.lock: not in step" in done.stderr


@pytest.mark.parametrize(
    "script",
    [
        "echo 'error: Failed to fetch: `https://index/simple/`' >&2; exit 2",
        # An index that fails for a moment: what was not compared is not said to be in step.
        '[[ "${@: -1}" != */requirements.lock ]] || { echo "error: Connection reset by peer" >&2; exit 2; }',
        "exit 124  # as `timeout`, where an index does not answer",
    ],
    ids=["no index", "for a moment", "slow"],
)
def test_the_lock_check_passes_with_a_note_without_an_index(tmp_path, script):
    """CI without a network is no reason to stop."""
    environment = fake_uv(tmp_path, script)
    done = subprocess.run([ROOT / ".ci/lock", "--check"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "not compared with the index" in done.stdout


def test_a_version_conflict_fails_the_check(tmp_path):
    """Names such as networkx and dnspython are in it, and a hint that a page could not be fetched."""
    message = "  × No solution found: networkx==1 needs dnspython\n  hint: Failed to fetch https://index/connection"
    environment = fake_uv(tmp_path, f"printf '{message}' >&2; exit 1")
    done = subprocess.run([ROOT / ".ci/lock", "--check"], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (1, message)


def fake_uv(folder, script):
    """An environment in which uv is this script."""
    uv = folder / "uv"
    uv.write_text(f"#!/bin/bash\n{script}\n")
    uv.chmod(0o755)
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "UV": str(uv)}


def changed(folder):
    """As if the index, or pyproject.toml, asked for another version: the last argument is the output."""
    return fake_uv(folder, 'sed -i "s/^ray==[^ ]*/ray==9.9.9/" "${@: -1}"')
