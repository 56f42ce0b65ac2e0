"""The pretended cloud: the user's machine, EC2 with a node for each instance, and what nodes may install."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import psutil

from tests.cluster_lab.lan_bucket import LanBucket
from tests.cluster_lab.namespaces import HERE, Lab

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
TOOLS = ("ip", "unshare", "nsenter", "chroot", "useradd", "ssh-keygen", "rsync", "sudo", "ssh")
SSHD = Path("/usr/sbin/sshd")
TRAIN_LOOKS_EVERY_S = 5.0
"""Ray Train's own interval between two looks for nodes that are drained."""
PREPARE_S = 600.0
"""Time that one step of `prepare` may take, torch's download among them."""
PACKAGE = Path("/home/ubuntu/raysweep/raysweep")
"""Where processes on nodes import it from: `raysweep run` stands there, and Ray tells its workers."""
COPIED = ("raysweep", ".ci", "pyproject.toml", "constraints.txt", "requirements.lock", "README.md", "LICENSE")


def why_not():
    """Why there can be no lab on this machine; '' if there can."""
    if os.geteuid() != 0:
        return "needs root, to make namespaces"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    missing += [] if SSHD.exists() else ["sshd"]
    if missing:
        return f"needs {', '.join(missing)} (Debian: openssh-server rsync sudo iproute2)"
    tried = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/srv"],
        capture_output=True,
        text=True,
    )
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


def prepare(folder):
    """Have uv's own cache hold all that requirements.lock names, and a folder what else nodes find on their disk.

    Returns:
        Why it could not be had; '' if it was.
    """
    trial = folder / "trial"
    install = [BIN / "uv", "pip", "install", "--link-mode=symlink", "--python", trial / "bin/python"]
    links = os.environ.get("UV_FIND_LINKS") or ",".join(os.environ.get("PIP_FIND_LINKS", "").split())
    environment = {**os.environ, "UV_FIND_LINKS": links}
    torch = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    locked = [*install, "--no-deps", "--require-hashes", "-r", ROOT / "requirements.lock"]
    installer = [BIN / "pip", "download", "-q", "--no-deps", "-d", folder / "wheels", "-r", ROOT / ".ci/installer.lock"]
    # What `.ci/run` has installed is there.
    from_cache = ["--offline", "--dry-run"]
    try:
        _run([BIN / "uv", "venv", "-q", trial], environment)
        for command in (locked, [*install, "-c", ROOT / "constraints.txt", torch]):
            known = _run([*command, *from_cache], environment, may_fail=True)
            if known.returncode or "Would download" in known.stderr:
                _run(command, environment)
        _run(installer, environment)
    except LookupError as error:
        return f"cannot get what nodes install: {error}"
    find_links = f"find-links = {json.dumps(links.split(','))}\n" if links else ""
    lines = 'offline = true\ncache-dir = "/opt/uv-cache"\nlink-mode = "symlink"\n'
    (folder / "uv.toml").write_text(lines + find_links)
    shutil.copy(HERE / "fake_imds.py", folder)
    (folder / "python3").symlink_to(Path(sys.executable).resolve())
    venv = Path("home/ubuntu/venv/lib", f"python{sysconfig.get_python_version()}", "site-packages")
    share_bytecode(Path(sysconfig.get_path("purelib")), folder / "bytecode" / venv, os.symlink)
    share_bytecode(ROOT / "raysweep", folder / "bytecode" / PACKAGE.relative_to("/"), shutil.copy)
    share_kernels(ROOT / "raysweep", folder / "kernels")
    for place, _, _ in os.walk(folder):
        Path(place).chmod(0o777)
    return ""


def _run(command, environment, *, may_fail=False):
    """What became of it.

    Raises:
        LookupError: it failed, or did not end.
    """
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PREPARE_S)
    except subprocess.TimeoutExpired as error:
        raise LookupError(f"{command[0].name} has not ended within {PREPARE_S:g} s") from error
    if done.returncode and not may_fail:
        raise LookupError(" ".join(done.stderr.split())[-300:])
    return done


def share_bytecode(packages, folder, put):
    """Fill a folder below PYTHONPYCACHEPREFIX with what is compiled of a folder of packages.

    Files of packages are the same in uv's cache, here and on nodes, so what is compiled of one is valid for the others;
    of what is not, a node compiles its own.
    """
    for place, _, files in os.walk(packages):
        if place.endswith("/__pycache__"):
            there = folder / Path(place).parent.relative_to(packages)
            there.mkdir(parents=True, exist_ok=True)
            for file in files:
                put(Path(place, file), there / file)


def share_kernels(package, folder):
    """Fill NUMBA_CACHE_DIR with what numba has compiled of our package, which takes a node half a minute."""
    for index in package.rglob("*.nb[ic]"):
        # Ours, of some files, beside a folder of all sources' digest; else beside the file.
        digest = next((part for part in index.parts if part.startswith("kernels-")), "")
        room = Path(*index.parts[: index.parts.index("__pycache__")]).relative_to(package)
        of_file = hashlib.sha1(str(PACKAGE / room).encode(), usedforsecurity=False).hexdigest()
        there = folder / digest / f"{room.name}_{of_file}"
        there.mkdir(parents=True, exist_ok=True)
        shutil.copy(index, there)


def uv_cache():
    """The folder of uv's cache on this machine."""
    return subprocess.run([BIN / "uv", "cache", "dir"], check=True, capture_output=True, text=True).stdout.strip()


def busy_seconds():
    """CPU time of all processes of this machine since it was started."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system


class Cloud:
    """As a context: everything ends with it.

    Args:
        folder: of the lab; its name begins the names of the namespaces.
        shared: what `prepare` filled; nodes see it as /opt/lab.
    """

    def __init__(self, folder, shared):
        self.lab, self.shared = Lab(folder), shared
        self.bucket = LanBucket(self.lab.lan)
        self.project = folder / "project"
        self._log = folder / "fake_aws.log"
        self._aws = self._gate = None
        self._noted, self._busy_s = time.monotonic(), busy_seconds()

    def __enter__(self):
        self.project.mkdir(parents=True)
        for name in COPIED:
            # With their times, by which nodes know what is compiled of them.
            subprocess.run(["cp", "-a", ROOT / name, self.project], check=True)
        shutil.copy(ROOT / "cluster.yaml", self.project)
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        binds = [f"{self.shared}:/opt/lab", f"{uv_cache()}:/opt/uv-cache"]
        self.lab.up()
        words = ["ip", "netns", "exec", self.lab.lan, sys.executable, HERE / "fake_aws.py", self.lab.folder]
        with self._log.open("w") as log:
            self._aws = subprocess.Popen(
                [*words, *binds],
                env={**os.environ, "MOTO_IAM_LOAD_MANAGED_POLICIES": "true", "PYTHONUNBUFFERED": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        laptop = [*binds, f"{self.project}:/home/ubuntu/project"]
        self.lab.start("laptop", ["172.31.0.2"], binds=laptop, setup=HERE / "laptop_setup.sh")
        self.wait(lambda: "ready" in self._log.read_text(), 300)

    def __exit__(self, *_):
        for process in filter(None, (self._gate, self._aws)):
            process.kill()
            process.wait()
        self.bucket.close()
        self.lab.down()

    def note(self, phase):
        """Tell how long a phase took, and how busy the machine was; `pytest -s` shows it."""
        before, self._noted = self._noted, time.monotonic()
        busy, self._busy_s = self._busy_s, busy_seconds()
        wall_s, cpu_s = self._noted - before, self._busy_s - busy
        print(f"{wall_s:6.1f} s  CPU {cpu_s:6.1f} s  load {os.getloadavg()[0]:5.1f}  {phase}", flush=True)

    def laptop(self, command, *, timeout, variables=""):
        """Run a command in the project's folder on the user's machine; returns what it printed."""
        line = f"cd ~/project && export PATH={BIN}:$PATH TERM=dumb {variables} && {command}"
        return self.lab.run("laptop", line, timeout=timeout)

    def start(self, command, output):
        """Like `laptop`, but go on at once."""
        line = f"cd ~/project && export PATH={BIN}:$PATH TERM=xterm-256color && {command}"
        with output.open("w") as file:
            return subprocess.Popen(self.lab.words("laptop", line), stdout=file, stderr=subprocess.STDOUT)

    def started(self):
        """Name and lifecycle (on-demand or spot) of every machine that was started, in order."""
        return re.findall(r"started (\S+) \S+ (\S+)", self._log.read_text())

    def running(self):
        """The names of the machines that EC2 has now."""
        ended = re.findall(r"ended (\S+)", self._log.read_text())
        return [name for name, _ in self.started() if name not in ended]

    def hold(self, *trials):
        """Let the first trainings of these trials do little after their first checkpoint, until `let_go`."""
        words = [sys.executable, "-m", "tests.cluster_lab.training_gate", self.lab.folder, *trials]
        self._gate = subprocess.Popen(words, cwd=ROOT)

    def let_go(self, trial):
        """Let the trial train on."""
        (self.lab.folder / f"{trial}.go").touch()

    def give_notice(self, trial, name):
        """What EC2 does two minutes before it takes a spot instance; the training on it goes on when it was told."""
        (self.lab.folder / f"{trial}.still").touch()
        self.lab.run(name, "touch /run/notice", user="root")
        self.wait(lambda: "is drained" in self.lab.read(name, "tmp/watch-spot.log"), 100, "no node is drained")
        time.sleep(TRAIN_LOOKS_EVERY_S + 1.0)
        self.let_go(trial)

    def wait(self, condition, seconds, what=""):
        """Wait until it holds."""
        until = time.monotonic() + seconds
        while not condition():
            assert self._aws.poll() is None, self._log.read_text()[-3000:]
            assert self._gate is None or not self._gate.poll(), "what holds trainings has failed"
            assert time.monotonic() < until, f"not within {seconds} s: {what}\n{self._log.read_text()[-2000:]}"
            time.sleep(0.2)
