"""What evidence.json says about the run: its facts, trainings, costs, and the digests of all inputs."""

from typing import Annotated, Any

from pydantic import Field

from raysweep.config.section import Count, Fraction, Section
from raysweep.statistics.contrasts import Estimate

Seconds = Annotated[float, Field(ge=0.0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class RunFacts(Section):
    """What was run, and where it is recorded."""

    name: str
    profile: str | None
    command: str | None
    python: str | None
    platform: str | None
    libraries: dict[str, str]
    start_digest: str | None = Field(
        description="digest of the content of the model that trainings start from; null for random weights"
    )
    stage_seconds: dict[str, Seconds]
    ended_at: float | None = Field(description="Unix seconds; the end of the last training")


class SearchSample(Section):
    """One sample of a search."""

    sample: Count
    settings: dict[str, float | int | str | bool]
    loss: float | None = Field(description="validation loss in nats per token; null if it failed")
    stopped_at: Count | None = Field(description="the step at which its round left it behind")


class SearchTried(Section):
    """A search: where it looked, what it tried, and what it chose."""

    metric: str
    space: dict[str, str] = Field(description="the range or the choices of each setting, in words")
    winner: Count
    samples: tuple[SearchSample, ...]


class Training(Section):
    """A trial, done or not."""

    trial: str
    entry: str
    seed: Count
    parent: str | None
    levels: tuple[str, ...]
    state: str
    reason: str
    attempts: Count
    steps: Count | None
    steps_asked: Count
    stopped: str
    best_step: Count | None
    best_losses: dict[str, float] = Field(description="nats per token, by metric")
    examples: Count | None
    tokens: Count | None
    padding_share: Fraction | None
    device: str | None
    hours: Annotated[float, Field(ge=0.0)] | None = Field(
        description="GPU-hours (without a GPU core-hours) that it held, all attempts and samples, from ledger.json"
    )
    hours_of: str
    step_seconds: Annotated[float, Field(ge=0.0)] | None = Field(
        description="GPU-seconds (core-seconds) in the steps of the kept model"
    )
    tokens_tried: Count | None = Field(description="tokens of all samples of its search, or of its only training")
    search: SearchTried | None
    parameters: Count | None
    peak_memory_bytes: Count | None
    bytes: Count | None
    ended_at: float | None


class Exposure(Section):
    """What a model has seen of a level, and its perplexity there."""

    entry: str
    role: str
    level: str
    is_own: bool = Field(description="the model is meant for the level: its own, fine-tuned for it, or for all levels")
    examples: Annotated[float, Field(ge=0.0)] = Field(
        description="of this level, up to the kept step and with the parents' examples; mean over seeds"
    )
    all_examples: Annotated[float, Field(ge=0.0)] = Field(description="of all levels")
    perplexity: Estimate


class Curve(Section):
    """Losses by step: pairs of step and nats per token."""

    trial: str
    train: tuple[tuple[int, float], ...]
    valid: tuple[tuple[int, float], ...]


class Plan(Section):
    """How the plan came about."""

    source: str
    device: str
    gpu_hours: Seconds
    cost: dict[str, Any] | None
    lower_bound_s: Seconds | None


class StageTime(Section):
    """Seconds of a stage; null if not planned, or not done in one go."""

    stage: str
    planned_s: Seconds | None
    actual_s: Seconds | None


class TrialTime(Section):
    """Seconds of a trial, all attempts together; the actual ones of finished trials only."""

    trial: str
    planned_s: Seconds | None
    actual_s: Seconds | None


class LedgerPart(Section):
    """Slot time of one kind."""

    part: str
    seconds: Seconds
    share: Fraction


class Ledger(Section):
    """How the slots' time was used."""

    unit: str
    parts: tuple[LedgerPart, ...]


class Saved(Section):
    """Trainings that sequential seeds did not need, from ledger.json."""

    trainings: Count
    seconds: Seconds = Field(description="slot-seconds that they would have taken, as the entry's other seeds did")
    unit: str


class Costs(Section):
    """Planned and actual."""

    plan: Plan | None
    stages: tuple[StageTime, ...]
    trials: tuple[TrialTime, ...]
    ledger: Ledger | None
    saved: Saved | None


class Inputs(Section):
    """Digests of all files that everything was computed from."""

    digest: Sha256
    files: dict[str, Sha256]
