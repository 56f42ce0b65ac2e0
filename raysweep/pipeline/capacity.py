"""What trials take and what a cluster has, compared before anything starts: pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from raysweep.scheduling.order import share_of_gpus


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourceRequest:
    """What one trial takes while it runs."""

    cpus: int
    gpus: float
    kind: str | None = None
    """Of GPU, by Ray's name of its `accelerator_type`; any if None."""

    @property
    def workers(self) -> int:
        """Processes that share the training: one for every whole GPU."""
        return max(1, int(self.gpus))

    @property
    def unit(self) -> str:
        """What its time is counted in: 'gpu', or 'cpu' without one."""
        return "gpu" if self.gpus else "cpu"

    @property
    def slots(self) -> float:
        """How many of them it holds."""
        return share_of_gpus(self.gpus) if self.gpus else float(self.cpus * self.workers)


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What the cluster has, or may grow to."""

    cpus: float
    gpus: float
    kinds: Mapping[str, float] = field(default_factory=dict)
    """GPUs by kind, where nodes say it."""

    def fits(self, need: ResourceRequest, in_use: "Capacity") -> bool:
        """Whether it can run beside what is in use."""
        slack = 1e-6
        if need.gpus and need.kind is not None:
            taken = in_use.kinds.get(need.kind, 0.0) + share_of_gpus(need.gpus)
            if taken > self.kinds.get(need.kind, 0.0) + slack:
                return False
        return (
            in_use.cpus + need.cpus * need.workers <= self.cpus + slack
            and in_use.gpus + share_of_gpus(need.gpus) <= self.gpus + slack
        )


def find_shortage(needs: Mapping[str, ResourceRequest], capacity: Capacity) -> str:
    """What the cluster lacks for these trials to run one at a time, with the fix; '' if nothing."""
    for name, need in needs.items():
        if need.gpus > 1 and need.gpus != int(need.gpus):
            return (
                f"trials.{name}.gpus: found {need.gpus:g}; must be a share of one GPU (such as 0.5) or a whole number"
            )
    has = f"the cluster has {capacity.gpus:g} ({capacity.cpus:g} CPUs)"
    if lacking := [name for name, need in needs.items() if need.gpus > capacity.gpus]:
        most = max(needs[name].gpus for name in lacking)
        # The same trials without GPUs must fit, or the advice would lead to the next error.
        return (
            f"{_ask(lacking)} {most:g} GPU{'s' if most != 1 else ''} each; {has}. "
            "Start nodes with GPUs, or set resources.gpus_per_trial: 0 and no `gpus:` in trials"
        )
    for name, need in needs.items():
        if need.gpus and need.kind is not None and need.gpus > capacity.kinds.get(need.kind, 0.0):
            kinds = ", ".join(f"{kind} {count:g}" for kind, count in sorted(capacity.kinds.items())) or "none it knows"
            whose = "resources" if name == "each" else f"trials.{name}"
            return (
                f"{whose}.accelerator_type: found '{need.kind}', {need.gpus:g} GPU(s); the cluster has {kinds}. "
                "Take one of these, or leave it out"
            )
    if lacking := [name for name, need in needs.items() if need.cpus * need.workers > capacity.cpus]:
        most = max(needs[name].cpus * needs[name].workers for name in lacking)
        return (
            f"{_ask(lacking)} {most} CPUs each; the cluster has {capacity.cpus:g}. "
            f"Start larger nodes, or set resources.cpus_per_trial: {max(1, int(capacity.cpus))}"
        )
    return ""


def _ask(trials: list[str]) -> str:
    if trials == ["each"]:
        return "Every trial asks for"
    return f"{len(trials)} trial{'s ask' if len(trials) > 1 else ' asks'} for"
