"""Nodes as namespaces: each has its own network, processes, mounts and hostname, and a writable copy of the disk."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent
GATEWAY, BITS = "172.31.0.1", 16
GATEWAY_MAC = "02:00:ac:1f:00:01"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def sh(*words):
    """Run a command, or raise with what it said."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 0, f"{words}: {done.stderr}"


class Lab:
    """A LAN and its nodes.  Their state is in a folder, so that several processes may use one lab."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.prefix = self.folder.name
        self.lan = f"{self.prefix}-lan"
        self._processes = {}

    def up(self):
        """Make the LAN: a bridge in a namespace of its own."""
        sh("ip", "netns", "add", self.lan)
        sh("ip", "-n", self.lan, "link", "set", "lo", "up")
        # Without an address of its own it has the lowest of its cables', and with each node that comes or goes another.
        bridge = ["br0", "address", GATEWAY_MAC, "type", "bridge", "forward_delay", "0"]
        sh("ip", "-n", self.lan, "link", "add", *bridge)
        sh("ip", "-n", self.lan, "addr", "add", f"{GATEWAY}/{BITS}", "dev", "br0")
        sh("ip", "-n", self.lan, "link", "set", "br0", "up")

    def down(self):
        """End all nodes and remove the LAN."""
        for name in self.nodes():
            self.cut_power(name)
        # A node that never came up has no node.json.
        for process in self._processes.values():
            process.kill()
            process.wait()
        listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
        for namespace in (line.split()[0] for line in listed.splitlines() if line.startswith(f"{self.prefix}-")):
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)

    def nodes(self):
        """The names of those that run."""
        return sorted(path.parent.name for path in self.folder.glob("*/node.json"))

    def start(self, name, ips, *, binds, setup, public_key="", role=""):
        """Start a node, and wait until its sshd answers."""
        namespace, place = f"{self.prefix}-{name}", self.folder / name
        place.mkdir(parents=True)
        self._connect(namespace, name, ips)
        variables = {"PATH": PATH, "DISK": place / "disk", "NAME": name, "IPS": " ".join(ips), "BINDS": " ".join(binds)}
        variables["READABLE"] = f"{sys.prefix} {sys.base_prefix}"
        variables |= {"SETUP": setup, "PUBLIC_KEY": public_key, "ROLE": role}
        words = ["ip", "netns", "exec", namespace, "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork"]
        with (place / "init.log").open("w") as log:
            outer = subprocess.Popen(
                [*words, "--kill-child=SIGKILL", "bash", str(HERE / "node_init.sh")],
                env={key: str(value) for key, value in variables.items()},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._processes[name] = outer
        until = time.monotonic() + 300
        while (pid := _first_child(outer.pid)) is None or not Path(f"/proc/{pid}/root/run/ready").exists():
            assert outer.poll() is None, (place / "init.log").read_text()
            assert time.monotonic() < until, (place / "init.log").read_text()
            time.sleep(0.05)
        known = place / "node.new"
        known.write_text(json.dumps({"outer": outer.pid, "pid": pid, "ips": list(ips)}))
        # Others read it at any time.
        known.rename(place / "node.json")

    def _connect(self, namespace, name, ips):
        sh("ip", "netns", "add", namespace)
        cable = f"v-{name}"[:15]
        sh("ip", "-n", self.lan, "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        sh("ip", "-n", self.lan, "link", "set", cable, "master", "br0", "up")
        sh("ip", "-n", namespace, "link", "set", "lo", "up")
        for ip in ips:
            sh("ip", "-n", namespace, "addr", "add", f"{ip}/{BITS}", "dev", "eth0")
        sh("ip", "-n", namespace, "link", "set", "eth0", "up")
        # Ray asks the kernel which address it would reach the Internet from; no packet is sent, and none would pass.
        sh("ip", "-n", namespace, "route", "add", "default", "via", GATEWAY)

    def words(self, name, command, *, user="ubuntu"):
        """The words that run a bash command line in a node, in a login shell of the user."""
        pid = json.loads((self.folder / name / "node.json").read_text())["pid"]
        spaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]
        return ["nsenter", "--target", str(pid), *spaces, "su", "-", user, "-c", command]

    def run(self, name, command, *, user="ubuntu", timeout=60):
        """Run it; returns what it printed.  An error of the command is one of the test."""
        done = subprocess.run(self.words(name, command, user=user), capture_output=True, text=True, timeout=timeout)
        output = f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        assert done.returncode == 0, f"{name}: {command}: {done.returncode}\n{output}"
        return done.stdout

    def read(self, name, path):
        """A file of a node; '' if it is not there."""
        pid = json.loads((self.folder / name / "node.json").read_text())["pid"]
        file = Path(f"/proc/{pid}/root/{path}")
        return file.read_text() if file.exists() else ""

    def set_cable(self, name, *, is_in):
        """Pull the node's cable, or put it back."""
        sh("ip", "-n", self.lan, "link", "set", f"v-{name}"[:15], "up" if is_in else "down")

    def cut_power(self, name):
        """End everything of the node at once, and take its cable out."""
        file = self.folder / name / "node.json"
        if not file.exists():
            return
        known = json.loads(file.read_text())
        for pid in (known["pid"], known["outer"]):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", f"{self.prefix}-{name}"], check=False, capture_output=True)
        file.unlink(missing_ok=True)
        if name in self._processes:
            self._processes.pop(name).wait()


def _first_child(pid):
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None
