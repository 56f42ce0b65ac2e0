"""How fast a machine does each part of the work, and how large the data are: measured, or assumed from data sheets.

Times are those of one training alone on its share of the machine; `slow_down` is the factor for several
at once.  A forecast from assumed rates must say so: `source` is 'measured' or 'assumed'.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from raysweep.scheduling.gpu_specs import GIB, MIB, find_gpu_spec

ASSUMED_GPU = "A100"
"""Stands in for unknown GPUs, and for those of a cluster unless `resources.accelerator_type` names them."""
ASSUMED_SHARE_OF_PEAK = 0.25
"""Share of a GPU's peak that training reaches with large batches.  Assumed."""
ASSUMED_STEP_PER_LAYER_S = 2.5e-3
"""Shortest step on a GPU per layer: a hundred kernels for forward, backward and update.  Assumed."""
ASSUMED_CORE_GFLOPS = 40.0
"""10^9 operations per second that one CPU core reaches in training.  Assumed."""
ROW_S = 3.2e-5
"""Seconds to prepare one row: 723,282 rows of EFCAMDAT's shape took 23 s on two cores.  Too short to calibrate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overheads:
    """What Ray and Python take around the work, in seconds; defaults measured on two busy cores (BENCHMARKS.md)."""

    ray_start_s: float = 8.0
    """Until the cluster is ready."""
    sweep_start_s: float = 2.5
    """Until the first trial's driver starts."""
    trial_start_s: float = 13.5
    """From the start of a trial to its first step: Train's actors, importing torch."""
    first_trial_start_s: float = 20.0
    """The same for the first trials, whose processes Ray has to start."""
    scorer_start_s: float = 7.0
    """Until a process that scores or times models has imported torch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Rates of one machine, device and model size."""

    source: Literal["measured", "assumed"]
    device: str
    """For example 'NVIDIA A100-SXM4-40GB' or 'cpu'."""
    parameters: int
    step_s: float
    """Fixed time of an optimiser step."""
    token_s: float
    """Additional time of a step per token, including padding."""
    evaluation_token_s: float
    """Validation time per token."""
    checkpoint_s: float
    finish_s: float
    """From the last step until the model is written, without checkpoints."""
    score_example_s: float
    """Time to score one example of the test documents."""
    generate_document_s: float
    """Time to infill one document."""
    mask_s: float
    """Time to make one example, on one core."""
    mask_start_s: float = 0.0
    """Start of a masking process: loading compiled code."""
    memory_bytes: int = 0
    """Peak memory of a training; 0 if unknown."""
    device_memory_bytes: int = 0
    slow_down: Mapping[int, float] = field(default_factory=dict)
    """A step's time divided by its time alone, by number of trainings on one GPU (or on all cores)."""
    overheads: Overheads = field(default_factory=Overheads)

    def slow_down_of(self, together: int) -> float:
        """Return how many times longer a step takes beside others, interpolated between measurements."""
        known = sorted({1: 1.0, **self.slow_down}.items())
        for (left, low), (right, high) in itertools.pairwise(known):
            if together <= right:
                return low + (high - low) * (together - left) / (right - left)
        # Beyond the measurements, assume that the device is shared fairly.
        last, factor = known[-1]
        return factor * together / last


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSize:
    """How much data a run trains and is tested on, as far as it is known beforehand."""

    tokens: Mapping[str, float]
    """Mean number of tokens in an example, by level."""
    documents: Mapping[str, int]
    """Number of documents in the corpus, by level; empty if they were not counted."""
    rows: int
    """Rows of the CSV, or of the generated sample; 0 if they were not counted."""
    further: int = 0
    """Number of documents in further corpora."""

    def tokens_of(self, levels: Sequence[str]) -> float:
        """Return the mean number of tokens in an example of a trial on these levels."""
        known = [level for level in levels if level in self.tokens]
        weights = [max(1, self.documents.get(level, 1)) for level in known]
        return sum(weight * self.tokens[level] for weight, level in zip(weights, known, strict=True)) / sum(weights)


def assumed_rates(device: str, *, parameters: int, layers: int, cores: int = 1) -> Rates:
    """Derive rates from data sheets instead of measurements; an unknown GPU is treated as an A100.

    Training takes six operations per token and parameter (two forward, four backward).

    Args:
        device: 'cpu', or the name of a GPU.
    """
    spec = None if device == "cpu" else find_gpu_spec(device) or find_gpu_spec(ASSUMED_GPU)
    speed = spec.peak_tflops * 1e12 * ASSUMED_SHARE_OF_PEAK if spec else ASSUMED_CORE_GFLOPS * 1e9 * cores
    token_s = 6.0 * parameters / speed
    forward_s = token_s / 3
    step_s = ASSUMED_STEP_PER_LAYER_S * layers if spec else 0.01
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
        generate_document_s=0.02 * layers if spec else 10 * 200 * forward_s + 0.02,
        mask_s=2e-6,
        mask_start_s=5.0,
        memory_bytes=16 * parameters + (2 * GIB if spec else GIB),
        device_memory_bytes=spec.memory_gib * GIB if spec else 0,
        # On a CPU each training has its own cores; a GPU is divided.
        slow_down={} if spec else {1: 1.0, 1024: 1.0},
    )
