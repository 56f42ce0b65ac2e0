"""Lists the differences between two runs, or two trials: settings first, then results.

A run's settings are its config.yaml; its results are how every trial ended, and the report's answer.  A
trial's settings are those in its fingerprint.  All are read from disk, so the runs may have
different profiles and need not be finished.

Losses are per token: if two runs have different tokenizers, only bits per byte of the answers' text can be
compared; they are among the results of every run with a report.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from raysweep.config.fingerprints import flatten
from raysweep.errors import ConfigError, InputError
from raysweep.evidence.evidence_schema import EVIDENCE_VERSION
from raysweep.scheduling.records import TrialRecord, read_record
from raysweep.staging.run_command import run_command
from raysweep.storage.atomic_files import read_json
from raysweep.storage.run_folder import RunFolder, TrialFolder

_HIDDEN = {"ended_at", "started_at", "trial", "identity", "ledger", "fingerprint"}
"""Fields of a record that always differ, or are shown elsewhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A field with its two values; None if one side lacks the field."""

    kind: str
    """'setting' or 'result'."""
    field: str
    first: Any
    second: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """One side of the comparison."""

    name: str
    is_run: bool
    settings: Mapping[str, Any]
    results: Mapping[str, Any]


def read_compared(name: str, *, folder: RunFolder) -> Compared:
    """Read a run (its name beside `folder`, or its path) or a trial (its name in `folder`, RUN/TRIAL, or its path).

    Raises:
        ConfigError: it is neither; the message says what was looked for.
        InputError: the run's report is of another version.
    """
    for root in (folder.root.parent / name, Path(name).expanduser()):
        if (run := RunFolder(root)).record.exists():
            return _run(name, run)
    before, _, after = name.partition("/")
    for root in (folder.trial(name).root, folder.root.parent / before / "trials" / after, Path(name).expanduser()):
        if (trial := TrialFolder(root)).record.exists() and root.name:
            return _trial(name, trial)
    run_name, trial_name = (before, after) if after else (folder.root.name, name)
    trial_of = f"a trial '{trial_name}' of the run '{run_name}' with a record"
    if not (folder.root.parent / run_name).is_dir():
        trial_of += f" (there is no run '{run_name}'; --name names the run of a trial)"
    raise ConfigError(
        f"'{name}': found neither a run of this name in {folder.root.parent}, nor {trial_of}, "
        "nor a folder of either; give a run, a trial, or RUN/TRIAL"
    )


def find_differences(first: Compared, second: Compared) -> list[Difference]:
    """List the fields that differ, settings before results; raises ConfigError for a run and a trial."""
    if first.is_run != second.is_run:
        run, trial = (first, second) if first.is_run else (second, first)
        raise ConfigError(f"'{run.name}' is a run and '{trial.name}' a trial; give two runs or two trials")
    differences = []
    for kind, ours, theirs in (
        ("setting", first.settings, second.settings),
        ("result", first.results, second.results),
    ):
        fields = [*ours, *(field for field in theirs if field not in ours)]
        differences += [
            Difference(kind=kind, field=field, first=ours.get(field), second=theirs.get(field))
            for field in fields
            if ours.get(field) != theirs.get(field)
        ]
    return differences


def _run(name: str, folder: RunFolder) -> Compared:
    settings = yaml.safe_load(folder.config.read_text(encoding="utf-8")) if folder.config.exists() else {}
    results: dict[str, Any] = {}
    if folder.evidence.exists():
        evidence = read_json(folder.evidence)
        if evidence.get("version") != EVIDENCE_VERSION:
            again = run_command(folder, "--force", "report", stage="report")
            raise InputError(f"{folder.evidence}: was written by another version of raysweep; do {again}")
        answer = evidence["answer"]
        results["answer"] = answer["headline"]
        results.update({f"answer.{reason['code']}": reason["verdict"] for reason in answer["reasons"]})
        for score in evidence.get("scores", []):
            if score["metric"] == "infill_textonly":
                bits = score["bits_per_byte"].items()
                results.update({f"{model}.bits_per_byte.{score['level']}": of_model for model, of_model in bits})
    for path in sorted(folder.trials.glob("*/trial.json")):
        record = read_record(TrialFolder(path.parent))
        assert record is not None, "its file was just found"
        results.update({f"{record.trial}.{field}": value for field, value in _results(record).items()})
    return Compared(name=name, is_run=True, settings=flatten(settings), results=results)


def _trial(name: str, folder: TrialFolder) -> Compared:
    record = read_record(folder)
    assert record is not None, "its file was just found"
    return Compared(name=name, is_run=False, settings=flatten(record.identity), results=_results(record))


def _results(record: TrialRecord) -> dict[str, Any]:
    fields = {name: getattr(record, name) for name in record.__dataclass_fields__ if name not in _HIDDEN}
    result = fields.pop("result")
    return flatten({**fields, **result})
