"""Compares every file of a run folder with the records: as made, changed, missing, or in no record."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from raysweep.errors import DamagedError, EarlierVersionError, InputError
from raysweep.pipeline.run_record import read_run
from raysweep.scheduling.records import read_record
from raysweep.storage.digests import Outputs, find_damage, read_sealed
from raysweep.storage.run_folder import RunFolder, TrialFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedFile:
    """One file, and how it compares with what its record says."""

    path: str
    """Relative to the run folder."""
    state: str
    """'ok', 'changed', 'missing', or 'unknown' if no record lists it, as for logs and checkpoints."""
    detail: str = ""

    @property
    def is_bad(self) -> bool:
        """It is not as it was made."""
        return self.state in ("changed", "missing")


def check_files(folder: RunFolder) -> list[CheckedFile]:
    """Every file of the run folder, and every recorded file that is missing, by path; all recorded files are read.

    Raises:
        InputError: there is no such run.
    """
    if not folder.root.is_dir():
        raise InputError(f"{folder.root}: there is no such run; see --name and --storage")
    checked: dict[str, CheckedFile] = {}
    for record in _records(folder):
        try:
            recorded = _read_outputs(folder, record)
        except (DamagedError, EarlierVersionError) as error:
            checked[_name(folder, record)] = _checked(folder, record, "changed", str(error).partition(": ")[2])
            continue
        checked[_name(folder, record)] = _checked(folder, record, "ok")
        for root, outputs in recorded:
            bad = {damage.path: damage for damage in find_damage(root, outputs)}
            for path in (root / name for name in outputs):
                damage = bad.get(path)
                state = "ok" if damage is None else "missing" if damage.is_missing else "changed"
                checked[_name(folder, path)] = _checked(folder, path, state, damage.what if damage else "")
    for path in folder.root.rglob("*"):
        if path.is_file() and _name(folder, path) not in checked:
            checked[_name(folder, path)] = _checked(folder, path, "unknown")
    return [checked[name] for name in sorted(checked)]


def _records(folder: RunFolder) -> Iterator[Path]:
    found = [folder.record, *folder.trials.glob("*/trial.json"), *folder.trials.glob("*/samples/*/trial.json")]
    yield from (path for path in [*found, *folder.evaluation.glob("cells/*.json")] if path.exists())


def _read_outputs(folder: RunFolder, record: Path) -> list[tuple[Path, Outputs]]:
    """What a record lists, by the folder that its paths are relative to."""
    if record == folder.record:
        run = read_run(folder)
        return [] if run is None else [(folder.root, stage.outputs) for stage in run.stages.values()]
    if record.parent.name == folder.cells_record("").parent.name:
        return [(record.parent, read_sealed(record, fix="score the models again with --force evaluate")["outputs"])]
    trial = read_record(TrialFolder(record.parent))
    return [] if trial is None else [(record.parent, trial.outputs)]


def _checked(folder: RunFolder, path: Path, state: str, detail: str = "") -> CheckedFile:
    return CheckedFile(path=_name(folder, path), state=state, detail=detail)


def _name(folder: RunFolder, path: Path) -> str:
    return path.relative_to(folder.root).as_posix()
