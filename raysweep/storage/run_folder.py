"""The paths of a run: the only place that spells the names of its files."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from raysweep.storage.atomic_files import remove_leftovers

_SAMPLES = "samples"
CHECKPOINT_RECORD = "checkpoint.json"
"""The record in each checkpoint's folder, `step-<number>` or `best-<number>`."""


@dataclass(frozen=True)
class TrialFolder:
    """The files of one trial."""

    root: Path

    @property
    def record(self) -> Path:
        return self.root / "trial.json"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def evaluations(self) -> Path:
        """Everything known at each evaluation, including wall-clock times; one JSON object per line."""
        return self.root / "evaluations.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def inventory(self) -> Path:
        """Sizes of the model's files; exists only in a bundle, which has no weights."""
        return self.root / "model.json"

    @property
    def log(self) -> Path:
        return self.root / "worker.log"

    @property
    def result(self) -> Path:
        return self.root / "training.json"  # renamed into place after the model

    @property
    def attempts(self) -> Path:
        """Start and end of each attempt; see `scheduling.attempts`."""
        return self.root / "attempts.jsonl"

    @property
    def rungs(self) -> Path:
        """Losses of a search's sample at each rung of successive halving."""
        return self.root / "rungs.json"

    @property
    def stop(self) -> Path:
        """A request to stop the training, which contains the reason; see `scheduling.stop_requests`."""
        return self.root / "stop"

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

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def tokenizer(self) -> Path:
        return self.root / "tokenizer"

    def shard(self, number: int) -> Path:
        return self.root / f"shard-{number:05d}.examples"

    def shard_record(self, number: int) -> Path:
        return self.root / f"shard-{number:05d}.json"


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run: `<storage>/<name>/…`."""

    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def record(self) -> Path:
        return self.root / "run.json"

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def plan(self) -> Path:
        """The forecast made when the run began; see `planning.run_forecast`."""
        return self.root / "plan.json"

    @property
    def spent(self) -> Path:
        """Hours and cost of all attempts so far; see `planning.budget`."""
        return self.root / "spent.json"

    @property
    def tracked(self) -> Path:
        """What each tracker of the config has been sent; see `tracking.feed`."""
        return self.root / "tracked.json"

    @property
    def lock(self) -> Path:
        return self.root / "run.lock"

    @property
    def ledger(self) -> Path:
        """What each GPU-second was spent on; see `scheduling.ledger`."""
        return self.root / "ledger.json"

    @property
    def corpus(self) -> Path:
        return self.root / "corpus"

    @property
    def sample_csv(self) -> Path:
        return self.corpus / "sample.csv"

    @property
    def documents(self) -> Path:
        return self.corpus / "documents.parquet"

    @property
    def splits(self) -> Path:
        return self.corpus / "splits.json"

    @property
    def quarantine(self) -> Path:
        return self.corpus / "quarantine.csv"

    @property
    def untied_texts(self) -> Path:
        """Common texts shared by many learners, which are not used to group learners; never published."""
        return self.corpus / "untied_texts.csv"

    @property
    def cleaned_texts(self) -> Path:
        """The first texts whose markup was removed, before and after; never published."""
        return self.corpus / "cleaned_texts.csv"

    @property
    def leakage(self) -> Path:
        return self.corpus / "leakage.json"

    @property
    def leaks(self) -> Path:
        """Documents outside train that share something with another split, by number and kind of leak."""
        return self.corpus / "leaks.parquet"

    @property
    def corpus_outputs(self) -> list[Path]:
        """The outputs of the prepare stage, as run.json lists them."""
        named = [self.documents, self.splits, self.quarantine, self.leakage, self.leaks]
        return [*named, self.untied_texts, self.cleaned_texts, self.sample_csv]

    @property
    def ilm_texts(self) -> Path:
        return self.corpus / "ilm"

    def ilm_text(self, model: str, split: str) -> Path:
        """One split of one model's documents in ILM's own text format."""
        return self.ilm_texts / model / f"{split}.txt"

    @property
    def corpora(self) -> Path:
        return self.root / "corpora"

    def further(self, corpus: str) -> "RunFolder":
        """Folder of a further corpus, whose documents, examples and scores are laid out like a run's."""
        return RunFolder(self.corpora / corpus)

    @property
    def further_record(self) -> Path:
        """In the folder of a further corpus: its record, written after its documents and examples."""
        return self.root / "corpus.json"

    @property
    def examples(self) -> Path:
        return self.root / "examples"

    @property
    def examples_fingerprint(self) -> Path:
        """Fingerprint of the settings that the current shards belong to; written before the first shard."""
        return self.examples / "begun"

    @property
    def manifest(self) -> Path:
        return ExamplesFolder(self.examples).manifest

    @property
    def trials(self) -> Path:
        return self.root / "trials"

    def trial(self, name: str) -> TrialFolder:
        return TrialFolder(self.trials / name)

    @property
    def evaluation(self) -> Path:
        return self.root / "evaluation"

    def cells(self, model: str) -> Path:
        """One model's scores on every level's test documents; `scheduling.scorings` defines the other names."""
        return self.evaluation / "cells" / f"{model}.parquet"

    def cells_record(self, model: str) -> Path:
        return self.evaluation / "cells" / f"{model}.json"

    @property
    def losses(self) -> Path:
        return self.evaluation / "losses.parquet"

    @property
    def valid_losses(self) -> Path:
        """The compared models' losses on valid documents; only with `evaluation.interpolation`."""
        return self.evaluation / "valid_losses.parquet"

    @property
    def interpolated_losses(self) -> Path:
        """Losses of models between the general and the fine-tuned ones, on valid and test documents of their level."""
        return self.evaluation / "interpolated_losses.parquet"

    @property
    def doc_features(self) -> Path:
        """Every document's losses under every model, as features for classifiers; no text."""
        return self.evaluation / "doc_features.parquet"

    @property
    def looks(self) -> Path:
        """With sequential seeds: claims after the last seed, and released trials; see `evidence.seed_release`."""
        return self.evaluation / "looks.json"

    @property
    def matrix(self) -> Path:
        return self.evaluation / "matrix.csv"

    @property
    def speed(self) -> Path:
        return self.evaluation / "speed.json"

    @property
    def evaluation_outputs(self) -> list[Path]:
        """The outputs of the evaluate stage, as run.json lists them."""
        losses = [self.losses, self.valid_losses, self.interpolated_losses]
        return [*losses, self.matrix, self.doc_features, self.speed, self.looks]

    @property
    def report(self) -> Path:
        return self.root / "report"

    @property
    def report_html(self) -> Path:
        return self.report / "report.html"

    @property
    def report_markdown(self) -> Path:
        return self.report / "report.md"

    @property
    def evidence(self) -> Path:
        return self.report / "evidence.json"

    @property
    def evidence_schema(self) -> Path:
        return self.report / "evidence.schema.json"

    @property
    def tables(self) -> Path:
        return self.report / "tables"

    @property
    def figures(self) -> Path:
        return self.report / "figures"

    @property
    def ray(self) -> Path:
        """Working files of Ray Tune and Ray Train, never results."""
        return self.root / "ray"

    @property
    def serve(self) -> Path:
        """Working files of `raysweep serve`, which may run at the same time as a command that works in the run."""
        return self.ray / "serve"


def samples_beside(cells: Path) -> Path:
    """Examples of a model's infilling as texts, beside its scores; they contain learners' words."""
    return cells.with_suffix(".samples")
