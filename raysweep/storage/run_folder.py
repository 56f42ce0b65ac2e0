"""The paths of a run: the only place that spells the names of its files."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from raysweep.storage.atomic_files import remove_leftovers

_SAMPLES = "samples"
CHECKPOINT_RECORD = "checkpoint.json"
"""The record in each checkpoint's folder, `step-<number>` or `best-<number>`."""


class _Folder(Protocol):
    @property
    def root(self) -> Path: ...


class Below:
    """A path with a fixed name below a folder's root, or below another path of the folder."""

    def __init__(self, name: str, parent: "Below | None" = None) -> None:
        self._name, self._parent = name, parent

    def __get__(self, folder: _Folder, owner: type) -> Path:
        return (folder.root if self._parent is None else self._parent.__get__(folder, owner)) / self._name


@dataclass(frozen=True)
class TrialFolder:
    """The files of one trial."""

    root: Path

    record = Below("trial.json")
    metrics = Below("metrics.jsonl")
    evaluations = Below("evaluations.jsonl")
    """Everything known at each evaluation, including wall-clock times; one JSON object per line."""
    checkpoints = Below("checkpoints")
    model = Below("model")
    inventory = Below("model.json")
    """Sizes of the model's files; exists only in a bundle, which has no weights."""
    log = Below("worker.log")
    result = Below("training.json")  # renamed into place after the model
    attempts = Below("attempts.jsonl")
    """Start and end of each attempt; see `scheduling.attempts`."""
    rungs = Below("rungs.json")
    """Losses of a search's sample at each rung of successive halving."""
    stop = Below("stop")
    """A request to stop the training, which contains the reason; see `scheduling.stop_requests`."""

    @property
    def outputs(self) -> list[Path]:
        """The outputs of a finished training, as its record lists them; logs and checkpoints are not among them."""
        return [self.model, self.metrics, self.evaluations, self.result]

    @property
    def trial_name(self) -> str:
        """The trial's name; for a sample of a search, its trial's name."""
        return self.root.parents[1].name if self.root.parent.name == _SAMPLES else self.root.name

    def sample(self, number: int) -> "TrialFolder":
        """Folder of one sample of a search."""
        return TrialFolder(self.root / _SAMPLES / f"{number:02d}")

    def samples(self) -> list["TrialFolder"]:
        """Existing folders of a search's samples, by number."""
        return [TrialFolder(path) for path in sorted((self.root / _SAMPLES).glob("*")) if path.is_dir()]

    def clear(self) -> None:
        """Delete the files of earlier trainings atomically: a kill leaves either all of them or none."""
        remove_leftovers(self.root.parent, self.root.name)
        if self.root.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{self.root.name}.", suffix=".old", dir=self.root.parent))
            self.root.rename(old / self.root.name)
            shutil.rmtree(old)


@dataclass(frozen=True)
class ExamplesFolder:
    """The example store: shards with their records, the tokenizer unless it is GPT-2's, and a manifest written last."""

    root: Path

    manifest = Below("manifest.json")
    tokenizer = Below("tokenizer")

    def shard(self, number: int) -> Path:
        return self.root / f"shard-{number:05d}.examples"

    def shard_record(self, number: int) -> Path:
        return self.root / f"shard-{number:05d}.json"


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run: `<storage>/<name>/…`."""

    root: Path

    record = Below("run.json")
    config = Below("config.yaml")
    plan = Below("plan.json")
    """The forecast made when the run began; see `planning.run_forecast`."""
    spent = Below("spent.json")
    """Hours and cost of all attempts so far; see `planning.budget`."""
    tracked = Below("tracked.json")
    """What each tracker of the config has been sent; see `tracking.feed`."""
    lock = Below("run.lock")
    ledger = Below("ledger.json")
    """What each GPU-second was spent on; see `scheduling.ledger`."""
    corpus = Below("corpus")
    sample_csv = Below("sample.csv", corpus)
    documents = Below("documents.parquet", corpus)
    splits = Below("splits.json", corpus)
    quarantine = Below("quarantine.csv", corpus)
    untied_texts = Below("untied_texts.csv", corpus)
    """Common texts shared by many learners, which are not used to group learners; never published."""
    cleaned_texts = Below("cleaned_texts.csv", corpus)
    """The first texts whose markup was removed, before and after; never published."""
    leakage = Below("leakage.json", corpus)
    leaks = Below("leaks.parquet", corpus)
    """Documents outside train that share something with another split, by number and kind of leak."""
    ilm_texts = Below("ilm", corpus)
    corpora = Below("corpora")
    further_record = Below("corpus.json")
    """In the folder of a further corpus: its record, written after its documents and examples."""
    examples = Below("examples")
    examples_fingerprint = Below("begun", examples)
    """Fingerprint of the settings that the current shards belong to; written before the first shard."""
    trials = Below("trials")
    evaluation = Below("evaluation")
    losses = Below("losses.parquet", evaluation)
    valid_losses = Below("valid_losses.parquet", evaluation)
    """The compared models' losses on valid documents; only with `evaluation.interpolation`."""
    interpolated_losses = Below("interpolated_losses.parquet", evaluation)
    """Losses of models between the general and the fine-tuned ones, on valid and test documents of their level."""
    doc_features = Below("doc_features.parquet", evaluation)
    """Every document's losses under every model, as features for classifiers; no text."""
    looks = Below("looks.json", evaluation)
    """With sequential seeds: claims after the last seed, and released trials; see `evidence.seed_release`."""
    matrix = Below("matrix.csv", evaluation)
    speed = Below("speed.json", evaluation)
    report = Below("report")
    report_html = Below("report.html", report)
    report_markdown = Below("report.md", report)
    evidence = Below("evidence.json", report)
    evidence_schema = Below("evidence.schema.json", report)
    tables = Below("tables", report)
    figures = Below("figures", report)
    ray = Below("ray")
    """Working files of Ray Tune and Ray Train, never results."""
    serve = Below("serve", ray)
    """Working files of `raysweep serve`, which may run at the same time as a command that works in the run."""

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def corpus_outputs(self) -> list[Path]:
        """The outputs of the prepare stage, as run.json lists them."""
        named = [self.documents, self.splits, self.quarantine, self.leakage, self.leaks]
        return [*named, self.untied_texts, self.cleaned_texts, self.sample_csv]

    def ilm_text(self, model: str, split: str) -> Path:
        """One split of one model's documents in ILM's own text format."""
        return self.ilm_texts / model / f"{split}.txt"

    def further(self, corpus: str) -> "RunFolder":
        """Folder of a further corpus, whose documents, examples and scores are laid out like a run's."""
        return RunFolder(self.corpora / corpus)

    @property
    def manifest(self) -> Path:
        return ExamplesFolder(self.examples).manifest

    def trial(self, name: str) -> TrialFolder:
        return TrialFolder(self.trials / name)

    def cells(self, model: str) -> Path:
        """One model's scores on every level's test documents; `scheduling.scorings` defines the other names."""
        return self.evaluation / "cells" / f"{model}.parquet"

    def cells_record(self, model: str) -> Path:
        return self.evaluation / "cells" / f"{model}.json"

    @property
    def evaluation_outputs(self) -> list[Path]:
        """The outputs of the evaluate stage, as run.json lists them."""
        losses = [self.losses, self.valid_losses, self.interpolated_losses]
        return [*losses, self.matrix, self.doc_features, self.speed, self.looks]


def samples_beside(cells: Path) -> Path:
    """Examples of a model's infilling as texts, beside its scores; they contain learners' words."""
    return cells.with_suffix(".samples")
