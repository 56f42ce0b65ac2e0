"""Reads the state of a run from its records: the same from any process, during the run and after a crash."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.classification.classifier_names import OWN
from raysweep.config.schema import Config
from raysweep.errors import DamagedError, EarlierVersionError
from raysweep.pipeline.identities import LOSSES
from raysweep.pipeline.lock import is_locked, last_holder
from raysweep.pipeline.run_record import read_run
from raysweep.scheduling.ledger import collect_ledger
from raysweep.scheduling.records import State, TrialRecord, read_record
from raysweep.scheduling.sequential_seeds import release_seeds
from raysweep.scheduling.trials import START_MODEL, Trial, expand_trials
from raysweep.storage.atomic_files import read_json
from raysweep.storage.classification_files import ClassificationFolder
from raysweep.storage.clock import unix_seconds
from raysweep.storage.digests import combine_digests, read_sealed
from raysweep.storage.run_folder import RunFolder

TAIL_BYTES = 1 << 15


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialStatus:
    """The status of one trial."""

    trial: str
    state: State
    step: int
    steps: int
    """Number of steps in the config."""
    loss: float | None
    """Training loss of the latest step that had answers, in nats per token of the answers, as in validation."""
    tokens_per_second: float | None
    """Real tokens per second, not counting padding."""
    seconds_left: float | None
    busy_seconds: float
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unfinished:
    """A trial that is not done at the end of a run."""

    trial: str
    state: State
    reason: str


def read_records(
    folder: RunFolder, trials: Mapping[str, Trial], forced: Collection[str] = ()
) -> tuple[dict[str, TrialRecord | None], set[str]]:
    """Read every trial's record (None: never started); also return the names of unreadable ones.

    Args:
        forced: stages and trials to do again; a record may be unreadable if its trial, or a stage up to train, is
            among them.

    Raises:
        DamagedError, EarlierVersionError: another record cannot be read.
    """
    records: dict[str, TrialRecord | None] = {}
    unreadable = set()
    for name in trials:
        try:
            records[name] = read_record(folder.trial(name))
        except (DamagedError, EarlierVersionError):
            if not {name, "prepare", "mask", "train"}.intersection(forced):
                raise
            records[name] = None
            unreadable.add(name)
    return records, unreadable


def read_done_trials(
    folder: RunFolder, trials: Mapping[str, Trial], forced: Collection[str] = ()
) -> dict[str, TrialRecord]:
    """Read the records of the trials that are done, in the trials' order."""
    records, _ = read_records(folder, trials, forced)
    return {name: record for name, record in records.items() if record and record.state is State.DONE}


def find_unfinished(folder: RunFolder, trials: Mapping[str, Trial]) -> list[Unfinished]:
    """List the trials that are not done, failed ones before blocked ones."""
    unfinished = []
    for name in trials:
        record = read_record(folder.trial(name))
        if record is None:
            unfinished.append(Unfinished(trial=name, state=State.PENDING, reason="not started"))
        elif record.state is not State.DONE:
            unfinished.append(Unfinished(trial=name, state=record.state, reason=record.reason))
    order = [State.FAILED, State.BLOCKED, State.STOPPED, State.RUNNING, State.PENDING]
    return sorted(unfinished, key=lambda trial: order.index(trial.state))


def released_trials(config: Config, folder: RunFolder, trials: Mapping[str, Trial]) -> dict[str, Trial]:
    """Return the trials that may be trained; a trial that was begun is always among them."""
    begun = [name for name in trials if folder.trial(name).record.exists()]
    named = {*release_seeds(config, trials, done=begun), *_read_looks(folder).get("released", ())}
    return {name: trial for name, trial in trials.items() if name in named}


def spared_trials(folder: RunFolder, trials: Mapping[str, Trial]) -> dict[str, list[str]]:
    """Return the trials that no claim needs, each with its entry's other trials; {} before all claims are settled."""
    spared = {*_read_looks(folder).get("not_needed", ())}.intersection(trials)
    return {
        name: [other for other, of in trials.items() if of.entry == trials[name].entry and other not in spared]
        for name in trials
        if name in spared
    }


def _read_looks(folder: RunFolder) -> dict[str, Any]:
    values: dict[str, Any] = read_json(folder.looks) if folder.looks.exists() else {}
    return values


class StatusReader:
    """Reads the statuses repeatedly, and measures speed between its reads.

    A single read knows the speed only of a trial's first attempt, counted from its start.
    """

    def __init__(
        self,
        folder: RunFolder,
        trials: Mapping[str, Trial],
        *,
        forced: Collection[str] = (),
        clock: Callable[[], float] = unix_seconds,
    ) -> None:
        """Count trials whose records are unreadable as not started if `forced` lets `read_records` skip them."""
        self._folder, self._trials, self._forced, self._clock = folder, trials, forced, clock
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}
        """By trial and attempt: the time of the first read with a step, and that step."""
        self._over: dict[str, tuple[tuple[int, ...], TrialStatus]] = {}
        """By trial that ended: the version of its record file, and its status, valid while the file is unchanged."""

    def read(self) -> list[TrialStatus]:
        """Read each trial's status, except those no claim needs; a running trial with no process counts as stopped."""
        alive, spared = is_locked(self._folder), spared_trials(self._folder, self._trials)
        return [self._status_of(trial, alive) for name, trial in self._trials.items() if name not in spared]

    def _status_of(self, trial: Trial, alive: bool) -> TrialStatus:
        folder = self._folder.trial(trial.name)
        version = _version_of(folder.record)
        if trial.name in self._over and self._over[trial.name][0] == version:
            return self._over[trial.name][1]
        record = read_records(self._folder, {trial.name: trial}, self._forced)[0][trial.name] or TrialRecord(
            trial=trial.name, state=State.PENDING, fingerprint="", identity={}
        )
        state, reason, busy = record.state, record.reason, record.busy_seconds
        lines = _last_steps(folder.metrics) if state is not State.PENDING else []
        step = int(lines[-1]["step"]) if lines else 0
        pace = None
        if state is State.RUNNING and alive:
            busy += max(0.0, self._clock() - (record.started_at or self._clock()))
            pace = self._pace(record, step)
        elif state is State.RUNNING:
            state, reason = State.STOPPED, "its process is gone; run again to continue"
        tokens_per_step = sum(float(line["tokens"]) for line in lines) / len(lines) if lines else 0.0
        status = TrialStatus(
            trial=trial.name,
            state=state,
            step=step,
            steps=trial.settings.steps,
            loss=next((float(line["loss"]) for line in reversed(lines) if "loss" in line), None),
            tokens_per_second=pace * tokens_per_step if pace else None,
            seconds_left=(trial.settings.steps - step) / pace if pace else None,
            busy_seconds=busy,
            reason=reason,
        )
        if state in (State.DONE, State.FAILED, State.BLOCKED):
            self._over[trial.name] = (version, status)
        return status

    def _pace(self, record: TrialRecord, step: int) -> float | None:
        """Return the steps per second of this attempt."""
        now, key = self._clock(), (record.trial, record.attempts)
        if key not in self._seen and step:
            is_first = record.attempts == 1 and record.started_at is not None
            self._seen[key] = (record.started_at or now, 0) if is_first else (now, step)
        if key not in self._seen or step <= self._seen[key][1]:
            return None
        since, first = self._seen[key]
        return (step - first) / max(now - since, 1e-9)


def describe_process(folder: RunFolder, trials: Mapping[str, Trial]) -> str:
    """Describe the process that works in the folder, or that died while trials ran; '' if there is neither."""
    holder = last_holder(folder)
    who = f"process {holder['pid']} on {holder['host']}" if holder else "its process"
    if is_locked(folder):
        return f"running: {who}"
    records = [read_record(folder.trial(name)) for name in trials]
    if any(record is not None and record.state is State.RUNNING for record in records):
        return f"stale: {who} ended without a record; the same command continues from the last checkpoints"
    return ""


def describe_classification(folder: RunFolder, config: Config) -> str:
    """Describe the progress of the classify stage from its records; '' if the config has no such stage."""
    if config.classification is None:
        return ""
    record = read_run(folder)
    if record is not None and (classified := record.stages.get("classify")) is not None:
        evaluated = record.stages.get("evaluate")
        losses = "" if evaluated is None else combine_digests(evaluated.outputs, LOSSES)
        is_current = classified.made_from["losses"] == losses
        if is_current and all((folder.root / path).exists() for path in classified.outputs):
            return "classification: done"
        return "classification: done, but its files are gone or rest on other scores; the next run makes it again"
    files, seeds_of = ClassificationFolder.of(folder), {START_MODEL: [START_MODEL]}
    for trial in expand_trials(config).values():
        if trial.control is None:
            seeds_of.setdefault(trial.entry, []).append(trial.name)
    scored = [
        any(files.scores_record(corpus, model).exists() for model in seeds)
        for corpus in (OWN, *config.corpora)
        for seeds in seeds_of.values()
    ]
    return f"classification: not done; {sum(scored):,} of {len(scored):,} scorings (corpus × model) are done"


def describe_corpora(folder: RunFolder, corpora: Collection[str], trials: Collection[str]) -> list[str]:
    """Describe the progress of each further corpus, one line each."""
    lines = []
    for name in corpora:
        place = folder.further(name)
        if not place.further_record.exists():
            lines.append(f"corpus {name}: not prepared yet")
            continue
        scored = sum(_is_scored(folder, place.cells_record(model), model) for model in (START_MODEL, *trials))
        documents = read_json(place.splits)["documents"]
        lines.append(f"corpus {name}: {documents:,} documents, scored by {scored} of {1 + len(trials)} models")
    return lines


def _is_scored(folder: RunFolder, scores: Path, model: str) -> bool:
    """Return whether there are scores of the current model; an unusable record counts as none."""
    if not scores.exists():
        return False
    trained = None if model == START_MODEL else read_record(folder.trial(model))
    try:
        of_model = read_sealed(scores, fix=f"make it again with --force {model}")["made_from"].get("model")
    except (DamagedError, EarlierVersionError):
        return False  # the next run reports it, or makes it again
    return model == START_MODEL or (trained is not None and of_model == trained.model_digest)


def describe_ledger(folder: RunFolder, trials: Mapping[str, Trial]) -> str:
    """Describe what GPU (or core) time was used for, in finished attempts; '' if there are none."""
    ledger = collect_ledger(folder, list(trials))
    total = sum(ledger["total"].values())
    if not total:
        return ""
    parts = ", ".join(f"{part} {seconds / total:.0%}" for part, seconds in ledger["total"].items() if seconds)
    unit = {"gpu": "GPU", "cpu": "CPU slot"}.get(ledger["unit"], "slot")
    failures: Counter[str] = Counter()
    for entry in ledger["trials"].values():
        failures.update(entry["failures"])
    text = f"{total / 3600:,.2f} {unit} hours: {parts}"
    text += "".join(f"; {kind}: {count:,}" for kind, count in failures.items())
    if saved := (read_json(folder.ledger) if folder.ledger.exists() else {}).get("saved"):  # by sequential seeds
        text += f"; {len(saved['trials'])} trainings not needed, {saved['seconds'] / 3600:,.2f} {unit} hours saved"
    return text


def _version_of(path: Path) -> tuple[int, ...]:
    """Return values that change whenever the file is replaced; () if there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _last_steps(path: Path) -> list[dict[str, Any]]:
    """Read the steps in the file's last 32 KiB, leaving out a partial line at either end."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        pieces = file.read().split(b"\n")
    lines = [json.loads(piece) for piece in pieces[1 if size > TAIL_BYTES else 0 : -1] if piece]
    return [line for line in lines if line["kind"] == "step"]
