"""What a session derives from Ray's resources and from an address."""

import threading
from contextlib import nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from raysweep.cluster.session import Session, capacity_of, refuse_uneven_trial_gpus
from raysweep.config.resource_settings import ResourcesConfig
from raysweep.errors import ResourceError
from raysweep.scheduling.capacity import Capacity, ResourceRequest

A100 = {"CPU": 8.0, "GPU": 2.0, "accelerator_type:A100": 1.0}
T4 = {"CPU": 4.0, "GPU": 1.0, "accelerator_type:T4": 1.0}


@pytest.mark.parametrize(
    ("available", "nodes", "capacity"),
    [
        ({"CPU": 2.0}, [({"CPU": 2.0}, True)], Capacity(cpus=2, gpus=0)),
        ({"CPU": 12.0, "GPU": 3.0}, [(A100, True), (T4, True)], Capacity(cpus=12, gpus=3, kinds={"A100": 2, "T4": 1})),
        ({"CPU": 8.0, "GPU": 2.0}, [(A100, True), (T4, False)], Capacity(cpus=8, gpus=2, kinds={"A100": 2})),
        (
            {"CPU": 8.0, "max_cpu": 24.0, "max_trial_gpu": 4.0, "max_trial_gpu:T4": 4.0},
            [({"CPU": 8.0}, True)],
            Capacity(cpus=24, gpus=4, kinds={"T4": 4}),
        ),
        (
            {"CPU": 12.0, "GPU": 1.0, "max_cpu": 8.0, "max_trial_gpu": 4.0, "max_trial_gpu:T4": 4.0},
            [({"CPU": 8.0}, True), (T4, True)],
            Capacity(cpus=12, gpus=4, kinds={"T4": 4}),
        ),
    ],
    ids=["no GPU", "two kinds", "a dead node", "workers still to come", "a worker has come"],
)
def test_the_clusters_capacity_is_that_of_its_nodes_or_declared_by_its_head(available, nodes, capacity):
    """A run plans for the GPUs that the autoscaler adds once trials wait for them."""
    listed = [{"Resources": resources, "Alive": is_alive} for resources, is_alive in nodes]
    assert replace(capacity_of(available, listed), nodes=()) == capacity


def test_sizes_of_nodes_are_known_unless_others_may_come():
    """The autoscaler may bring up a node on which a larger trial fits."""
    listed = [{"Resources": A100, "Alive": True}, {"Resources": T4, "Alive": False}]
    assert capacity_of(A100, listed).nodes == [Capacity(cpus=8, gpus=2, kinds={"A100": 2})]
    assert capacity_of({**A100, "max_cpu": 24.0}, listed).nodes == ()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:9", r"nothing answers there \(.*refused\)"),
        ("ray://head:10001", "must be auto or host:port"),
        ("head", "must be auto or host:port"),
        (":6379", "must be auto or host:port"),
    ],
)
def test_an_address_without_a_listener_is_refused(address, reason, tmp_path):
    """Ray itself would try for minutes."""
    from raysweep.cluster.session import open_session
    from raysweep.config.resource_settings import ResourcesConfig
    from raysweep.errors import ResourceError

    with pytest.raises(ResourceError, match=rf"^resources.address: found '{address}'; {reason}"):
        open_session(ResourcesConfig(address=address), scratch=tmp_path)


def test_a_server_that_is_not_the_clusters_is_refused(tmp_path, monkeypatch):
    """The dashboard's port is a common mistake; Ray itself would try for minutes."""
    from raysweep.cluster import session

    monkeypatch.setattr(session, "_READY_S", 1.0)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        with pytest.raises(
            ResourceError,
            match=rf"^resources.address: found '{address}'; it does not answer as a head's GCS within 1 s",
        ):
            session.open_session(ResourcesConfig(address=address), scratch=tmp_path)
        server.shutdown()


def test_another_version_of_ray_is_named(tmp_path, monkeypatch):
    """Ray's message has the versions in lines of their own."""
    from raysweep.cluster import session

    def refuse(**_):
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.59.0\n    Python: 3.12.1\nThis")

    monkeypatch.setattr(session.ray, "init", refuse)
    with pytest.raises(ResourceError, match=r"Version mismatch: .* with: Ray: 2\.59\.0 Python: 3\.12\.1 This"):
        session.open_session(ResourcesConfig(address="auto"), scratch=tmp_path)


@pytest.mark.parametrize(
    ("resources", "refused"),
    [
        ([{"CPU": 8.0}, {"CPU": 4.0, "GPU": 1.0, "trial_gpu": 1.0}], ""),
        ([{"CPU": 8.0}, {"CPU": 4.0, "GPU": 2.0, "trial_gpu": 1.0}], "node n1: has 2 GPUs and declares trial_gpu: 1"),
        (
            [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 1.0, "trial_gpu": 1.0}],
            "node n0: has 1 GPU and declares trial_gpu: 0",
        ),
    ],
    ids=["one for one", "two GPUs, one token", "a GPU of the head without"],
)
def test_nodes_with_gpus_on_which_no_trial_would_start_are_refused(resources, refused):
    """A trial that asks for two tokens would wait for ever; a GPU without one would idle."""
    nodes = [
        {"Resources": each, "Alive": True, "NodeManagerHostname": f"n{number}"} for number, each in enumerate(resources)
    ]
    with pytest.raises(ResourceError, match=refused) if refused else nullcontext():
        refuse_uneven_trial_gpus(nodes)


@pytest.mark.parametrize(
    ("need", "declares", "is_refused"),
    [
        (ResourceRequest(cpus=1, gpus=1), True, True),
        (ResourceRequest(cpus=1, gpus=1), False, False),
        (ResourceRequest(cpus=1, gpus=0), True, False),
    ],
    ids=["GPUs with tokens", "no tokens in use", "CPUs only"],
)
def test_only_trainings_on_gpus_need_a_token_for_each_gpu(need, declares, is_refused, monkeypatch):
    """A GPU node without tokens prevented trainings on CPUs, which reserve none."""
    from raysweep.cluster import session

    node = {"Resources": {"CPU": 8.0, "GPU": 1.0}, "Alive": True, "NodeManagerHostname": "n0"}
    monkeypatch.setattr(session.ray, "nodes", lambda: [node])
    cluster = replace(session_on(gpus=1), declares_trial_gpu=declares)
    with pytest.raises(ResourceError, match="node n0") if is_refused else nullcontext():
        cluster.require_trial_gpus({"A1": need})


@pytest.mark.parametrize(("trains", "is_refused"), [(True, True), (False, False)])
def test_finished_models_are_used_on_nodes_without_tokens(trains, is_refused, tmp_path, monkeypatch):
    """Scorers reserve GPUs themselves: one such node prevented `score` and `serve`."""
    from raysweep.cluster import session

    node = {"CPU": 8.0, "GPU": 1.0}
    joined = SimpleNamespace(address_info={"session_dir": str(tmp_path)}, dashboard_url="")
    monkeypatch.setattr(session, "_join", lambda *_: joined)
    monkeypatch.setattr(session, "servers_of_cluster", dict)
    monkeypatch.setattr(session, "check_nodes", lambda check: None)
    monkeypatch.setattr(session.ray, "cluster_resources", lambda: {**node, "max_trial_gpu": 4.0})
    monkeypatch.setattr(session.ray, "nodes", lambda: [{"Resources": node, "Alive": True, "NodeManagerHostname": "n0"}])
    config = ResourcesConfig(address="auto")
    with pytest.raises(ResourceError, match="node n0") if is_refused else nullcontext():
        session.open_session(config, scratch=tmp_path, trains=trains).watch.stop()


@pytest.mark.parametrize(
    ("resources", "capacity", "need", "cpus"),
    [
        ({"trials_per_gpu": 4}, Capacity(cpus=8, gpus=2), ResourceRequest(cpus=1, gpus=0.25), 8),
        ({"trials_per_gpu": "auto"}, Capacity(cpus=8, gpus=2), ResourceRequest(cpus=1, gpus=1.0), 8),
        ({"trials_per_gpu": 4, "gpus_per_trial": 0.5}, Capacity(cpus=8, gpus=2), ResourceRequest(cpus=1, gpus=0.5), 8),
        ({"trials_per_gpu": 2, "cpus_per_trial": 3}, Capacity(cpus=16, gpus=0), ResourceRequest(cpus=3, gpus=0.0), 6),
    ],
    ids=["four on a GPU", "not settled: one", "its own share goes first", "two at a time on a CPU"],
)
def test_trials_per_gpu_sets_a_gpu_share_or_a_part_of_the_cores(resources, capacity, need, cpus):
    """The numbers are the same as for shares that the user sets."""
    session = Session(
        resources=ResourcesConfig(**resources), dashboard="", capacity=capacity, declares_trial_gpu=False, watch=None
    )
    assert session.need() == need
    assert session.training_capacity.cpus == cpus


@pytest.mark.parametrize(
    ("asked", "address", "gpus", "shares"),
    [
        ("auto", None, 0, True),
        ("auto", None, 0.5, True),
        ("auto", None, 1, True),
        ("auto", None, 2, False),
        ("shared", None, 0.5, True),
        ("auto", "auto", 1, False),
        ("own", None, 1, False),
        ("shared", "auto", 1, True),
        ("shared", None, 2, False),
    ],
)
def test_trainings_share_a_process_on_one_machine_by_default(asked, address, gpus, shares):
    """Cluster nodes can be lost, and several GPUs need a process each."""
    resources = ResourcesConfig(train_workers=asked, address=address)
    session = Session(
        resources=resources, dashboard="", capacity=Capacity(cpus=8, gpus=4), declares_trial_gpu=False, watch=None
    )
    assert session.shares_workers(ResourceRequest(cpus=1, gpus=gpus)) is shares


def test_rays_message_about_a_lost_worker_is_cut_to_one_line():
    """The reasons that Ray gives fill a paragraph."""
    from raysweep.cluster.functions import first_line

    assert first_line("\n  The actor died. \nmore") == "The actor died."
    assert len(first_line("word " * 100)) <= 160
    assert first_line("") == "no reason given"


def session_on(gpus, **resources):
    capacity = Capacity(cpus=8, gpus=gpus)
    config = ResourcesConfig(address="auto", **resources)
    return Session(resources=config, dashboard="", capacity=capacity, declares_trial_gpu=False, watch=None)


def test_training_on_the_cpus_of_a_cluster_without_gpus_requires_a_setting():
    """Perhaps its GPUs failed to start: the head's eight CPUs would train for days, and end with 0."""
    with pytest.raises(ResourceError, match=r"has 0 GPUs \(8 CPUs\).*max_trial_gpu.*set resources.gpus_per_trial: 0"):
        session_on(gpus=0).require_gpus()
    session_on(gpus=0, gpus_per_trial=0).require_gpus()
    session_on(gpus=4).require_gpus()
