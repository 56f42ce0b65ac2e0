"""The input and the result of one training, as plain records without torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from raysweep.config.control_settings import SubsetConfig
from raysweep.config.schema import Config
from raysweep.config.training_settings import SCRATCH, ModelConfig, TrainingConfig
from raysweep.scheduling.trials import Trial
from raysweep.storage.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingJob:
    """Everything that `training.loop.train` needs; it can be pickled and sent to a worker."""

    trial: str
    folder: Path
    """The trial's folder, to which checkpoints, metrics and the model are written."""
    examples: Path
    """The folder of the example store."""
    levels: tuple[str, ...]
    """Levels whose train split it trains on, and whose valid split it is evaluated on."""
    settings: TrainingConfig
    model: ModelConfig
    start: str
    """'scratch', a hub name, or a folder with a GPT-2; for a child, the parent trial's model folder."""
    seed: int
    max_tokens: int
    """Tokens in the longest example; a model from scratch gets as many positions."""
    fingerprint: str
    """Identifies the training; it is stored in checkpoints, so that a checkpoint of another one is never resumed."""
    parent: str | None = None
    """The trial whose model it starts from."""
    start_digest: str = ""
    """Identifies the content of a pretrained start; '' for 'scratch' and for a child."""
    documents: SubsetConfig | None = None
    """The subset of the levels' train documents that it trains on; all if None."""
    language: str = "en"
    """The language of the texts as an ISO 639 code; for the model card."""
    examples_per_level: Mapping[str, int] | None = None
    """Level → number of examples in one epoch; if None, every example occurs once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """One evaluation on the validation examples."""

    step: int
    losses: Mapping[str, float]
    """nats per token: `context`, `infill`, `infill_textonly`."""
    is_best: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """The result of a training, which is also written to the trial's folder."""

    steps: int
    """Steps done; fewer than configured if it stopped early."""
    best_step: int
    best_losses: Mapping[str, float]
    stopped: str
    """'' if all steps were done, otherwise the reason: 'patience', or that of `should_stop`."""
    examples: int
    """Training examples seen, including repeats."""
    tokens: int
    """Tokens seen, without padding."""
    padding_share: float
    """Share of padding among all positions computed."""
    seconds: Mapping[str, float]
    """Wall-clock seconds of all attempts by part: `data`, `step`, `evaluation`, `checkpoint`."""
    device: str
    parameters: int
    peak_memory_bytes: int
    tokens_per_second: float | None = None
    """Tokens without padding per second of `data` and `step`; None if no step was timed."""
    mfu: float | None = None
    """Model FLOPs utilisation; None if the GPU's peak is unknown."""
    resumable: bool = False
    """Whether its last checkpoint is kept, so that `--extend` can continue from it."""
    precision: str = ""
    """Precision of the matrix products, with 'auto' resolved: 'fp32', 'fp32_onednn' or 'bf16'; '' if not recorded."""
    pool: Mapping[str, int] = field(default_factory=dict)
    """Level → number of examples in one epoch."""


def training_job(config: Config, folder: RunFolder, trial: Trial, fingerprint: str) -> TrainingJob:
    """Build the job of a trial, with absolute paths; raises InputError if the start cannot be read."""
    from raysweep.model.start_folder import start_digest  # loads tokenizers, which reading results does not need

    return TrainingJob(
        trial=trial.name,
        folder=folder.trial(trial.name).root,
        examples=folder.examples,
        levels=trial.settings.levels,
        settings=trial.settings,
        model=config.model,
        start=start_of_training(config) if trial.parent is None else str(folder.trial(trial.parent).model),
        seed=trial.seed,
        max_tokens=config.masking.max_tokens,
        fingerprint=fingerprint,
        parent=trial.parent,
        start_digest=start_digest(config.model.start, config.model.tokenizer) if trial.parent is None else "",
        documents=trial.settings.documents,
        language=config.data.language,
        examples_per_level=trial.settings.examples_per_level,
    )


def start_of_training(config: Config) -> str:
    """Return the configured start; a local folder becomes absolute, because workers have other working directories."""
    start = config.model.start
    folder = Path(start).expanduser()
    return str(folder.resolve()) if start != SCRATCH and folder.is_dir() else start
