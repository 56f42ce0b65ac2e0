"""Finds and deletes what is no longer needed in a run folder.

    checkpoints     of trials that are done: the model is in place, so nothing resumes from them
    samples         models of a search's samples that were not chosen
    notes           of Tune and Train: a later run reads raysweep's own records
    leftovers       of killed writers, and stop requests that have been obeyed

Files listed in the report's evidence are always kept.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from raysweep.scheduling.records import State, TrialRecord, read_record
from raysweep.storage.atomic_files import read_json
from raysweep.storage.run_folder import RunFolder, TrialFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class Removable:
    """A file or folder that may be deleted, and why."""

    path: Path
    why: str
    size_bytes: int


def find_removable(folder: RunFolder) -> list[Removable]:
    """List everything that may be deleted, sorted by path; no process may be working in the folder."""
    cited = _cited(folder)
    reasons: dict[Path, str] = {}
    for path, why in _candidates(folder):
        if path.exists() and not any(kept == path or path in kept.parents for kept in cited):
            reasons[path] = why
    tops = [path for path in sorted(reasons) if not any(parent in reasons for parent in path.parents)]
    return [Removable(path=path, why=reasons[path], size_bytes=_size(path)) for path in tops]


def remove(items: list[Removable]) -> int:
    """Delete the items; return the number of bytes freed."""
    for item in items:
        if item.path.is_dir() and not item.path.is_symlink():
            shutil.rmtree(item.path)
        else:
            item.path.unlink()
    return sum(item.size_bytes for item in items)


def _candidates(folder: RunFolder) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.trials.glob("*")):
        trial = TrialFolder(path)
        record = read_record(trial)
        if record is not None and record.state is State.DONE:
            yield from _candidates_of_trial(trial, record)
    for name in ("tune", "train", "notes"):
        yield folder.ray / name, "notes of Tune and Train"
    for ending in ("part", "old"):
        for path in folder.root.rglob(f".*.{ending}"):
            yield path, "left by a writer that was killed"


def _candidates_of_trial(trial: TrialFolder, record: TrialRecord) -> Iterator[tuple[Path, str]]:
    if not record.result.get("resumable"):
        yield trial.checkpoints, f"checkpoints of {record.trial}, which is done"
    yield trial.stop, "a request to stop that was obeyed"
    best = record.result.get("search", {}).get("sample")
    for sample in trial.samples():
        yield sample.checkpoints, f"checkpoints of {record.trial}'s search, which is done"
        if sample.root.name != f"{best:02d}":
            yield sample.model, f"a model that {record.trial}'s search did not choose"


def _cited(folder: RunFolder) -> set[Path]:
    if not folder.evidence.exists():
        return set()
    evidence = read_json(folder.evidence)
    return {folder.root / name for name in evidence.get("inputs", {}).get("files", {})}


def _size(path: Path) -> int:
    """Count the bytes that deletion frees; a file with a second hard link (a chosen sample's model) frees none."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files if file.stat().st_nlink == 1)
