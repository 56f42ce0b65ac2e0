"""Process blocks from the head of a two-node cluster; a test starts this as a process of its own.

python -m tests.cluster.blocks_of_two_nodes FOLDER   print the nodes and which node processed which block, as JSON
"""

import json
import os
import sys
from pathlib import Path

# These nodes start without a token, and a process that joins them must not ask for one.
os.environ["RAY_AUTH_MODE"] = "disabled"

import ray
from ray.cluster_utils import Cluster

from raysweep.cluster import block_job
from raysweep.cluster.session import open_session
from raysweep.config.resource_settings import ResourcesConfig
from tests.cluster.listening import free_port
from tests.sweep_tasks import RecordingListener


def number_and_node(block):
    """Return the block and the id of the node that processes it."""
    return block, ray.get_runtime_context().get_node_id()


def main():
    """Process the blocks at once, as for a corpus that is large enough."""
    block_job._START_S = 0.0
    head = {"num_cpus": 1, "include_dashboard": True, "dashboard_port": free_port()}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    other = cluster.add_node(num_cpus=2)
    resources, listener = ResourcesConfig(gpus_per_trial=0, address=cluster.address), RecordingListener()
    with open_session(resources, scratch=Path(sys.argv[1])) as session:
        nodes = block_job.Nodes.find()
        # Two CPUs elsewhere are too few to save time.
        block_job._LOOK_THERE_S = 0.0
        results = list(block_job.spread_blocks(session, listener, number_and_node, int, range(6)))
    nodes_by_block = {
        "nodes": [nodes.cpus_here, nodes.others, nodes.cpus_elsewhere],
        "other": other.node_id,
        "results": results,
        "lines": listener.lines,
    }
    print(json.dumps(nodes_by_block))
    cluster.shutdown()


if __name__ == "__main__":
    main()
