"""Settings of the resources of a run."""

import os
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from raysweep.config.section import Cores, Section


class ResourcesConfig(Section):
    """Resources of a run; never part of a fingerprint, because results do not depend on them."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"pack": "trials_per_gpu"}

    gpus_per_trial: Annotated[float, Field(ge=0.0, le=4096.0)] | Literal["auto"] = Field(
        "auto", description="GPUs of one trial, possibly a fraction; auto: 1 if the cluster has any, otherwise 0"
    )
    cpus_per_trial: Cores = Field(
        1, description="CPU cores (torch threads) of one trial; on a CPU the number affects the last bits of results"
    )
    trials_per_gpu: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        "auto",
        description="trials that share one GPU; auto: as many as fit and increase throughput in the calibration, "
        "otherwise 1; on CPUs, the most trials at a time",
    )
    accelerator_type: str | None = Field(
        None, description="kind of GPU, such as A100 (Ray's names), if a cluster has several kinds"
    )
    train_workers: Literal["auto", "own", "shared"] = Field(
        "auto",
        description="own: a new Ray Train worker, with its helper processes, for each training; shared: one training "
        "after another in the same process, which saves about 10 s each, and more on GPUs; auto: shared if Ray "
        "is started on this machine and a training uses at most one GPU, otherwise own",
    )
    mask_workers: Cores | None = Field(None, description="CPU workers that make examples; all cores if absent")
    max_failures: Annotated[int, Field(ge=0, le=1000)] = Field(2, description="times that a lost worker is replaced")
    address: str | None = Field(
        None,
        description="a Ray cluster to join ('auto' on its head), or 'local': start Ray on this machine; if absent, the "
        "cluster of RAY_ADDRESS, as in a Ray job, otherwise local",
    )

    @property
    def cluster_address(self) -> str | None:
        """The address of the cluster to join; None if Ray is started on this machine."""
        address = self.address or os.environ.get("RAY_ADDRESS") or "local"
        return None if address == "local" else address
