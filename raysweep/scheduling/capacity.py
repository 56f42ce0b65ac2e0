"""Compares the resources that trials request with those of a cluster, before anything starts."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from raysweep.config.resource_settings import ResourcesConfig
from raysweep.scheduling.order import share_of_gpus

_SLACK = 1e-6


def gpus_of_trial(resources: ResourcesConfig, own: float | None, *, gpus: float, together: int | None = None) -> float:
    """Return the number of GPUs of one trial: its own setting, or else `resources.gpus_per_trial`.

    Args:
        own: the trial's `gpus`.
        gpus: number of GPUs available; with 'auto' a trial takes a part of one, or none if there are no GPUs.
        together: trials that share one GPU; None for `resources.trials_per_gpu`, with 'auto' counted as 1.
    """
    asked = resources.gpus_per_trial if own is None else own
    if asked != "auto":
        return float(asked)
    if together is None:
        together = 1 if resources.trials_per_gpu == "auto" else resources.trials_per_gpu
    return 1.0 / together if gpus >= 1 else 0.0


def shares_process(resources: ResourcesConfig, need: "ResourceRequest", *, is_staged: bool = False) -> bool:
    """Return whether such trials are trained one after another in the same processes; see `trial_driver.drive`.

    With 'auto' they are on a single machine: a GPU's first steps in a process take some 10 s, and torch and Ray Train
    30 s more.  On a cluster, where nodes may be lost, Ray Train reports more about failures.

    Args:
        is_staged: workers have their own disks, and can report evaluations and failures only through Ray Train.
    """
    asked = resources.train_workers
    is_local = resources.cluster_address is None
    return need.workers == 1 and not is_staged and (is_local if asked == "auto" else asked == "shared")


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourceRequest:
    """The resources of one trial while it runs."""

    cpus: int
    """CPU cores of each of its processes."""
    gpus: float
    kind: str | None = None
    """Kind of GPU, as Ray's `accelerator_type`; None for any kind."""

    @property
    def workers(self) -> int:
        """Number of processes that share the training: one per whole GPU."""
        return max(1, int(self.gpus))

    @property
    def of_worker(self) -> "ResourceRequest":
        """The part that one of its processes takes, all on one node."""
        return replace(self, gpus=self.gpus / self.workers)

    @property
    def unit(self) -> str:
        """The unit of its time: 'gpu', or 'cpu' if it has no GPU."""
        return "gpu" if self.gpus else "cpu"

    @property
    def slots(self) -> float:
        """The number of these units that it holds."""
        return share_of_gpus(self.gpus) if self.gpus else float(self.cpus * self.workers)


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """Resources that the cluster has, may grow to, or has in use."""

    cpus: float
    gpus: float
    kinds: Mapping[str, float] = field(default_factory=dict)
    """GPUs by kind, as far as nodes report it."""
    nodes: Sequence["Capacity"] = ()
    """The nodes, which together have all this; empty if others may come."""

    @classmethod
    def used_by(cls, requests: Iterable[ResourceRequest]) -> Self:
        """Add up the resources of several trials."""
        cpus, gpus, kinds = 0.0, 0.0, Counter[str]()
        for request in requests:
            share = share_of_gpus(request.gpus)
            cpus, gpus = cpus + request.cpus * request.workers, gpus + share
            if request.kind is not None:
                kinds.update({request.kind: share})
        return cls(cpus=cpus, gpus=gpus, kinds=kinds)

    def fits(self, requests: Iterable[ResourceRequest]) -> bool:
        """Return whether the trials can run at the same time."""
        used = self.used_by(requests)
        of_kinds = all(count <= self.kinds.get(kind, 0.0) + _SLACK for kind, count in used.kinds.items())
        return of_kinds and used.cpus <= self.cpus + _SLACK and used.gpus <= self.gpus + _SLACK

    def count_workers(self, worker: ResourceRequest) -> int:
        """Return how many such workers fit on this one node at the same time."""
        by_cpu = int(self.cpus / worker.cpus + _SLACK)
        if not worker.gpus:
            return by_cpu
        gpus = self.gpus if worker.kind is None else self.kinds.get(worker.kind, 0.0)
        return min(by_cpu, int(gpus / share_of_gpus(worker.gpus) + _SLACK))


def find_shortage(requests: Mapping[str, ResourceRequest], capacity: Capacity) -> str:
    """Say what the cluster lacks to run these trials one at a time, with the fix; '' if nothing."""
    for name, request in requests.items():
        if request.gpus > 1 and request.gpus != int(request.gpus):
            return (
                f"trials.{name}.gpus: found {request.gpus:g}; "
                "must be a share of one GPU (such as 0.5) or a whole number"
            )
    has = f"the cluster has {capacity.gpus:g} ({capacity.cpus:g} CPUs)"
    if lacking := [name for name, request in requests.items() if request.gpus > capacity.gpus]:
        most = max(requests[name].gpus for name in lacking)
        # The same trials without GPUs must fit, or this advice would lead to the next error.
        return (
            f"{_describe_request(lacking)} {most:g} GPU{'s' if most != 1 else ''} each; {has}. "
            "Start nodes with GPUs, or set resources.gpus_per_trial: 0 and no `gpus:` in trials"
        )
    for name, request in requests.items():
        if request.gpus and request.kind is not None and request.gpus > capacity.kinds.get(request.kind, 0.0):
            kinds = ", ".join(f"{kind} {count:g}" for kind, count in sorted(capacity.kinds.items())) or "none it knows"
            whose = "resources" if name == "each" else f"trials.{name}"
            return (
                f"{whose}.accelerator_type: found '{request.kind}', {request.gpus:g} GPU(s); the cluster has {kinds}. "
                "Use one of these, or leave it out"
            )
    if lacking := [name for name, request in requests.items() if request.cpus * request.workers > capacity.cpus]:
        most = max(requests[name].cpus * requests[name].workers for name in lacking)
        return (
            f"{_describe_request(lacking)} {most} CPUs each; the cluster has {capacity.cpus:g}. "
            f"Start larger nodes, or set resources.cpus_per_trial: {max(1, int(capacity.cpus))}"
        )
    if lacking := [name for name, request in requests.items() if not _fits_nodes(request, capacity.nodes)]:
        first, others = requests[lacking[0]], len(lacking) - 1
        whose = "every trial" if lacking == ["each"] else f"trials.{lacking[0]}"
        worker = f"each of its {first.workers} workers needs" if first.workers > 1 else "needs"
        sizes = ", ".join(dict.fromkeys(_size(node) for node in capacity.nodes))
        more = f" ({others} more trial{'s fit' if others > 1 else ' fits'} on none)" if others else ""
        return (
            f"{whose}: {worker} {_size(first.of_worker)} on one node; the cluster's nodes have {sizes}{more}. "
            "Start larger nodes, or set resources.cpus_per_trial or the trial's GPUs lower"
        )
    return ""


def _fits_nodes(request: ResourceRequest, nodes: Sequence[Capacity]) -> bool:
    return not nodes or sum(node.count_workers(request.of_worker) for node in nodes) >= request.workers


def _size(part: ResourceRequest | Capacity) -> str:
    cpus = f"{part.cpus:g} CPU{'s' if part.cpus != 1 else ''}"
    return cpus + (f" and {part.gpus:g} GPU{'s' if part.gpus != 1 else ''}" if part.gpus else "")


def _describe_request(trials: list[str]) -> str:
    if trials == ["each"]:
        return "Every trial asks for"
    return f"{len(trials)} trial{'s ask' if len(trials) > 1 else ' asks'} for"
