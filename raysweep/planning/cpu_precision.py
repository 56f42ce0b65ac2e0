"""Chooses the precision of a run's trainings on this machine's CPU, once, before the first training.

With `training.precision: auto`, trainings use bfloat16 if the processor has instructions for it and a test of about a
second shows that the model's matrix products gain from it.  The choice is stored in run.json, used for every trial of
the run wherever it continues, and is part of the trials' fingerprints.

The test compares the fastest rounds of both types.  On the machine where it was measured, products were 2.6 and 3.0
times as fast in bfloat16, far from the threshold of 1.3.  Near the threshold, momentary timing may decide, and
two fresh runs on one machine may choose differently.

'auto' never means 'fp32_onednn', which must be requested by name, and is refused where it cannot be used.

Trainings on GPUs choose by the GPU.  Trainings on the CPUs of a joined cluster use float32, since its nodes may differ.
`pipeline.run_precision` keeps the trainings of one run in the same precision.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from raysweep.config.schema import Config
from raysweep.config.training_settings import ONEDNN, TrialConfig, describe_no_onednn
from raysweep.errors import ResourceError
from raysweep.planning.devices import find_device
from raysweep.planning.model_size import ModelShape, model_shape
from raysweep.scheduling.capacity import gpus_of_trial
from raysweep.scheduling.gpu_specs import find_gpu_spec
from raysweep.scheduling.trials import Trial

NumberType = Literal["fp32", "bf16"]
"""What 'auto' may resolve to."""

CPUINFO = Path("/proc/cpuinfo")
_FLAGS = {"amx_bf16", "avx512_bf16"}
_ONEDNN_FLAGS = {"avx512bw", "avx512dq", "avx512vl"}
"""The flags by which torch detects AVX-512."""
LEAST_WIDTH = 256
"""Narrower models spend their steps elsewhere, so their products are not worth a test."""
LEAST_SPEEDUP = 1.3
_TEST_S = 1.0
"""CPU seconds of the test, provided that three rounds take no longer."""
_MOST_POSITIONS = 1024
"""Rows of the timed products; more would take longer without changing the result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PrecisionTest:
    """The chosen precision, and why."""

    precision: NumberType
    speedup: float
    """Time of the products in float32 divided by their time in bfloat16."""

    def describe(self) -> str:
        """Describe the choice in a line for the user."""
        return (
            f"precision: {self.precision} on this CPU: in bf16 the model's products are {self.speedup:.1f} times as "
            f"fast as in fp32 ({LEAST_SPEEDUP} asked); training.precision sets it"
        )


def choose_precision(config: Config) -> PrecisionTest | None:
    """Test whether bfloat16 pays off; None if there is nothing to choose here.  ResourceError: the test failed."""
    if not any(trial.precision == "auto" for trial in config.trials.values()):
        return None
    if config.resources.cluster_address is not None or find_device(config).gpus or not has_bf16(CPUINFO):
        return None
    shape = model_shape(config)
    if shape.width < LEAST_WIDTH:
        return None
    first = next(trial for trial in config.trials.values() if trial.precision == "auto")
    speedup = _test(shape, min(first.batch_size * shape.positions // 2, _MOST_POSITIONS))
    return PrecisionTest(precision="bf16" if speedup >= LEAST_SPEEDUP else "fp32", speedup=speedup)


def refuse_onednn_here(config: Config, trials: Mapping[str, Trial]) -> None:
    """Raise before anything starts what a training would raise later; a cluster's nodes check for themselves.

    Raises:
        ResourceError: a trial in 'fp32_onednn', or a sample of its search, would be trained on a GPU, or on a CPU that
            is known not to have the AVX-512 instructions that it needs.
    """
    places = {name: place for name, trial in trials.items() if (place := _place_of_onednn(trial.settings))}
    if not places or config.resources.cluster_address is not None:
        return
    device, flags = find_device(config), _flags(CPUINFO)
    for name, place in places.items():
        if device.gpus and gpus_of_trial(config.resources, trials[name].settings.gpus, gpus=device.gpus):
            raise ResourceError(f"{name}: {place}: {describe_no_onednn(device.name, is_gpu=True)}")
        if flags and not flags >= _ONEDNN_FLAGS:
            raise ResourceError(f"{name}: {place}: {describe_no_onednn('a processor without it')}")


def _place_of_onednn(settings: TrialConfig) -> str:
    """Return the setting that requests 'fp32_onednn'; '' if none does."""
    searched = settings.search.space.get("precision") if settings.search else None
    if searched is not None:
        return "search.space.precision" if ONEDNN in (searched.choices or ()) else ""
    return "training.precision" if settings.precision == ONEDNN else ""


def known_precision(config: Config) -> NumberType | None:
    """Return what 'auto' means on this config's devices, if that is known without a test or torch; otherwise None."""
    resources, device = config.resources, find_device(config)
    if resources.cluster_address is not None:
        return "fp32" if resources.gpus_per_trial == 0 else None
    if device.gpus:
        spec = find_gpu_spec(device.name)
        return None if spec is None else "bf16" if spec.has_bf16 else "fp32"
    needs_test = has_bf16(CPUINFO) and model_shape(config).width >= LEAST_WIDTH
    return None if needs_test else "fp32"


def with_precision(config: Config, precision: NumberType | None) -> Config:
    """Replace 'auto' in the config by the run's choice; None if no choice was made."""
    if precision is None:
        return config

    def chosen(settings: Any) -> Any:
        return settings.model_copy(update={"precision": precision}) if settings.precision == "auto" else settings

    trials = {name: chosen(trial) for name, trial in config.trials.items()}
    return config.model_copy(update={"training": chosen(config.training), "trials": trials})


def has_bf16(cpuinfo: Path) -> bool:
    """Return whether the processor multiplies bfloat16, by its flags; False if the system does not list them."""
    return not _FLAGS.isdisjoint(_flags(cpuinfo))


def _flags(cpuinfo: Path) -> set[str]:
    """Return the processor's flags; empty if the system does not list them."""
    if not cpuinfo.exists():
        return set()
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    return set(next((line for line in lines if line.startswith("flags")), "").partition(":")[2].split())


def _test(shape: ModelShape, positions: int) -> float:
    sizes = [str(number) for number in (shape.width, shape.vocabulary, positions, _TEST_S)]
    command = [sys.executable, "-m", "raysweep.training.bf16_speed", *sizes]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise ResourceError(
            f"training.precision: auto: the test of bfloat16 on this CPU failed ({last[:160]}); set it to fp32 or bf16"
        )
    return float(done.stdout)
