"""Joins a Ray cluster or starts Ray on this machine, and compares what trials request with the available resources.

A locally started Ray uses this machine only, and ends with the session; see `local_ray`.  The dashboard
stays on where models are trained: Ray Train asks it whether the resources of a dead trial can be freed; without it
the trial's GPU is never released.
"""

import logging
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import ray

from raysweep.cluster.functions import first_line
from raysweep.cluster.local_ray import AUTH_TOKEN, LocalRay, start_ray
from raysweep.cluster.native_memory import share_arenas
from raysweep.cluster.node_check import NodeCheck, check_nodes, new_check
from raysweep.cluster.private_files import protect_token
from raysweep.cluster.ray_internals import (
    check_private_names,
    enable_token_authentication,
    leave_sigterm_alone,
    listening_on_loopback,
)
from raysweep.cluster.ray_watch import RayWatch, SilentServers, find_ended_server, servers_of_cluster
from raysweep.config.resource_settings import ResourcesConfig
from raysweep.errors import LostRayError, ResourceError
from raysweep.scheduling.capacity import Capacity, ResourceRequest, find_shortage, gpus_of_trial, shares_process
from raysweep.staging.run_staging import Staging, StagingTicket
from raysweep.storage.atomic_files import write_json

logger = logging.getLogger(__name__)

TRIAL_GPU = "trial_gpu"
"""The resource that cluster.yaml's nodes declare beside GPU, one for one; see `trial_driver.bundles`."""
MAX_TRIAL_GPU = "max_trial_gpu"
"""The resource by which the head declares the maximum number of GPUs that the autoscaler may bring up.

'max_trial_gpu:A10G' declares the same for GPUs of that kind.
"""
MAX_CPU = "max_cpu"
"""The resource by which the head declares the maximum number of CPUs that the autoscaler may bring up."""

TRAIN_VARIABLES = {
    # A report waits until the controller polls (every 2 s by default), and so does the end of a run.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.3",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # Enables the dashboard's Train tab.
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
    # Workers wait for a busy or new node as long as it takes: Train's retries are off (`trial_driver._trainer`).
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "1000000000",
}
"""Variables of Ray Train, also set in a trial's process: a cluster's processes do not inherit this environment."""
_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    **TRAIN_VARIABLES,
    # The trial writes metrics.jsonl itself; Tune would write the same data again.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # A later run uses the trials' records; Tune would repeatedly write the state of all trials, and keep it.
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    # The searcher suggests no more trials than fit, so each of them may wait for the autoscaler.
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
    # Tune's handler of Ctrl-C loses unsaved work; see `pipeline.signals`.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
_READY_S = 10.0
_ACCELERATOR_TYPE = "accelerator_type:"
"""Ray's prefix of the kind of a node's GPUs among the node's resources."""


@dataclass(frozen=True, kw_only=True)
class Session(AbstractContextManager["Session"]):
    """A connection to Ray; as a context manager it closes itself."""

    resources: ResourcesConfig
    dashboard: str
    """Its URL; '' if it does not run."""
    capacity: Capacity
    declares_trial_gpu: bool
    """Whether GPU nodes declare `trial_gpu`, so that a waiting trial makes the autoscaler start one."""
    watch: RayWatch
    """Interrupts the work when Ray is lost."""
    local: LocalRay | None = None
    """The locally started Ray; None for a joined cluster."""
    check: NodeCheck | None = None
    """What each process of a joined cluster compares with its own state before it works."""
    ticket: StagingTicket | None = None
    """What workers with their own disks need to find the run in object storage; None if they can read its folder."""

    @property
    def gpus_per_trial(self) -> float:
        """`resources.gpus_per_trial`, with 'auto' resolved."""
        return gpus_of_trial(self.resources, None, gpus=self.capacity.gpus)

    @property
    def training_capacity(self) -> Capacity:
        """What trainings may use together; on CPUs, `resources.trials_per_gpu` limits how many run at once."""
        most = self.resources.trials_per_gpu
        if self.gpus_per_trial or most == "auto":
            return self.capacity
        return replace(self.capacity, cpus=min(self.capacity.cpus, float(most * self.resources.cpus_per_trial)))

    def need(self, gpus: float | None = None, kind: str | None = None) -> ResourceRequest:
        """Return the resources of a trial; `gpus` and `kind` (of GPU) override the config's."""
        return ResourceRequest(
            cpus=self.resources.cpus_per_trial,
            gpus=gpus_of_trial(self.resources, gpus, gpus=self.capacity.gpus),
            kind=kind or self.resources.accelerator_type,
        )

    def shares_workers(self, need: ResourceRequest) -> bool:
        """Return whether such trials are trained one after another in the same processes."""
        return shares_process(self.resources, need, is_staged=self.ticket is not None)

    def require(self, needs: Mapping[str, ResourceRequest]) -> None:
        """Raise ResourceError, with the counts and the fix, for trials that could never start."""
        if shortage := find_shortage(needs, self.capacity):
            raise ResourceError(shortage)

    def require_trial_gpus(self, needs: Mapping[str, ResourceRequest]) -> None:
        """Raise ResourceError if trainings reserve `trial_gpu`, and a node's number of them is not that of its GPUs."""
        if self.declares_trial_gpu and any(need.gpus and not self.shares_workers(need) for need in needs.values()):
            refuse_uneven_trial_gpus(ray.nodes())  # type: ignore[no-untyped-call]

    def require_gpus(self) -> None:
        """Raise ResourceError rather than train on a cluster's CPUs that the config did not ask for."""
        if self.resources.gpus_per_trial == "auto" and not self.capacity.gpus:
            raise ResourceError(
                f"the cluster has 0 GPUs ({self.capacity.cpus:g} CPUs), and its head declares none that may come "
                f"(cluster.yaml: {MAX_TRIAL_GPU}). Start nodes with GPUs, or set resources.gpus_per_trial: 0 to train "
                "on its CPUs"
            )

    def describe(self) -> str:
        """Describe the session in a line for the user."""
        where = "joined" if self.resources.cluster_address else "started here"
        return (
            f"Ray {ray.__version__} ({where}), {self.capacity.cpus:g} CPUs, {self.capacity.gpus:g} GPUs, "
            f"dashboard {f'{self.dashboard} (asks for the token in ~/.ray/auth_token)' if self.dashboard else 'off'}"
        )

    def close(self) -> None:
        """Disconnect; a locally started Ray ends with all its processes.

        Raises:
            LostRayError: Ray was lost before.
        """
        try:
            self.watch.stop()
        except LostRayError:
            if self.local is not None:
                self.local.leave()
            raise
        if self.local is None:
            ray.shutdown()
        else:
            self.local.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def open_session(
    resources: ResourcesConfig,
    *,
    scratch: Path,
    cpus: int | None = None,
    gpus: int | None = None,
    staging: Staging | None = None,
    shares_folder: bool = True,
    trains: bool = True,
    with_dashboard: bool = True,
) -> Session:
    """Join the cluster at `resources.cluster_address`, or start Ray on this machine.

    Args:
        scratch: a folder of the run; a file in it records where Ray's own logs are, others are compared by nodes.
        cpus, gpus: of a locally started Ray, instead of this machine's.
        staging: of the run folder, if it is in object storage.
        shares_folder: False if nodes fetch what they need themselves; then only their code is compared.
        trains: False if only finished models are used, which is possible on a cluster without GPUs.
        with_dashboard: of a locally started Ray; its start takes 2.5 s of CPU.

    Raises:
        ResourceError: there is no cluster at the address, or it cannot run one trial, or a node has another
            storage or another raysweep, or this version of Ray is not supported.
    """
    check_private_names()
    if trains:
        share_arenas()
    address = resources.cluster_address
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    leave_sigterm_alone()
    if address is None:
        shares = {TRIAL_GPU: float(gpus)} if gpus else None
        local = start_ray(cpus, gpus, shares, with_dashboard=with_dashboard)
        context = local.context
    else:
        local, context = None, _join(address, "resources.address" if resources.address else "RAY_ADDRESS")
    with ExitStack() as on_error:
        on_error.callback(local.close if local else ray.shutdown)
        logs = Path(context.address_info["session_dir"], "logs")
        watch = RayWatch(logs, find_ended_server) if local else RayWatch(logs, SilentServers(servers_of_cluster()), 1.0)
        watch.start()
        on_error.callback(watch.stop)
        available: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        session = Session(
            resources=resources,
            dashboard=f"http://{context.dashboard_url}" if context.dashboard_url else "",
            capacity=capacity_of(available, ray.nodes()),  # type: ignore[no-untyped-call]
            declares_trial_gpu=TRIAL_GPU in available or MAX_TRIAL_GPU in available,
            watch=watch,
            local=local,
        )
        write_json(scratch / "session.json", {"dashboard": session.dashboard, "logs": str(logs)})
        session.require({"each": session.need()})
        if address:
            if trains:
                session.require_gpus()
                session.require_trial_gpus({"each": session.need()})
            ticket = staging.ticket if staging is not None else None
            check = new_check(scratch / "nodes", ticket)
            if not shares_folder:
                check = replace(check, note=None)
            check_nodes(check)
            session = replace(session, check=check, ticket=ticket)
        on_error.pop_all()
    logger.info("%s", session.describe())
    return session


def _join(address: str, whose: str) -> Any:
    """Join the cluster; `whose` names the setting that gave the address, for a message."""
    try:
        check_reachable(address)
        # Suppress Ray's warning that the cluster requires a token, which is intended.
        logging.getLogger("ray").setLevel(logging.ERROR)
        protect_token(AUTH_TOKEN, create=False)
        enable_token_authentication()
        with listening_on_loopback(False):
            return ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ResourceError(
            f"{whose}: found '{address}'; {first_line(' '.join(str(error).split()))}. "
            "Start the cluster (`ray up cluster.yaml`), run on its head with address: auto, or set address: local"
        ) from error


def check_reachable(address: str) -> None:
    """Refuse an address at which nothing listens, or no gRPC server, since `ray.init` would retry for minutes.

    Raises:
        ValueError: it is neither 'auto' nor host:port.
        ConnectionError: nothing answers there, or not as a GCS within 10 s.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise ValueError("must be auto or host:port (of the head's GCS, usually 6379)")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise ConnectionError(f"nothing answers there ({error})") from error
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return
    # Never through a proxy, like Ray.
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_READY_S)
        except grpc.FutureTimeoutError as error:
            raise ConnectionError(
                f"it does not answer as a head's GCS within {_READY_S:g} s (port usually 6379; set RAY_USE_TLS if "
                "the cluster uses TLS)"
            ) from error


def refuse_uneven_trial_gpus(nodes: Iterable[Mapping[str, Any]]) -> None:
    """Refuse nodes, as `ray.nodes` returns them, whose numbers of GPUs and of `trial_gpu` differ.

    Without a token a GPU stays idle; with more tokens than GPUs, trials that hold one wait for ever for a GPU.

    Raises:
        ResourceError: the message names the first such node.
    """
    for node in nodes:
        tokens, gpus = (node["Resources"].get(name, 0.0) for name in (TRIAL_GPU, "GPU"))
        if node["Alive"] and tokens != gpus:
            raise ResourceError(
                f"node {node['NodeManagerHostname']}: has {gpus:g} GPU{'s' if gpus != 1 else ''} and declares "
                f"{TRIAL_GPU}: {tokens:g}; if one node declares {TRIAL_GPU}, or the head {MAX_TRIAL_GPU}, each must "
                "declare as many as it has GPUs"
            )


def capacity_of(available: Mapping[str, float], nodes: Iterable[Mapping[str, Any]]) -> Capacity:
    """Return the resources that the cluster has, or may grow to according to its head.

    Args:
        available: total of each resource, as `ray.cluster_resources` returns it.
        nodes: as `ray.nodes` returns them.
    """
    present = [_capacity_of_node(node["Resources"]) for node in nodes if node["Alive"]]
    kinds: dict[str, float] = {}
    for kind, count in (item for node in present for item in node.kinds.items()):
        kinds[kind] = kinds.get(kind, 0.0) + count
    for kind, count in _named(f"{MAX_TRIAL_GPU}:", available).items():
        kinds[kind] = max(kinds.get(kind, 0.0), count)
    return Capacity(
        cpus=max(available.get("CPU", 0.0), available.get(MAX_CPU, 0.0)),
        gpus=max(available.get("GPU", 0.0), available.get(MAX_TRIAL_GPU, 0.0)),
        kinds=kinds,
        # Nothing tells of what size the nodes are that the autoscaler may bring up.
        nodes=() if {MAX_CPU, MAX_TRIAL_GPU} & set(available) else present,
    )


def _capacity_of_node(resources: Mapping[str, float]) -> Capacity:
    gpus = resources.get("GPU", 0.0)
    return Capacity(
        cpus=resources.get("CPU", 0.0), gpus=gpus, kinds=dict.fromkeys(_named(_ACCELERATOR_TYPE, resources), gpus)
    )


def _named(prefix: str, resources: Mapping[str, float]) -> dict[str, float]:
    return {name.removeprefix(prefix): count for name, count in resources.items() if name.startswith(prefix)}
