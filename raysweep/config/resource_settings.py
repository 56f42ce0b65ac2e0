"""Settings of the resources of a run."""

import os
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from raysweep.config.section import Cores, Section


class ResourcesConfig(Section):
    """Resources of a run; never part of a fingerprint, since results do not depend on them."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"pack": "trials_per_gpu"}

    gpus_per_trial: Annotated[float, Field(ge=0.0, le=4096.0)] | Literal["auto"] = Field(
        "auto", description="GPUs of one trial, a fraction too; auto: 1 if the cluster has any, else 0"
    )
    cpus_per_trial: Cores = Field(
        1, description="CPU cores (torch threads) of one trial; on a CPU another number changes the last bits"
    )
    trials_per_gpu: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        "auto",
        description="trials that share one GPU; auto: as many as the calibration found to fit and pay, else 1; "
        "on CPUs, the most trials at a time",
    )
    accelerator_type: str | None = Field(
        None, description="kind of GPU, such as A100 (Ray's names), where a cluster has several kinds"
    )
    train_workers: Literal["auto", "own", "shared"] = Field(
        "auto",
        description="own: a fresh Ray Train worker, with its helpers, for each training; shared: one training "
        "after another in the same process, which saves about 10 s each, and more on GPUs; auto: shared where Ray "
        "is started here and a training takes one GPU at most, else own",
    )
    mask_workers: Cores | None = Field(None, description="CPU workers that make examples; all cores if absent")
    max_failures: Annotated[int, Field(ge=0, le=1000)] = Field(2, description="times that a lost worker is replaced")
    address: str | None = Field(
        None,
        description="a Ray cluster to join ('auto' on its head), or 'local': start Ray here; if absent, the one that "
        "RAY_ADDRESS names, as in a Ray job, else local",
    )

    @property
    def cluster_address(self) -> str | None:
        """The address of the cluster to join; None: Ray is started on this machine."""
        address = self.address or os.environ.get("RAY_ADDRESS") or "local"
        return None if address == "local" else address
