"""Compares the time of a run on a local path, by the clock and of the CPU, with the same run in object storage.

    python -m tests.staging.s3_overhead                      # the default run, twice each, in turn: some eight minutes
    python -m tests.staging.s3_overhead --rounds 4 -- --config tests/cluster_lab/sweep.yaml --inline

The bucket is a local S3 (moto) in a process of its own, on the same cores, so what it computes counts against s3://;
its CPU time is printed beside the run's.  How long the work waited for the bucket is in the run's line 'storage: …'.
"""

import argparse
import multiprocessing
import os
import resource
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


def _run(storage, options, variables):
    """One run: seconds of wall time, seconds of CPU time with all its processes, and its last line about storage."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    words = [sys.executable, "-m", "raysweep", "run", "--name", "run", "--storage", storage, *options]
    done = subprocess.run(words, env=os.environ | variables, capture_output=True, text=True)
    wall_s = time.monotonic() - began
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = [line for line in done.stdout.splitlines() if line.startswith("storage: sent")]
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "".join(said)


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
                    wall_s, cpu_s, said = _run(place, given.options, variables)
                    of_server = sum(psutil.Process(server.pid).cpu_times()[:2]) - cpu_before
                walls[kind].append(wall_s)
                cpus[kind].append(cpu_s)
                print(
                    f"{kind:4}  wall {wall_s:6.1f} s  CPU {cpu_s:6.1f} s  server's {of_server:5.1f} s  {said}",
                    flush=True,
                )
    finally:
        ours.send("end")
        server.join()
    wall, cpu = (statistics.median(times["s3"]) / statistics.median(times["path"]) for times in (walls, cpus))
    print(f"s3 / path, by the medians: wall {wall:.3f}, CPU {cpu:.3f}; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
