"""A Ray cluster of namespaces without a cloud: a head without CPUs, workers with small disks, and S3 on the LAN."""

import subprocess
import sys
from pathlib import Path

from tests.cluster_lab.lan_bucket import REGION, S3, STORAGE, LanBucket
from tests.cluster_lab.namespaces import HERE, Lab

ROOT = Path(__file__).parents[2]
STAGING = "/var/staging"
"""A disk of its own on each node, of DISK_MB."""
DISK_MB = 300
VARIABLES = {
    "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONPATH": ROOT,
    "RAYSWEEP_STAGING": STAGING,
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": REGION,
    "AWS_ENDPOINT_URL": S3,
    "MASK_SECONDS": "0.15",
    "TERM": "dumb",
}


class RayNodes:
    """As a context: everything ends with it."""

    def __init__(self, folder):
        self.lab, self.down = Lab(folder), folder / "down"
        self.bucket = LanBucket(self.lab.lan)
        self.head = ""
        self._count, self._s3 = 0, None

    def __enter__(self):
        self.lab.up()
        words = ["ip", "netns", "exec", self.lab.lan, sys.executable, "-m", "tests.cluster_lab.fake_s3", self.down]
        self._s3 = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._s3.stdout.readline() == "ready\n"
        self.bucket.make()
        return self

    def __exit__(self, *_):
        self._s3.kill()
        self._s3.wait()
        self._s3.stdout.close()
        self.bucket.close()
        self.lab.down()

    def start(self, workers):
        """Start a cluster on new machines; returns the workers' names."""
        self.head, ip = self._boot("head")
        self.run(self.head, f"ray start --head --port 6379 --num-cpus 0 --node-ip-address {ip}")
        return [self._join(ip) for _ in range(workers)]

    def _join(self, head_ip):
        name, ip = self._boot("worker")
        self.run(name, f"ray start --address {head_ip}:6379 --num-cpus 1 --node-ip-address {ip}")
        return name

    def _boot(self, kind):
        self._count += 1
        name, ip = f"{kind[0]}{self._count}", f"172.31.1.{self._count}"
        # The node's /tmp is empty, and the project may lie there.
        self.lab.start(name, [ip], binds=[f"{ROOT}:{ROOT}"], setup=HERE / "ray_setup.sh")
        return name, ip

    def run(self, name, command, *, timeout=180):
        """Run it on a node."""
        return self.lab.run(name, f"{_line()}{command}", user="root", timeout=timeout)

    def begin(self, stage, output):
        """Start a stage of the run 'lab' on the head, and go on."""
        command = (
            f"cd {HERE} && python -m raysweep {stage} --config losses.yaml --name lab --storage {STORAGE} "
            "--set resources.address=auto"
        )
        with output.open("w") as file:
            return subprocess.Popen(
                self.lab.words(self.head, f"{_line()}{command}", user="root"), stdout=file, stderr=subprocess.STDOUT
            )

    def notice(self, name):
        """What the watcher does when EC2 has given notice."""
        self.run(name, "python -c 'from raysweep.cluster.spot_watch import drain_this_node; drain_this_node(60.0)'")

    def fill_disk(self, name):
        """Take all space of its disk; returns how to give it back."""
        self.run(name, f"fallocate -l {DISK_MB}M {STAGING}/filler || cat /dev/zero > {STAGING}/filler || true")
        return lambda: self.run(name, f"rm {STAGING}/filler")


def _line():
    return "".join(f"export {name}='{value}'; " for name, value in VARIABLES.items())
