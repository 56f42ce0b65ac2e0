"""Compares a run on a local path with the same run in object storage, by wall-clock and CPU time.

    python -m tests.staging.s3_overhead                      # the default run, twice each, in turn: some eight minutes
    python -m tests.staging.s3_overhead --rounds 4 -- --config tests/cluster_lab/sweep.yaml --inline

The bucket is a local S3 (moto) in a separate process on the same cores, so its own work slows down the run on s3://;
its CPU time is printed beside the run's.  The run's line 'storage: …' says how long the work waited for the bucket.
Needs root, and a kernel with cgroup2: a control group counts the CPU time.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.staging.object_server import ObjectServer


def _serve(answer):
    server = ObjectServer()
    answer.send((server.url, server.new_bucket()))
    answer.recv()


class Processes:
    """A command with all processes that it starts, including Ray's workers, in a control group that counts CPU time."""

    def __init__(self):
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
        self._group = Path(next(mount[1] for mount in mounts if mount[2] == "cgroup2"), f"s3-overhead-{os.getpid()}")

    def __enter__(self):
        self._group.mkdir()
        return self

    def __exit__(self, *_):
        self._group.rmdir()

    def run(self, words, variables):
        """Run it; return the completed process, its wall-clock seconds, and the CPU seconds of all its processes."""
        before, began = self._seconds(), time.monotonic()
        join = ["bash", "-c", f'echo $$ > {self._group}/cgroup.procs && exec "$@"', "join"]
        done = subprocess.run([*join, *words], env=os.environ | variables, capture_output=True, text=True)
        wall_s = time.monotonic() - began
        # Ray's last processes end after the command.
        while "populated 1" in (self._group / "cgroup.events").read_text():
            time.sleep(0.1)
        return done, wall_s, self._seconds() - before

    def _seconds(self):
        lines = (self._group / "cpu.stat").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("usage_usec")) / 1e6


def _run(processes, storage, options, variables):
    """Execute one run; return wall-clock seconds, CPU seconds of all processes, and its last line about storage."""
    words = [sys.executable, "-m", "raysweep", "run", "--name", "run", "--storage", storage, *options]
    done, wall_s, cpu_s = processes.run(words, variables)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    traffic_lines = [line for line in done.stdout.splitlines() if line.startswith("storage: sent")]
    return wall_s, cpu_s, "".join(traffic_lines)


def main():
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("options", nargs="*", help="of `raysweep run`, after --")
    given = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,))
    server.start()
    url, bucket = ours.recv()
    variables = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
    }
    walls, cpus = {"path": [], "s3": []}, {"path": [], "s3": []}
    try:
        for number in range(given.rounds):
            for kind in sorted(walls, reverse=number % 2 == 1):
                with tempfile.TemporaryDirectory() as folder:
                    place = f"s3://{bucket}/{number}" if kind == "s3" else folder
                    variables["RAYSWEEP_STAGING"] = str(Path(folder, "staging"))
                    cpu_before = sum(psutil.Process(server.pid).cpu_times()[:2])
                    with Processes() as processes:
                        wall_s, cpu_s, traffic_line = _run(processes, place, given.options, variables)
                    of_server = sum(psutil.Process(server.pid).cpu_times()[:2]) - cpu_before
                walls[kind].append(wall_s)
                cpus[kind].append(cpu_s)
                print(
                    f"{kind:4}  wall {wall_s:6.1f} s  CPU {cpu_s:6.1f} s  server's {of_server:5.1f} s  {traffic_line}",
                    flush=True,
                )
    finally:
        ours.send("end")
        server.join()
    wall, cpu = (statistics.median(times["s3"]) / statistics.median(times["path"]) for times in (walls, cpus))
    print(f"s3 / path, by the medians: wall {wall:.3f}, CPU {cpu:.3f}; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
