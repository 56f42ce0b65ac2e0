"""Settings of the trainings: their start, optimiser and length, and searches over settings."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from raysweep.config.control_settings import SubsetConfig
from raysweep.config.scored_metrics import Metric
from raysweep.config.section import BoundedCount, Distinct, PositiveFloat, PositiveInt, Section, Seed

SCRATCH = "scratch"
"""The start that means random weights."""
GPT2_TOKENIZER, CORPUS_TOKENIZER, START_TOKENIZER = "gpt2", "corpus", "start"
"""Values of `model.tokenizer` other than a folder."""

Precision = Literal["auto", "fp32", "fp32_onednn", "bf16"]
ONEDNN: Precision = "fp32_onednn"
"""float32 with products by oneDNN, which sums in another order than 'fp32'."""


def describe_no_onednn(device: str, *, is_gpu: bool = False) -> str:
    """Say that the device does not support the precision 'fp32_onednn', with the fix."""
    fix = "set auto or fp32" + (", or resources.gpus_per_trial: 0" if is_gpu else "")
    return f"found {ONEDNN}, which is for CPUs with AVX-512, and it would be trained on {device}; {fix}"


ModelSize = Literal["micro", "small", "distilgpt2", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"]
SIZES: dict[ModelSize, tuple[int, int, int]] = {
    # name: (layers, width, heads); sizes with gpt2 in their names are those of the models on the hub
    "micro": (2, 64, 2),
    "small": (4, 256, 4),
    "distilgpt2": (6, 768, 12),
    "gpt2": (12, 768, 12),
    "gpt2-medium": (24, 1024, 16),
    "gpt2-large": (36, 1280, 20),
    "gpt2-xl": (48, 1600, 25),
}


BatchSize = Annotated[int, Field(ge=1, le=65_536)]


class ModelConfig(Section):
    """The model that a trial without a parent starts from."""

    start: str = Field(SCRATCH, description="'scratch', a folder with a Hugging Face GPT-2, or a hub name ('gpt2')")
    size: ModelSize = Field("micro", description="size of a model from scratch")
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    tokenizer: Annotated[str, Field(min_length=1)] = Field(
        GPT2_TOKENIZER,
        description="'gpt2'; 'corpus': a byte-level BPE trained on the train split, for models from scratch; "
        "'start': the start's own tokenizer; or a folder with a tokenizer.json",
    )

    @model_validator(mode="after")
    def _fits_the_start(self) -> Self:
        if self.tokenizer == START_TOKENIZER and self.start == SCRATCH:
            raise ValueError("tokenizer 'start' needs a start with one; with start 'scratch' set tokenizer: corpus")
        if self.tokenizer == CORPUS_TOKENIZER and self.start != SCRATCH:
            raise ValueError("tokenizer 'corpus' is for start 'scratch'; a pretrained start needs tokenizer: start")
        return self


class AshaConfig(Section):
    """Early stopping of poor samples of a search, at evaluations (rungs) where the samples of a round are compared."""

    grace_evaluations: PositiveInt = Field(1, description="evaluations before the first samples are stopped")
    reduction: Annotated[int, Field(ge=2, le=1000)] = Field(
        2, description="one sample in this many continues at each rung"
    )


class SearchConfig(Section):
    """A search for settings with Optuna; the best sample becomes the trial's model."""

    samples: Annotated[int, Field(ge=1, le=10_000)] = Field(8, description="trainings to try")
    metric: Metric = Field("infill", description="validation loss to minimise")
    space: dict[str, "SearchRange"] = Field(
        description="training settings to search, each with its range", min_length=1
    )
    asha: AshaConfig | None = Field(None, description="stop poor samples early; every sample runs to its end if absent")

    @field_validator("space")
    @classmethod
    def _are_settings(cls, space: dict[str, "SearchRange"]) -> dict[str, "SearchRange"]:
        for name in space:
            if name not in TrainingConfig.model_fields:
                raise ValueError(f"{name!r} is not a training setting")
        return space


class SearchRange(Section):
    """Either two bounds (uniform or log-uniform; integers if both bounds are), or a list of choices."""

    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    choices: Annotated[tuple[float | int | str | bool, ...], Field(min_length=1, max_length=1000)] | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        bounds = self.low is not None and self.high is not None
        if bounds == (self.choices is not None) or (self.low is None) != (self.high is None):
            raise ValueError("give either low and high, or choices")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if self.log and (self.low is None or self.low <= 0):
            raise ValueError("log needs a low above 0")
        return self


class TrainingConfig(Section):
    """Settings of one training; `training:` gives the defaults, and a trial may override each."""

    steps: PositiveInt = Field(1000, description="optimiser steps")
    batch_size: BatchSize = Field(8, description="examples per batch")
    accumulation: BatchSize = Field(1, description="batches per step")
    micro_batch: BatchSize | Literal["auto"] = Field(
        "auto",
        description="examples that are run through the model at once; "
        "auto: as many as fit into the GPU's memory, measured before step 1; on a CPU batch_size",
    )
    learning_rate: PositiveFloat = Field(5e-5, description="at its peak; GPT-2 fine-tunes usually take 1e-5 to 5e-4")
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: BoundedCount = 0
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    epsilon: PositiveFloat = 1e-8
    clip_norm: PositiveFloat = Field(1.0, description="the gradient norm is clipped to this")
    task: Literal["ilm", "lm", "reverse_lm", "lm_all", "no_context_ilm"] = "ilm"
    minimal_supervision: bool = Field(False, description="loss over answers only, not over the context")
    precision: Precision = Field(
        "auto",
        description="precision of matrix products in training; auto: bf16 on GPUs that support it, and on the CPU of "
        "this machine if a test of a second shows that it is faster (models of width 256 or more), chosen once for a "
        "run; otherwise fp32; fp32_onednn: float32 on CPUs with AVX-512, by oneDNN instead of MKL, with losses equal "
        "up to rounding",
    )
    compile: bool = Field(False, description="torch.compile")
    cuda_graphs: Literal["off", "auto", "on"] = Field(
        "auto",
        description="launch all GPU kernels of a micro-batch at once; auto: for small micro-batches",
    )
    packing: Literal["off", "auto", "on"] = Field(
        "auto",
        description="several short examples in one row, which changes no loss; on: wherever it reduces padding; "
        "auto: on a GPU, if it saves a tenth of the positions",
    )
    window_batches: Annotated[int, Field(ge=1, le=100_000)] = Field(
        64, description="batches in a shuffled window that is sorted by length"
    )
    evaluate_every: PositiveInt = Field(500, description="steps")
    checkpoint_every: PositiveInt = Field(500, description="steps; a kill loses at most this many")
    keep: PositiveInt | Literal["resume"] = Field(
        2,
        description="checkpoints kept during training; with 1 there is no fallback for a damaged one; "
        "resume: 2, and the last one is kept after training, which --extend needs",
    )
    valid_examples: PositiveInt = Field(500, description="validation examples per evaluation")
    patience: PositiveInt | None = Field(None, description="evaluations without a better loss before stopping")

    @model_validator(mode="after")
    def _can_be_compiled(self) -> Self:
        if self.compile and self.precision == ONEDNN:
            raise ValueError(f"precision {ONEDNN} cannot be compiled; set compile: false, or precision: fp32")
        return self


class EntryConfig(TrainingConfig):
    """An entry of `trials:` without its levels and start: its settings, seeds and resources."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=1000), Distinct] | None = Field(
        None, description="one training for each seed; if absent, as many as the profile's seeds says, from 0"
    )
    gpus: Annotated[float, Field(ge=0.0, le=4096.0)] | None = Field(
        None, description="overrides resources.gpus_per_trial"
    )
    accelerator_type: str | None = Field(None, description="overrides resources.accelerator_type")
    search: SearchConfig | None = None


class TrialConfig(EntryConfig):
    """One training: the levels it trains on, its start, and its settings."""

    levels: Annotated[tuple[str, ...], Field(min_length=1), Distinct] = Field(
        description="levels whose documents it trains on"
    )
    documents: SubsetConfig | None = Field(None, description="a random subset of its levels' documents; all if absent")
    examples_per_level: dict[str, PositiveInt] | None = Field(
        None,
        description="examples of each level in one epoch, repeated or drawn at random; if absent, every example once",
    )
    parent: str | None = Field(None, alias="from", description="the trial whose model it starts from")


SearchConfig.model_rebuild()
