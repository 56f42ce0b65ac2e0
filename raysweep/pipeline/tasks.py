"""The tasks of the stages, and the protocol of the executors that run them.

`cluster.ray_executor.RayExecutor` spreads the work over a Ray cluster; `inline_executor.InlineExecutor` does it
in this process, one piece after another.  With the same `resources.cpus_per_trial` (torch threads)
and the same precision both give the same weights to the bit on CPU.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from raysweep.config.data_settings import MaskingConfig
from raysweep.config.evaluation_settings import EvaluationConfig
from raysweep.config.training_settings import SearchConfig
from raysweep.storage.atomic_files import atomic_file
from raysweep.storage.run_folder import TrialFolder
from raysweep.training.job import TrainingJob

if TYPE_CHECKING:
    from raysweep.inference.part_scores import PartScores
    from raysweep.readers.cpu_threads import MapBlocks


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskTask:
    """Make one shard of the example store."""

    documents: Path
    rows: tuple[int, int]
    """Half-open range of row numbers in documents.parquet."""
    shard: int
    folder: Path
    policy: MaskingConfig
    seed: int
    language: str = "en"
    tokenizer: bytes | None = None
    """The run's tokenizer, packed, because no record lists its files yet; None for GPT-2's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainTask:
    """Train one trial, or search for the best of several."""

    job: TrainingJob
    identity: Mapping[str, Any]
    parent: str | None
    """A trial of the same run that must be done first."""
    gpus: float | None
    """Replaces resources.gpus_per_trial unless None."""
    search: SearchConfig | None
    fresh: bool
    """Whether earlier files of the trial (checkpoints, metrics, model) are deleted before it starts."""
    cost: float = 1.0
    """Expected seconds of one training, or any unit that compares the tasks of a run."""
    accelerator_type: str | None = None
    """Replaces resources.accelerator_type unless None."""
    made_from: Mapping[str, str] = field(default_factory=dict)
    """Digests of its inputs; the digest of a parent among the tasks is added when the parent is done."""

    @property
    def folder(self) -> TrialFolder:
        """The folder that holds its files."""
        return TrialFolder(self.job.folder)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreTask:
    """Score one model on documents of some levels and splits."""

    model: str
    """Name of the model in the table."""
    start: str
    """Folder of the model; for the baseline row 'scratch' or a hub name, as in `model.start`."""
    job: TrainingJob
    """How the model's start is made; read only for the baseline row."""
    examples: Path
    documents: Path
    levels: tuple[str, ...]
    evaluation: EvaluationConfig
    seed: int
    out: Path
    record: Path
    splits: tuple[str, ...] = ("test",)
    general: Path | None = None
    """Model to interpolate with: the scored weights are `weight` of the way from it to `start`."""
    weight: float = 1.0
    identity: Mapping[str, Any] = field(default_factory=dict)
    """Its settings, for the record."""
    made_from: Mapping[str, str] = field(default_factory=dict)
    """Digests of its inputs, for the record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPart:
    """Some texts of a corpus, sent by value, so that the process that scores them need not see their file."""

    run: Path
    """The run folder that holds the model."""
    model: str
    model_digest: str
    """Digest of the model to score with; see `inference.level_classifier.model_digest_of`."""
    texts: bytes
    """Contents of a Parquet file with the columns `writing_id` and `text`."""
    with_tokens: bool
    """Whether to return the nats of each token too."""
    infills: bool
    """Whether to score the answers to masks too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTask:
    """Score one part of a corpus of new texts under one model; see `inference.text_parts.score_part`."""

    run: Path
    """The run folder that holds the model."""
    model: str
    model_digest: str
    """As in `TextPart`; the scoring process refuses the part if its model or tokenizer differs."""
    texts: Path
    out: Path
    tokens_out: Path | None
    infills: bool = True
    """Whether to score the answers to masks too."""

    def read(self) -> TextPart:
        return TextPart(
            run=self.run,
            model=self.model,
            model_digest=self.model_digest,
            texts=self.texts.read_bytes(),
            with_tokens=self.tokens_out is not None,
            infills=self.infills,
        )

    def write(self, scores: "PartScores") -> int:
        """Write the scores, tokens first since `out` marks the part as done; return the number of texts."""
        for path, table in ((self.tokens_out, scores.tokens), (self.out, scores.sums)):
            if path is not None and table is not None:
                with atomic_file(path) as temporary:
                    temporary.write_bytes(table)
        return scores.texts


class Listener(Protocol):
    """Receives progress and messages; must not block."""

    def advance(self, stage: str, done: int, total: int, unit: str) -> None:
        """Report that `done` of the `total` units of the stage are finished."""

    def say(self, message: str) -> None:
        """Show a line to the user."""


class SilentListener:
    """A listener that ignores everything."""

    def begin(self, stage: str) -> None:
        """Ignore the start of a stage."""

    def advance(self, stage: str, done: int, total: int, unit: str) -> None:
        """Ignore progress."""

    def say(self, message: str) -> None:
        """Ignore a message."""


class Executor(Protocol):
    """Runs tasks wherever its workers are.  An error in one piece of masking or scoring is raised here."""

    def check(self, listener: Listener) -> None:
        """Refuse tasks that cannot work, before anything is made."""

    def block_mapper(self, listener: Listener) -> "MapBlocks":
        """Return the function that maps over the blocks of a corpus while it is prepared."""

    def mask(self, tasks: Sequence[MaskTask], listener: Listener) -> list[dict[str, Any]]:
        """Make the shards; return their summaries in the order of the tasks."""

    def train(self, tasks: Sequence[TrainTask], listener: Listener) -> None:
        """Train every task whose parent finishes, and write all records; a failed trial blocks only its children."""

    def score(self, tasks: Sequence[ScoreTask], listener: Listener) -> None:
        """Score the models; each model's table is in place before its record."""

    def warm_up(self, tasks: int, listener: Listener) -> None:
        """Start the workers that will score at least this many parts of a corpus, while the caller still makes them."""

    def score_texts(self, tasks: Sequence[TextTask], listener: Listener) -> Iterator[tuple[TextTask, int]]:
        """Score parts of a corpus; yield each finished task, in any order, with the number of its texts."""

    def time_model(self, folder: Path, ensemble: Sequence[Path], repeats: int, listener: Listener) -> dict[str, Any]:
        """Time one model, and the levels' models together, with nothing running beside them; see `evaluation.speed`."""

    def close(self) -> None:
        """Release everything that was started."""
