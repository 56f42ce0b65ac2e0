"""The schema of experiments.yaml: every setting, its unit, its default and its bounds.

Records are frozen and strict: a number in quotes is no number, an unknown key is refused.  A
profile is a `Config`; `loading.py` turns a file into one, or into a list of exact errors.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\Z")


class Section(BaseModel):
    """A part of the file: frozen, strict, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class ColumnsConfig(Section):
    """Which CSV column holds what."""

    id: str = Field("writing_id", description="one value per document, never twice")
    l1: str = Field("l1", description="the writer's first language")
    level: str = Field("cefr_level", description="the document's CEFR level")
    text: str = Field("text", description="the document itself")
    learner: str | None = Field(None, description="the writer; their documents all go to one split")
    prompt: str | None = Field(None, description="the task the document answers")


class SampleConfig(Section):
    """The synthetic corpus that is used when `data.csv` is not given."""

    rows: Annotated[int, Field(ge=10)] = Field(3000, description="documents to generate")
    level_shares: dict[str, PositiveFloat] | None = Field(
        None, description="relative number of documents per level; EFCAMDAT's own shares if absent"
    )


class SplitConfig(Section):
    """Shares of documents per split, in every level."""

    train: Fraction = 0.8
    valid: Fraction = 0.1
    test: Fraction = 0.1

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        total = self.train + self.valid + self.test
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"train, valid and test add up to {total:g}; must add up to 1")
        if min(self.train, self.valid, self.test) <= 0.0:
            raise ValueError("each of train, valid and test must be above 0")
        return self


class DataConfig(Section):
    """The corpus."""

    csv: str | None = Field(None, description="a CSV file (.csv or .csv.gz); the synthetic sample if absent")
    sample: SampleConfig = SampleConfig()
    columns: ColumnsConfig = ColumnsConfig()
    levels: tuple[str, ...] = Field(("A1", "A2", "B1", "B2", "C1"), description="known levels, lowest first")
    level_aliases: dict[str, str] = Field({}, description="other spellings of a level, such as {'1': A1}")
    max_bad_fraction: Fraction = Field(0.01, description="the run stops if more of the rows are set aside")
    split: SplitConfig = SplitConfig()
    export_ilm: bool = Field(False, description="also write ILM's train.txt, valid.txt and test.txt per model")

    @field_validator("levels")
    @classmethod
    def _are_distinct(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        if not levels:
            raise ValueError("must name at least one level")
        for level in levels:
            if levels.count(level) > 1:
                raise ValueError(f"{level!r} stands twice")
            if not NAME.match(level):
                raise ValueError(f"{level!r} must start with a letter or digit and hold only letters, digits, . _ + -")
        return levels

    @model_validator(mode="after")
    def _aliases_lead_to_levels(self) -> Self:
        for alias, level in self.level_aliases.items():
            if level not in self.levels:
                raise ValueError(f"level_aliases.{alias}: {level!r} is not one of the levels {', '.join(self.levels)}")
        return self


class MaskingConfig(Section):
    """How examples are made: the hierarchical mask of ILM (Donahue, Lee and Liang 2020)."""

    document: Fraction = Field(0.03, description="probability that the whole document is one span")
    paragraph: Fraction = Field(0.03, description="probability of each paragraph, if the document is not one")
    sentence: Fraction = Field(0.03, description="probability of each sentence outside such paragraphs")
    word: Fraction = Field(0.03, description="probability that a span starts at a word elsewhere")
    ngram: Fraction = Field(0.5, description="probability that a span starting at a word is an n-gram")
    max_ngram: PositiveInt = Field(8, description="words in the longest n-gram")
    examples_per_document: Annotated[int, Field(ge=1, le=255)] = 16
    max_draws: PositiveInt = Field(16, description="draws per example before a repeated mask is left out")
    min_spans: Annotated[int, Field(ge=0)] = Field(0, description="a mask with fewer spans is drawn again")
    max_spans: PositiveInt | None = Field(None, description="a mask with more spans is sampled down, in order")
    max_tokens: Annotated[int, Field(ge=8, le=1024)] = Field(256, description="tokens in an example")
    overflow: Literal["window", "truncate", "drop"] = Field(
        "window",
        description="an example over max_tokens becomes a window of sentences around spans, is cut, or is dropped",
    )
    function: str | None = Field(None, description="an own mask function, 'package.module:function'")
    shard_documents: PositiveInt = Field(8192, description="documents per shard of the example store")


SIZES: dict[str, tuple[int, int, int]] = {
    # name: (layers, width, heads)
    "micro": (2, 64, 2),
    "small": (4, 256, 4),
    "gpt2": (12, 768, 12),
    "gpt2-medium": (24, 1024, 16),
}


class ModelConfig(Section):
    """What a trial without a parent starts from."""

    start: str = Field("scratch", description="'scratch', a folder with a Hugging Face GPT-2, or a hub name ('gpt2')")
    size: Literal["micro", "small", "gpt2", "gpt2-medium"] = Field("micro", description="of a model from scratch")
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1


class SearchConfig(Section):
    """Optuna looks for settings; the best sample becomes the trial's model."""

    samples: PositiveInt = Field(8, description="trainings to try")
    metric: Literal["infill", "infill_textonly", "context"] = Field(
        "infill", description="validation loss to make small"
    )
    space: dict[str, "SearchRange"] = Field(
        description="training settings to search, each with its range", min_length=1
    )

    @field_validator("space")
    @classmethod
    def _are_settings(cls, space: dict[str, "SearchRange"]) -> dict[str, "SearchRange"]:
        for name in space:
            if name not in TrainingConfig.model_fields:
                raise ValueError(f"{name!r} is not a training setting")
        return space


class SearchRange(Section):
    """One of: two bounds (log-uniform or uniform, whole numbers if both are), or a list of choices."""

    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    choices: tuple[float | int | str | bool, ...] | None = None

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
    """Settings of one training; `training:` gives the defaults, a trial may override each."""

    steps: PositiveInt = Field(1000, description="optimiser steps")
    batch_size: PositiveInt = Field(8, description="examples per micro-batch")
    accumulation: PositiveInt = Field(1, description="micro-batches per step")
    learning_rate: PositiveFloat = Field(5e-5, description="at its peak; GPT-2 fine-tunes usually take 1e-5 to 5e-4")
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    epsilon: PositiveFloat = 1e-8
    clip_norm: PositiveFloat = Field(1.0, description="gradient norm is clipped to this")
    task: Literal["ilm", "lm", "reverse_lm", "lm_all", "no_context_ilm"] = "ilm"
    minimal_supervision: bool = Field(False, description="loss over answers only, not over the context")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on GPUs that have it")
    compile: bool = Field(False, description="torch.compile")
    window_batches: PositiveInt = Field(64, description="batches in the shuffled window sorted by length")
    evaluate_every: PositiveInt = Field(500, description="steps")
    checkpoint_every: PositiveInt = Field(500, description="steps; a kill loses at most these")
    valid_examples: PositiveInt = Field(500, description="validation examples per evaluation")
    patience: PositiveInt | None = Field(None, description="evaluations without a better loss before stopping")


class TrialConfig(TrainingConfig):
    """One training: the levels it sees, what it starts from, and its own settings."""

    levels: Annotated[tuple[str, ...], Field(min_length=1)] = Field(description="levels whose documents it trains on")
    parent: str | None = Field(None, alias="from", description="the trial whose model it starts from")
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = Field(
        (0,), description="one training for each"
    )
    gpus: Annotated[float, Field(ge=0.0)] | None = Field(None, description="instead of resources.gpus_per_trial")
    search: SearchConfig | None = None

    @field_validator("seeds", "levels")
    @classmethod
    def _are_distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"{value!r} stands twice")
        return values


class ResourcesConfig(Section):
    """What each part may use.  Never part of a fingerprint: results do not depend on it."""

    gpus_per_trial: Annotated[float, Field(ge=0.0)] | Literal["auto"] = Field(
        "auto", description="GPUs of one trial, a fraction too; auto: 1 if the cluster has any, else 0"
    )
    cpus_per_trial: PositiveInt = Field(
        1, description="CPU cores (torch threads) of one trial; on a CPU another number changes the last bits"
    )
    mask_workers: PositiveInt | None = Field(None, description="CPU workers that make examples; all cores if absent")
    max_failures: Annotated[int, Field(ge=0)] = Field(2, description="times a lost worker is replaced")
    address: str | None = Field(None, description="a Ray cluster to join ('auto' on its head); else one is started")


class EvaluationConfig(Section):
    """How the models are scored."""

    documents_per_level: PositiveInt | None = Field(None, description="test documents per level; all if absent")
    examples_per_document: PositiveInt = Field(4, description="masks of each document that are scored")
    context_examples: PositiveInt = Field(
        1, description="of these, how many have their context scored too: nearly the same text under every mask"
    )
    batch_tokens: PositiveInt = Field(8192, description="tokens in a batch, padding included")
    generation_documents: Annotated[int, Field(ge=0)] = Field(
        16, description="documents per level for infilling scores"
    )
    speed_repeats: Annotated[int, Field(ge=0)] = Field(5, description="timed generations per model")


class MarginConfig(Section):
    """A bound on a ratio of perplexities."""

    margin: PositiveFloat


class SpecialisationConfig(Section):
    """H1: PPL(general) / PPL(level) on the level's own test documents."""

    margin: PositiveFloat = Field(1.0, description="confirmed if the interval lies above")
    target: PositiveFloat = Field(1.25, description="the gain the plan hoped for")


class HypothesesConfig(Section):
    """What is claimed, and by how much."""

    specialisation: SpecialisationConfig = SpecialisationConfig()
    sufficiency: MarginConfig = Field(MarginConfig(margin=1.10), description="H2: PPL(general) / PPL(best) stays below")
    transfer: MarginConfig = Field(
        MarginConfig(margin=1.0), description="H3: PPL(transfer) / PPL(best other) stays below"
    )


class ReportConfig(Section):
    """Statistics and the page."""

    resamples: Annotated[int, Field(ge=100)] = Field(2000, description="bootstrap resamples")
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    metric: Literal["infill", "infill_textonly", "context"] = Field("infill", description="what hypotheses are about")
    hypotheses: HypothesesConfig = HypothesesConfig()
    show_texts: bool = Field(False, description="print learner texts in the report's samples")


class Config(Section):
    """A profile of experiments.yaml."""

    seed: Annotated[int, Field(ge=0)] = Field(0, description="of splits, masks and the statistics")
    data: DataConfig = DataConfig()
    masking: MaskingConfig = MaskingConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    trials: Annotated[dict[str, TrialConfig], Field(min_length=1)]
    resources: ResourcesConfig = ResourcesConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    report: ReportConfig = ReportConfig()


class ConfigFile(Section):
    """The whole file: named profiles, one of them the default."""

    default: str = Field(description="the profile used without --profile")
    profiles: Annotated[dict[str, Config], Field(min_length=1)]


SearchConfig.model_rebuild()
