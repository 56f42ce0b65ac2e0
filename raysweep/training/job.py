"""What one training is asked to do, and what it says at its end: plain records, no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from raysweep.config.control_settings import SubsetConfig
from raysweep.config.schema import Config
from raysweep.config.training_settings import ModelConfig, TrainingConfig
from raysweep.scheduling.trials import Trial
from raysweep.storage.run_folder import RunFolder

SCRATCH = "scratch"
"""The start that is random weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingJob:
    """Everything `training.loop.train` needs; pickles, so that it can be carried to a worker."""

    trial: str
    folder: Path
    """The trial's folder: checkpoints, metrics and the model are written there."""
    examples: Path
    """The example store."""
    levels: tuple[str, ...]
    """Levels whose train split it trains on, and whose valid split it is evaluated on."""
    settings: TrainingConfig
    model: ModelConfig
    start: str
    """'scratch', a hub name, or a folder with a GPT-2: the parent trial's model folder for a child."""
    seed: int
    max_tokens: int
    """Tokens in the longest example (the model from scratch gets as many positions)."""
    fingerprint: str
    """What identifies the work; kept in checkpoints, so that no other work's is resumed."""
    documents: SubsetConfig | None = None
    """The part of the levels' train documents that it trains on; all if None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """One evaluation on the validation examples."""

    step: int
    losses: Mapping[str, float]
    """nats per token: `context`, `infill`, `infill_textonly`."""
    is_best: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """How a training ended; also written to the trial's folder."""

    steps: int
    """Steps done; fewer than asked for if it stopped early."""
    best_step: int
    best_losses: Mapping[str, float]
    stopped: str
    """'' if all steps were done, else why not: 'patience', or 'asked to stop'."""
    examples: int
    """Training examples seen, repeats included."""
    tokens: int
    """Real tokens seen, padding not counted."""
    padding_share: float
    """Padding among all positions computed."""
    seconds: Mapping[str, float]
    """Wall seconds of all attempts by part: `data`, `step`, `evaluation`, `checkpoint`."""
    device: str
    parameters: int
    peak_memory_bytes: int
    tokens_per_second: float | None = None
    """Real tokens, over the seconds of `data` and `step`; None if no step was timed."""
    mfu: float | None = None
    """Share of the GPUs' peak that these tokens' operations took; None where the peak is not known."""


def training_job(config: Config, folder: RunFolder, trial: Trial, fingerprint: str) -> TrainingJob:
    """What one trial's training needs, as it is carried to a worker: absolute paths, plain records."""
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
        documents=trial.settings.documents,
    )


def start_of_training(config: Config) -> str:
    """The start, a local folder by its absolute path: workers have another working directory."""
    start = config.model.start
    folder = Path(start).expanduser()
    return str(folder.resolve()) if start != "scratch" and folder.is_dir() else start
