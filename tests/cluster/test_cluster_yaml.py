"""cluster.yaml, checked without a cloud: against Ray's schema, and for values that a sweep depends on."""

import re
from pathlib import Path

import pytest
import yaml

PLACE = Path(__file__).parents[2] / "cluster.yaml"


@pytest.fixture
def cluster():
    return yaml.safe_load(PLACE.read_text(encoding="utf-8"))


@pytest.fixture
def nodes(cluster):
    return cluster["available_node_types"]


def test_ray_accepts_cluster_yaml(cluster):
    """`ray up` checks this before any request to AWS."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(cluster))


def test_rays_validation_rejects_an_unknown_key(cluster):
    """Otherwise the test above could not fail."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    cluster["available_node_types"]["gpu_worker"]["resources"]["GPU"] = 0.5
    with pytest.raises(Exception, match=r"0.5 is not of type 'integer'"):
        validate_config(prepare_config(cluster))


def test_every_gpu_has_its_custom_resource(nodes):
    """Trials reserve `trial_gpu`: with too few, GPUs idle; with too many, trials wait on a GPU in use."""
    from raysweep.cluster.session import TRIAL_GPU

    for node in nodes.values():
        assert node["resources"].get(TRIAL_GPU, 0) == node["resources"].get("GPU", 0)


def test_the_head_declares_the_gpus_that_the_autoscaler_can_add(cluster, nodes):
    """Ray does not report it; without it, a run on a cluster that has no workers yet would see no GPU."""
    from raysweep.cluster.session import capacity_of

    head = nodes[cluster["head_node_type"]]
    worker = nodes["gpu_worker"]
    count = min(worker["max_workers"], cluster["max_workers"])
    alone = capacity_of(head["resources"], [{"Alive": True, "Resources": head["resources"]}])
    assert alone.gpus == count * worker["resources"]["GPU"]
    assert alone.cpus == head["resources"]["CPU"] + count * worker["resources"]["CPU"]
    assert dict(alone.kinds) == {"A10G": alone.gpus}


def test_workers_are_spot_instances_and_the_head_is_not(cluster, nodes):
    """The head runs the sweep and every trial's driver."""
    for name, node in nodes.items():
        is_spot = node["node_config"].get("InstanceMarketOptions", {}).get("MarketType") == "spot"
        assert is_spot == (name != cluster["head_node_type"])


def test_every_node_type_names_its_image(nodes):
    """Ray's default image is from 2023 and cannot run this torch; EC2 finds the newest such image in any region."""
    from raysweep.cluster.aws_account import IMAGE

    assert {node["node_config"]["ImageId"] for node in nodes.values()} == {f"resolve:ssm:{IMAGE}"}


def test_only_processes_with_the_token_can_connect(cluster):
    """A Ray cluster runs any code that it is sent."""
    starts = [line for key in ("head_start_ray_commands", "worker_start_ray_commands") for line in cluster[key]]
    assert all("RAY_AUTH_MODE=token" in line for line in starts if "ray start" in line)
    assert "~/.ray/auth_token" in cluster["file_mounts"]
    assert any("--dashboard-host=127.0.0.1" in line for line in cluster["head_start_ray_commands"])


def test_the_tested_versions_are_installed(cluster):
    """raysweep is installed from the folder that is copied."""
    files = re.findall(r"~/raysweep/([\w./]+)", " ".join(cluster["setup_commands"]))
    assert {"requirements.lock", "constraints.txt"} <= set(files)
    assert [name for name in files if not (PLACE.parent / name).exists()] == []


def test_cluster_yaml_has_no_placeholders():
    """Region and bucket are options of `raysweep cluster prepare`."""
    text = "".join(line for line in PLACE.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#"))
    assert not re.search(r"EDIT|\b(ami|fs|sg|subnet|vpc)-[0-9a-f]{8,}\b", text)


def test_workers_watch_for_the_spot_interruption_notice(cluster):
    """No part of Ray reads it."""
    assert any("-m raysweep cluster watch-spot" in line for line in cluster["worker_start_ray_commands"])


def test_a_stopped_job_has_time_for_a_checkpoint(cluster):
    """It has more time than trainings have; Ray's default is three seconds."""
    from raysweep.pipeline.signals import GRACE_S

    (start,) = [line for line in cluster["head_start_ray_commands"] if "ray start" in line]
    assert float(re.search(r"RAY_JOB_STOP_WAIT_TIME_S=(\d+) ", start)[1]) >= GRACE_S + 15
