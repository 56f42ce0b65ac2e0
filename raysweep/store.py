"""Where everything of a run lies, and how it is written.

The only place where file names are spelled.  A file is written beside its place and renamed, so
whoever reads sees the old version or the new one, never half of one; a record that says "done" is
renamed into place last.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.errors import ConfigError, InputError


@dataclass(frozen=True)
class TrialFolder:
    """One trial's part of the run folder."""

    root: Path

    @property
    def record(self) -> Path:
        return self.root / "trial.json"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def evaluations(self) -> Path:
        """All that is known at each evaluation, clocks included; a JSON object a line."""
        return self.root / "evaluations.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def inventory(self) -> Path:
        """What the model's files weigh; only in a bundle, which holds no weights."""
        return self.root / "model.json"

    @property
    def log(self) -> Path:
        return self.root / "worker.log"

    @property
    def result(self) -> Path:
        """What the training said at its end; renamed into place after the model."""
        return self.root / "training.json"

    @property
    def attempts(self) -> Path:
        """What became of each attempt; see `scheduling.attempts`."""
        return self.root / "attempts.jsonl"

    @property
    def rungs(self) -> Path:
        """How a sample of a search stood at each of the search's rungs."""
        return self.root / "rungs.json"

    @property
    def stop(self) -> Path:
        """A request to stop the training, with the reason in it; see `scheduling.stopping`."""
        return self.root / "stop"

    def clear(self) -> None:
        """Remove what earlier trainings left, the record last."""
        if self.root.exists():
            for path in self.root.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path != self.record:
                    path.unlink()
            self.record.unlink(missing_ok=True)


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
        """What the run was expected to take when it began; see `pipeline.foreseeing`."""
        return self.root / "plan.json"

    @property
    def spent(self) -> Path:
        """What the trainings of all attempts have taken so far; see `scheduling.budget`."""
        return self.root / "spent.json"

    @property
    def lock(self) -> Path:
        return self.root / "run.lock"

    @property
    def ledger(self) -> Path:
        """What the GPUs' seconds went into; see `scheduling.ledger`."""
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
    def leakage(self) -> Path:
        return self.corpus / "leakage.json"

    @property
    def leaks(self) -> Path:
        """The documents outside train that are known to another split, by number and kind of leak."""
        return self.corpus / "leaks.parquet"

    @property
    def ilm_texts(self) -> Path:
        return self.corpus / "ilm"

    def ilm_text(self, model: str, split: str) -> Path:
        """One split of one model's documents in ILM's own text format."""
        return self.ilm_texts / model / f"{split}.txt"

    @property
    def examples(self) -> Path:
        return self.root / "examples"

    @property
    def manifest(self) -> Path:
        return self.examples / "manifest.json"

    @property
    def trials(self) -> Path:
        return self.root / "trials"

    def trial(self, name: str) -> TrialFolder:
        return TrialFolder(self.trials / name)

    @property
    def evaluation(self) -> Path:
        return self.root / "evaluation"

    def cells(self, model: str) -> Path:
        """One model's scores on every level's test documents."""
        return self.evaluation / "cells" / f"{model}.parquet"

    def cells_record(self, model: str) -> Path:
        """What the scores were made from; renamed into place after them."""
        return self.evaluation / "cells" / f"{model}.json"

    def cells_records(self) -> list[Path]:
        """The records of all models that are scored."""
        return sorted((self.evaluation / "cells").glob("*.json"))

    @property
    def losses(self) -> Path:
        return self.evaluation / "losses.parquet"

    @property
    def doc_features(self) -> Path:
        """Every document's losses under every model, for classifiers of one's own; no text."""
        return self.evaluation / "doc_features.parquet"

    @property
    def matrix(self) -> Path:
        return self.evaluation / "matrix.csv"

    @property
    def generation(self) -> Path:
        return self.evaluation / "generation.json"

    @property
    def speed(self) -> Path:
        return self.evaluation / "speed.json"

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
    def ray(self) -> Path:
        """What Tune and Train write for themselves: their snapshots, never our results."""
        return self.root / "ray"


def samples_beside(cells: Path) -> Path:
    """Some questions and a model's answers, as texts, beside its scores; they hold learners' words."""
    return cells.with_suffix(".samples")


def open_run_folder(storage: str, name: str) -> RunFolder:
    """The run folder of `name` under `storage`, which must be a path every node sees.

    Raises:
        ConfigError: the storage is a URI (mount it instead), or the name is no plain folder name.
    """
    if "://" in storage:
        raise ConfigError(
            f"--storage: found '{storage}'; must be a path (mount the bucket, or use NFS or EFS, "
            "so that every node sees the same path)"
        )
    if not name or name in {".", ".."} or "/" in name or "\\" in name or "\0" in name:
        raise ConfigError(f"--name: found '{name}'; must be a folder name without slashes, such as 'pilot'")
    return RunFolder(Path(storage).expanduser().resolve() / name)


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed onto it when the block ends without an error.

    The bytes are on disk before the rename; a crash leaves the old file, or none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        _sync(beside)
        # mkstemp makes private files; ours are as readable as any other file of the user's.
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
        _sync(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def folder_written_beside(path: Path) -> Iterator[Path]:
    """Like `written_beside`, for a whole folder; an existing one is replaced only at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield beside
        for file in beside.rglob("*"):
            if file.is_file():
                # Some writers (safetensors) make private files; ours are as readable as any other of the user's.
                file.chmod(0o666 & ~_umask())
                _sync(file)
        beside.chmod(0o777 & ~_umask())
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
            path.rename(old / path.name)
            beside.rename(path)
            shutil.rmtree(old)
        else:
            beside.rename(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove what killed writers of `name` left beside it; only for the one writer of that name to call."""
    for ending in ("part", "old"):
        for left in folder.glob(f".{name}.*.{ending}"):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a whole text file (UTF-8) by rename."""
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file by rename: sorted keys, two spaces, no NaN."""
    write_text(path, dump_json(value))


def dump_json(value: Any) -> str:
    """The text of a JSON file, as `write_json` writes it."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Read a JSON file of a run folder.

    Raises:
        InputError: it is not JSON; names the file, and says to delete it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); delete it, and its stage is redone") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
