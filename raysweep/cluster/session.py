"""Join or start Ray, and compare what trials ask for with what the cluster has.

Started here, Ray is this machine's alone (`address="local"` never joins a stranger's cluster), asks
for a token, and goes with the session.  The dashboard stays on: Ray Train looks up through it
whether a dead trial's resources can be freed; without it a GPU stays taken for ever.
"""

import importlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray
from ray._private.authentication import authentication_token_setup

from raysweep import __version__
from raysweep.config.resource_settings import ResourcesConfig
from raysweep.errors import ResourceError
from raysweep.pipeline.capacity import Capacity, ResourceRequest, find_shortage
from raysweep.storage.atomic_files import write_json

logger = logging.getLogger(__name__)

TOKEN = "trial_gpu"
"""The resource that nodes of cluster.yaml declare beside GPU, one for one; see `training.bundles`."""

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A report waits for the controller's next look (2 s by default), and so does a run's end.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.3",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
    # Metrics are the trial's own metrics.jsonl; Tune would write them once more.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # The searcher hands out no more than fits, so what it handed out may wait for the autoscaler.
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
    # Its handler of Ctrl-C drops what was not saved; see `pipeline.signals`.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Tune's newer reporter prints a banner even if it is told to be silent.
    "RAY_AIR_NEW_OUTPUT": "0",
}
_QUIET_AT_HOME = {
    # There is no node to be reclaimed, and its end is reported as an alarming error.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
_QUIET_ABROAD = {
    # A node may take minutes to come; asking anew every minute only fills the log.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "1800",
}
_KIND = "accelerator_type:"
"""What Ray puts before a GPU's kind in the names of a node's resources."""
_AUTH_TOKEN = Path.home() / ".ray" / "auth_token"
_OBJECT_STORE_BYTES = 512 * 2**20
"""Documents and weights travel as files; what passes through Ray is small."""


class Session:
    """A connection to Ray; as a context it closes itself."""

    def __init__(self, resources: ResourcesConfig, *, dashboard: str, capacity: Capacity, counts_tokens: bool) -> None:
        self.resources = resources
        self.dashboard = dashboard
        """Its URL; '' if it does not run."""
        self.capacity = capacity
        self.counts_tokens = counts_tokens
        """Whether GPU nodes declare `trial_gpu`, so that a waiting trial lets the autoscaler start one."""

    @property
    def gpus_per_trial(self) -> float:
        """`resources.gpus_per_trial`, with 'auto' resolved."""
        asked = self.resources.gpus_per_trial
        if asked == "auto":
            # `auto` was settled before by `settle_trials_per_gpu`, or there was nothing to settle it by.
            together = 1 if self.resources.trials_per_gpu == "auto" else self.resources.trials_per_gpu
            return 1.0 / together if self.capacity.gpus >= 1 else 0.0
        return float(asked)

    @property
    def training_capacity(self) -> Capacity:
        """What trainings may use together: on CPUs, `resources.trials_per_gpu` says how many at a time."""
        most = self.resources.trials_per_gpu
        if self.gpus_per_trial or most == "auto":
            return self.capacity
        return replace(self.capacity, cpus=min(self.capacity.cpus, float(most * self.resources.cpus_per_trial)))

    def need(self, gpus: float | None = None, kind: str | None = None) -> ResourceRequest:
        """What a trial takes; `gpus` and `kind` (of GPU) instead of the config's."""
        return ResourceRequest(
            cpus=self.resources.cpus_per_trial,
            gpus=self.gpus_per_trial if gpus is None else gpus,
            kind=kind or self.resources.accelerator_type,
        )

    def shares_workers(self, need: ResourceRequest) -> bool:
        """Whether such trials train one after another in the same processes; see `training.drive`.

        On GPUs 'auto' leaves them to Ray Train: hours of training do not feel its ten seconds, and every
        training gets a GPU's whole memory back.
        """
        asked = self.resources.train_workers
        is_at_home = self.resources.address is None and need.gpus == 0
        return need.workers == 1 and (is_at_home if asked == "auto" else asked == "shared")

    def require(self, needs: Mapping[str, ResourceRequest]) -> None:
        """Refuse trials that could never start.

        Raises:
            ResourceError: with the counts and the fix.
        """
        if shortage := find_shortage(needs, self.capacity):
            raise ResourceError(shortage)

    def describe(self) -> str:
        """A line for a person."""
        where = "joined" if self.resources.address else "started here"
        return (
            f"Ray {ray.__version__} ({where}), {self.capacity.cpus:g} CPUs, {self.capacity.gpus:g} GPUs, "
            f"dashboard {self.dashboard or 'off'}"
        )

    def close(self) -> None:
        """Disconnect; a Ray that was started here ends with all its processes."""
        ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_session(
    resources: ResourcesConfig, *, scratch: Path, cpus: int | None = None, gpus: int | None = None
) -> Session:
    """Join the cluster at `resources.address`, or start one on this machine.

    Args:
        scratch: a folder of the run, in which it is noted where Ray's own logs are.
        cpus, gpus: of a cluster started here, instead of what this machine has.

    Raises:
        ResourceError: there is no cluster at the address, or it cannot run one trial.
    """
    joins = resources.address is not None
    # It warns at every start that the cluster asks for a token, which is what we want.
    logging.getLogger(authentication_token_setup.__name__).setLevel(logging.ERROR)
    for name, value in {**_QUIET, **(_QUIET_ABROAD if joins else _QUIET_AT_HOME)}.items():
        os.environ.setdefault(name, value)
    with _own_sigterm():
        context = _join(resources.address) if resources.address is not None else _start(cpus, gpus)
    session = Session(
        resources,
        dashboard=f"http://{context.dashboard_url}" if context.dashboard_url else "",
        capacity=_capacity(),
        counts_tokens=_total(TOKEN) > 0,
    )
    write_json(scratch / "session.json", {"dashboard": session.dashboard, "logs": f"{_session_folder()}/logs"})
    try:
        session.require({"each": session.need()})
        if joins:
            _check_code()
    except ResourceError:
        session.close()
        raise
    logger.info("%s", session.describe())
    return session


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep this process's answer to SIGTERM: Ray's is to exit wherever it is, records or not."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _start(cpus: int | None, gpus: int | None) -> Any:
    had_token = _AUTH_TOKEN.exists()
    context = ray.init(
        address="local",
        num_cpus=cpus,
        num_gpus=gpus,
        resources={TOKEN: gpus} if gpus else None,
        include_dashboard=True,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=_OBJECT_STORE_BYTES,
    )
    if not had_token and _AUTH_TOKEN.exists():
        # Ray leaves it readable for every user of the machine, who could then run code as this one.
        _AUTH_TOKEN.chmod(0o600)
    return context


def _join(address: str) -> Any:
    problem = f"resources.address: found '{address}'; {{}}. " + (
        "Start the cluster (`ray up cluster.yaml`), run on its head with address: auto, or leave the address out"
    )
    _knock(address, problem)
    # With an explicit address Ray does not look for a token by itself, and the cluster refuses us.
    authentication_token_setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        return ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ResourceError(problem.format(f"Ray does not let us in ({_first_line(error)})")) from error


def _knock(address: str, problem: str) -> None:
    """Whether anybody is there: Ray itself would go on trying for minutes."""
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        raise ResourceError(problem.format("must be auto or host:port (of the head's GCS, usually 6379)"))
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise ResourceError(problem.format(f"nobody answers there ({error})")) from error


def _check_code() -> None:
    """Workers import raysweep from their own disk; another version would train something else.

    Raises:
        ResourceError: the cluster has none, or another version.
    """

    def version() -> str:
        # Within a function, so that it travels by value: by name it would need raysweep to be found.
        try:
            return str(importlib.import_module("raysweep").__version__)
        except ImportError:
            return ""

    theirs = ray.get(ray.remote(num_cpus=0)(version).remote())
    if theirs != __version__:
        raise ResourceError(
            f"the cluster has raysweep {theirs or '(not installed)'}, this process {__version__}. "
            "Install the same on every node (cluster.yaml: setup_commands), and restart the nodes"
        )


def _capacity() -> Capacity:
    return Capacity(cpus=_total("CPU"), gpus=_total("GPU"), kinds=_kinds())


def _kinds() -> dict[str, float]:
    """GPUs by the kind that their nodes say; of nodes that may come, the autoscaler's most."""
    kinds: dict[str, float] = {}
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        resources = node["Resources"] if node["Alive"] else {}
        for name in resources:
            if name.startswith(_KIND):
                kind = name.removeprefix(_KIND)
                kinds[kind] = kinds.get(kind, 0.0) + resources.get("GPU", 0.0)
    for name in ray._private.state.state.get_max_resources_from_cluster_config() or {}:
        if name.startswith(_KIND):
            kinds[name.removeprefix(_KIND)] = _total("GPU")
    return kinds


def _total(resource: str) -> float:
    """What the cluster has of it, or may start nodes for."""
    now: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    largest = ray._private.state.state.get_max_resources_from_cluster_config() or {}
    return float(max(now.get(resource, 0.0), largest.get(resource, 0.0)))


def _session_folder() -> str:
    node: Any = ray._private.worker.global_worker.node
    return str(node.get_session_dir_path())


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
