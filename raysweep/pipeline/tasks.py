"""The tasks of the stages, and the protocol of the executors that run them.

`cluster.ray_executor.RayExecutor` spreads the work over a Ray cluster; `inline.InlineExecutor` does it
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
    """First row and the one after the last, in documents.parquet."""
    shard: int
    folder: Path
    policy: MaskingConfig
    seed: int
    language: str = "en"
    tokenizer: bytes | None = None
    """The run's, packed, since no record lists its files yet; None for GPT-2's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainTask:
    """Train one trial, or search for the best of several."""

    job: TrainingJob
    identity: Mapping[str, Any]
    parent: str | None
    """A trial of the same run that must be done first."""
    gpus: float | None
    """Instead of resources.gpus_per_trial."""
    search: SearchConfig | None
    fresh: bool
    """Earlier files of the trial (checkpoints, metrics, model) are removed before it starts."""
    cost: float = 1.0
    """Expected seconds of one training, or any unit that compares the tasks of a run."""
    accelerator_type: str | None = None
    """Instead of resources.accelerator_type."""
    made_from: Mapping[str, str] = field(default_factory=dict)
    """Digests of its inputs; that of a parent which is among the tasks is known when the parent is done."""

    @property
    def folder(self) -> TrialFolder:
        """Where its files are."""
        return TrialFolder(self.job.folder)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreTask:
    """Score one model on documents of some levels and splits."""

    model: str
    """Its name in the table."""
    start: str
    """A folder with the model; for the baseline row: 'scratch' or a hub name, as in `model.start`."""
    job: TrainingJob
    """How the model's start is made; only read for the baseline row."""
    examples: Path
    documents: Path
    levels: tuple[str, ...]
    evaluation: EvaluationConfig
    seed: int
    out: Path
    record: Path
    splits: tuple[str, ...] = ("test",)
    general: Path | None = None
    """A model to interpolate with: the scored weights are `weight` of the way from it to `start`."""
    weight: float = 1.0
    identity: Mapping[str, Any] = field(default_factory=dict)
    """Its settings, for the record."""
    made_from: Mapping[str, str] = field(default_factory=dict)
    """Digests of its inputs, for the record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPart:
    """Some texts of a corpus, as they travel to the process that scores them: it need not see their file."""

    run: Path
    """The run folder whose model it is."""
    model: str
    model_digest: str
    """Digest of what this command scores with; see `inference.level_classifier.model_digest_of`."""
    texts: bytes
    """A Parquet file with the columns `writing_id` and `text`."""
    with_tokens: bool
    """Also give the nats of each token."""
    infills: bool
    """Also score the answers to masks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTask:
    """Score one part of a corpus of new texts under one model; see `inference.text_parts.score_part`."""

    run: Path
    """The run folder whose model it is."""
    model: str
    model_digest: str
    """As in `TextPart`; with another model or tokenizer the part is refused where it is scored."""
    texts: Path
    out: Path
    tokens_out: Path | None
    infills: bool = True
    """Also score the answers to masks."""

    def read(self) -> TextPart:
        """The part with its texts."""
        return TextPart(
            run=self.run,
            model=self.model,
            model_digest=self.model_digest,
            texts=self.texts.read_bytes(),
            with_tokens=self.tokens_out is not None,
            infills=self.infills,
        )

    def write(self, scores: "PartScores") -> int:
        """Put the scores where they belong, those of tokens first: `out` says that the part is done.

        Returns:
            The number of texts.
        """
        for path, table in ((self.tokens_out, scores.tokens), (self.out, scores.sums)):
            if path is not None and table is not None:
                with atomic_file(path) as beside:
                    beside.write_bytes(table)
        return scores.texts


class Listener(Protocol):
    """Told of progress; must not block."""

    def advance(self, stage: str, done: int, total: int, unit: str) -> None:
        """Report that `done` of the `total` units of the stage are finished."""

    def say(self, message: str) -> None:
        """A line for a person."""


class Executor(Protocol):
    """Carries work to where it runs.  An error in one piece of masking or scoring is raised here."""

    def check(self, listener: Listener) -> None:
        """Refuse now what cannot work, before anything is made."""

    def block_mapper(self, listener: Listener) -> "MapBlocks":
        """What works on the blocks of a corpus that is prepared."""

    def mask(self, tasks: Sequence[MaskTask], listener: Listener) -> list[dict[str, Any]]:
        """Make the shards; returns their summaries in the tasks' order."""

    def train(self, tasks: Sequence[TrainTask], listener: Listener) -> None:
        """Train every task whose parent gets done, and write each one's record.

        A failed trial blocks its children and nothing else; neither raises.
        """

    def score(self, tasks: Sequence[ScoreTask], listener: Listener) -> None:
        """Score the models; each one's table is in place before its record."""

    def warm_up(self, tasks: int, listener: Listener) -> None:
        """Start what scores so many parts of a corpus at least, while the caller still makes them."""

    def score_texts(self, tasks: Sequence[TextTask], listener: Listener) -> Iterator[tuple[TextTask, int]]:
        """Score parts of a corpus; yields each task as it is done, with the number of its texts, in any order."""

    def time_model(self, folder: Path, ensemble: Sequence[Path], repeats: int, listener: Listener) -> dict[str, Any]:
        """Time one model's infilling, and that of the levels' models together, with nothing beside them.

        See `evaluation.speed.measure_speed`.
        """

    def close(self) -> None:
        """Give back what was started."""
