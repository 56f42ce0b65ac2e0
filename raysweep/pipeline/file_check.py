"""Compares every file of a run folder with the records: unchanged, changed, missing, or not recorded.

Logs, checkpoints and other files that change while a run works are not recorded; their place and name identify them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from raysweep.config.fingerprints import changed_fields
from raysweep.config.loading import read_resolved_config
from raysweep.errors import DamagedError, EarlierVersionError, InputError
from raysweep.pipeline.run_record import read_run
from raysweep.scheduling.records import State, read_record
from raysweep.scheduling.trials import Trial, expand_trials, training_settings
from raysweep.staging.run_command import place_options
from raysweep.storage.classification_files import ClassificationFolder
from raysweep.storage.digests import Outputs, find_damage, read_sealed
from raysweep.storage.run_folder import RunFolder, TrialFolder

_UNFINISHED = "of a training that is not done"


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedFile:
    """One file, and how it compares with its record."""

    path: str
    """Path relative to the run folder."""
    state: str
    """'ok', 'changed' or 'missing'; if no record lists it, 'other' for raysweep's own working files, else 'unknown'."""
    detail: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether the file is missing or differs from its record."""
        return self.state in ("changed", "missing")


def check_files(folder: RunFolder) -> list[CheckedFile]:
    """List all files of a run and all recorded files that are missing, by path; InputError if there is no such run."""
    if not folder.root.is_dir():
        raise InputError(f"{folder.root}: there is no such run; see --name and --storage")
    checked: dict[Path, CheckedFile] = {}

    def add(path: Path, state: str, detail: str = "") -> None:
        checked[path] = CheckedFile(path=path.relative_to(folder.root).as_posix(), state=state, detail=detail)

    trials = expand_trials(read_resolved_config(folder)) if folder.config.exists() else {}
    for record in _records(folder):
        try:
            recorded = _read_outputs(folder, record)
        except (DamagedError, EarlierVersionError) as error:
            add(record, "changed", str(error).partition(": ")[2])
            continue
        why = _of_another_training(folder, record, trials)
        add(record, "changed" if why else "ok", why)
        for root, outputs in recorded:
            bad = {damage.path: damage for damage in find_damage(root, outputs)}
            for path in (root / name for name in outputs):
                damage = bad.get(path)
                state = "ok" if damage is None else "missing" if damage.is_missing else "changed"
                add(path, state, damage.what if damage else "")
    for path in folder.root.rglob("*"):
        if path.is_file() and path not in checked:
            purpose = _describe_unrecorded(folder, path)
            add(path, "other" if purpose else "unknown", purpose)
    return sorted(checked.values(), key=lambda file: file.path)


def refuse_changed_files(folder: RunFolder) -> int:
    """Read all recorded files, and return how many are missing, such as models deleted to save space.

    Raises:
        InputError: there is no such run.
        DamagedError: a file was changed; the message names the first.
    """
    files = check_files(folder)
    if changed := [file for file in files if file.state == "changed"]:
        first = f"{folder.root / changed[0].path}: {changed[0].detail or changed[0].state}"
        raise DamagedError(
            f"{first} (changed files: {len(changed):,}). `raysweep check-run {place_options(folder)}` lists them, and "
            "the run's command names what makes them again"
        )
    return sum(file.state == "missing" for file in files)


def _records(folder: RunFolder) -> Iterator[Path]:
    records = [folder.record, *folder.trials.glob("*/trial.json"), *folder.trials.glob("*/samples/*/trial.json")]
    for place in (folder, *(folder.further(path.name) for path in folder.corpora.glob("*"))):
        records += [place.further_record, *place.evaluation.glob("cells/*.json")]
    records += ClassificationFolder.of(folder).all_scores.glob("*/*.json")
    yield from (path for path in records if path.exists())


def _read_outputs(folder: RunFolder, record: Path) -> list[tuple[Path, Outputs]]:
    """Return the outputs that a record lists, with the folder that their paths are relative to."""
    if record == folder.record:
        run = read_run(folder)
        return [] if run is None else [(folder.root, stage.outputs) for stage in run.stages.values()]
    if record.parent.name == folder.cells_record("").parent.name or record.name == folder.further_record.name:
        return [(record.parent, read_sealed(record, fix="make it again with --force evaluate")["outputs"])]
    if ClassificationFolder.of(folder).all_scores in record.parents:
        return [(record.parent, read_sealed(record, fix="score the texts again with --force classify")["outputs"])]
    trial = read_record(TrialFolder(record.parent))
    return [] if trial is None else [(record.parent, trial.outputs)]


def _of_another_training(folder: RunFolder, record: Path, trials: Mapping[str, Trial]) -> str:
    """Say whose record is in a trial's folder instead of its own; '' if it is its own, or no trial's."""
    trial = read_record(TrialFolder(record.parent)) if record.name == TrialFolder(record.parent).record.name else None
    if trial is None:
        return ""
    name = record.parent.relative_to(folder.trials).as_posix()
    if trial.trial != name:
        return f"is the record of trial '{trial.trial}'"
    if name not in trials or trial.state is not State.DONE:
        return ""
    settings = training_settings(trials[name])
    changes = changed_fields({key: trial.identity.get(key) for key in settings}, settings)
    return f"was trained with other settings than {folder.config.name} has ({'; '.join(changes)})" if changes else ""


def _describe_unrecorded(folder: RunFolder, path: Path) -> str:
    """Describe a file that no record lists; '' if raysweep never writes a file of this name there."""
    files = {
        folder.config: "settings of the run",
        folder.plan: "forecast",
        folder.ledger: "where the time went",
        folder.spent: "what was spent of the budget",
        folder.tracked: "what the trackers have been sent",
        folder.lock: "lock",
        folder.examples_fingerprint: "settings of the shards",
    }
    if path == ClassificationFolder.of(folder).begun(path.parent.parent.name, path.parent.name):
        return "settings of the scores"
    folders = {folder.ilm_texts: "texts for the original ILM code", folder.ray: "working files of Ray"}
    for trial in (TrialFolder(parent) for parent in path.parents if folder.trials in parent.parents):
        files |= {
            trial.log: "log",
            trial.attempts: "starts and ends of the training",
            trial.rungs: "losses of a search",
            trial.stop: "request to stop",
            **dict.fromkeys(trial.outputs, _UNFINISHED),
        }
        folders |= {trial.checkpoints: "checkpoint", trial.model: _UNFINISHED}
        if path.parent == trial.root and path.name.startswith("events.out.tfevents."):
            return "curves for TensorBoard"
    return files.get(path) or next((purpose for place, purpose in folders.items() if place in path.parents), "")
