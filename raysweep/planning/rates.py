"""How fast a machine does each part of the work: measured by a calibration, or assumed from data sheets.

Times are of one trial alone on its share of the machine; `slow_down` says what company costs.
Whoever foretells from assumed rates must say so: `source` is 'measured' or 'assumed'.
"""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from raysweep.errors import InputError
from raysweep.scheduling.gpu_specs import GIB, MEMORY_GIB, MIB, PEAK_TFLOPS, gpu_kind

ASSUMED_SHARE_OF_PEAK = 0.25
"""Of a GPU's peak that training reaches once its batches are large.  Assumed."""
ASSUMED_STEP_PER_LAYER_S = 2.5e-3
"""Of a step on a GPU however small its batch: a hundred kernels a layer, forward, backward and update.  Assumed."""
ASSUMED_CORE_GFLOPS = 40.0
"""10^9 operations a second that one CPU core reaches in training.  Assumed."""
ROW_S = 3.2e-5
"""Of preparing one row: 723,282 rows of EFCAMDAT's shape took 23 s on two cores.  Too little to calibrate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overheads:
    """What Ray and Python take around the work, in seconds; first measured on two busy cores (BENCHMARKS.md)."""

    ray_start_s: float = 8.0
    """Until the cluster is there."""
    sweep_start_s: float = 2.5
    """Until the first trial's driver starts."""
    trial_start_s: float = 13.5
    """Of one trial, until its first step: Train's actors, importing torch."""
    first_trial_start_s: float = 20.0
    """The same for the trials that start first, whose processes Ray has not yet at hand."""
    scorer_start_s: float = 7.0
    """Until a process that scores or times models has imported torch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """One machine, device and model size."""

    source: Literal["measured", "assumed"]
    device: str
    """Such as 'NVIDIA A100-SXM4-40GB' or 'cpu'."""
    parameters: int
    """Of the model."""
    step_s: float
    """Of an optimiser step without its tokens."""
    token_s: float
    """More for each token of a step's examples, padding included."""
    evaluation_token_s: float
    """Of each token of a validation."""
    checkpoint_s: float
    finish_s: float
    """From the last step to the model in its place, checkpoints apart."""
    score_example_s: float
    """Of one example of the test documents."""
    generate_document_s: float
    """Of the infilling of one document."""
    row_s: float
    """Of preparing one row of the CSV; `ROW_S`, which no calibration measures."""
    mask_s: float
    """Of making one example, on one core."""
    mask_start_s: float = 0.0
    """Of the first examples of a process: compiled code is loaded."""
    memory_bytes: int = 0
    """What a training holds at its peak; 0 if it is not known."""
    device_memory_bytes: int = 0
    slow_down: Mapping[int, float] = field(default_factory=dict)
    """By the number of trainings on one device (on a CPU: at once on the machine): a step's time over that alone."""
    overheads: Overheads = field(default_factory=Overheads)
    measured_at: float | None = None
    """Unix seconds."""
    took_s: float = 0.0
    """What the measuring took."""

    def slow_down_of(self, together: int) -> float:
        """How much longer a step takes with so many together; between and beyond measurements, in a straight line."""
        known = sorted({1: 1.0, **self.slow_down}.items())
        if together <= known[-1][0]:
            around = (pair for pair in itertools.pairwise(known) if pair[0][0] <= together <= pair[1][0])
            (left, low), (right, high) = next(around, (known[0], known[0]))
            return low + (high - low) * (together - left) / max(1, right - left)
        # Not measured: assumed to share the device fairly from there on.
        last, factor = known[-1]
        return factor * together / last

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` gave.

        Raises:
            InputError: written by another version of raysweep.
        """
        try:
            slow_down = {int(count): float(factor) for count, factor in values["slow_down"].items()}
            return cls(**{**values, "slow_down": slow_down, "overheads": Overheads(**values["overheads"])})
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(
                f"rates of another version of raysweep ({error}); measure again: `plan --calibrate`"
            ) from error


def assumed_rates(device: str, *, parameters: int, layers: int, cores: int = 1) -> Rates:
    """Rates from data sheets: 'cpu', or a GPU whose name holds one of `PEAK_TFLOPS`.  Assumed, not measured.

    A token takes six operations for each parameter in training (forward, and twice that backward).
    """
    kind = gpu_kind(device)
    speed = (PEAK_TFLOPS[kind] * 1e12 * ASSUMED_SHARE_OF_PEAK) if kind else ASSUMED_CORE_GFLOPS * 1e9 * cores
    token_s = 6.0 * parameters / speed
    forward_s = token_s / 3
    step_s = ASSUMED_STEP_PER_LAYER_S * layers if kind else 0.01
    return Rates(
        source="assumed",
        device=device,
        parameters=parameters,
        step_s=step_s,
        token_s=token_s,
        evaluation_token_s=forward_s,
        checkpoint_s=0.05 + 16 * parameters / (500 * MIB),
        finish_s=0.5 + 4 * parameters / (500 * MIB),
        score_example_s=150 * forward_s + step_s / 50,
        generate_document_s=0.02 * layers if kind else 10 * 200 * forward_s + 0.02,
        row_s=ROW_S,
        mask_s=2e-6,
        mask_start_s=5.0,
        memory_bytes=16 * parameters + (2 * GIB if kind else GIB),
        device_memory_bytes=MEMORY_GIB[kind] * GIB if kind else 0,
        # On a CPU each has cores of its own; a GPU is divided.
        slow_down={} if kind else {1: 1.0, 1024: 1.0},
    )
