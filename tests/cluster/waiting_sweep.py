"""Interrupt a sweep whose training waits for a CPU that another program holds; a test starts this as its own process.

python -m tests.cluster.waiting_sweep FOLDER   print the placement groups that are left on the cluster, as JSON
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

# This cluster starts without a token, and a process that joins it must not ask for one.
os.environ["RAY_AUTH_MODE"] = "disabled"

import ray
from ray.cluster_utils import Cluster

from raysweep.cluster.session import open_session
from raysweep.cluster.sweep import run_sweep
from raysweep.config.resource_settings import ResourcesConfig
from raysweep.pipeline import signals
from raysweep.storage.run_folder import RunFolder
from tests.cluster.listening import free_port
from tests.sweep_tasks import RecordingListener, make_task


@ray.remote(num_cpus=1)
class Holder:
    """Another program's actor."""

    def answer(self):
        return True


def hold_the_cpu(address):
    """Leave the actor on the cluster."""
    ray.init(address=address, log_to_driver=False)
    ray.get(Holder.options(lifetime="detached", name="holder", namespace="others").remote().answer.remote())
    ray.shutdown()


def waiting_groups():
    """Return the bundles of the placement groups that have no place yet."""
    return [group["bundles"][0] for group in ray.util.placement_group_table().values() if group["state"] == "PENDING"]


def interrupt_when_it_waits():
    """Send SIGTERM when the training's worker has asked for its CPU."""
    while {"CPU": 1.0} not in waiting_groups():
        time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGTERM)


def main():
    """Interrupt the sweep, and look at the cluster through another connection."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": True, "dashboard_port": free_port()},
    )
    hold_the_cpu(cluster.address)
    run = RunFolder(Path(sys.argv[1]) / "run")
    signals.GRACE_S = 1.0
    resources, is_interrupted = ResourcesConfig(gpus_per_trial=0, address=cluster.address), False
    try:
        with open_session(resources, scratch=run.ray) as session:
            threading.Thread(target=interrupt_when_it_waits, daemon=True).start()
            tasks = [make_task(run, "A1")]
            run_sweep(session, tasks, RecordingListener(), storage=run.ray, train="tests.cluster.fake_trainings:train")
    except KeyboardInterrupt:
        is_interrupted = True
    ray.init(address=cluster.address, log_to_driver=False)
    time.sleep(2.0)
    print(json.dumps({"interrupted": is_interrupted, "left": waiting_groups()}))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
