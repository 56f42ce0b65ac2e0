"""What --force makes again equals, to the byte, what a fresh run elsewhere makes, except clock times and paths."""

import json
import re
import shutil

import pytest

from raysweep.evidence.evidence_schema import Evidence
from raysweep.pipeline.file_check import check_files
from raysweep.report.writing import render_report
from raysweep.storage.run_folder import RunFolder
from tests.pipeline.conftest import make_run
from tests.pipeline.test_run import CountingExecutor

CLOCKS = {
    "seconds",
    "ended_at",
    "started_at",
    "busy_seconds",
    "stage_seconds",
    "hours",
    "peak_memory_bytes",
    "tokens_per_second",
}
OF_CLOCKS = {"outputs", "digest", "inputs", "attempts", "stages", "costs", "ledger"}
"""Digests of files with clocks in them, and how often a trial was begun."""
FORCED = ["prepare", "mask", "train", "evaluate", "report", "A1", "C1", "all", "all-C1"]


def without_clocks(value):
    if isinstance(value, dict):
        kept = {key: inner for key, inner in value.items() if key not in CLOCKS | OF_CLOCKS}
        return {key: without_clocks(inner) for key, inner in kept.items()}
    return [without_clocks(inner) for inner in value] if isinstance(value, list) else value


def without_times(evidence):
    """Return the evidence with all times set to zero."""
    values = json.loads(json.dumps(evidence))
    values["run"] |= {"stage_seconds": {}, "ended_at": None}
    values["costs"] |= {"plan": None, "stages": [], "trials": [], "ledger": None}
    values["inputs"] = {"digest": "0" * 64, "files": {}}
    for training in values["trainings"]:
        training |= {"hours": 0.0, "step_seconds": 1.0, "ended_at": None, "peak_memory_bytes": None, "attempts": 1}
    for score in values["scoring"].values():
        score.update({key: None for key in ("seconds", "outputs", "digest") if key in score})
    for strategy in values["strategies"]:
        strategy["cost"] = strategy["cost"] and {**strategy["cost"], "hours": 1.0}
    values["choices"] = [re.sub(r"[\d.]+\s\w+ of CPU time", "0 s of CPU time", choice) for choice in values["choices"]]
    return values


def contents(folder):
    """Return every recorded file by path: its bytes, or its contents without clock times."""
    files = {}
    for file in check_files(folder):
        assert not file.is_bad, file
        path = folder.root / file.path
        shows_hours = path in (folder.report_html, folder.report_markdown) or path.stem == "hours"
        if file.state == "other" or shows_hours or folder.tables in path.parents:
            continue  # page, Markdown and tables are compared below, rendered from the evidence without clocks
        if path == folder.evidence:
            evidence = Evidence.model_validate_json(json.dumps(without_times(json.loads(path.read_text()))))
            files |= {"the same evidence, rendered": render_report(evidence), file.path: evidence.json_values()}
        elif path.suffix == ".json":
            files[file.path] = without_clocks(json.loads(path.read_text()))
        elif path.name == "evaluations.jsonl":
            files[file.path] = len(path.read_text().splitlines())
        else:
            files[file.path] = path.read_bytes()
    return files


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A run without --force, in a folder with another path."""
    storage = tmp_path_factory.mktemp("quite") / "another" / "place"
    assert make_run(storage).do() == []
    return contents(RunFolder(storage / "tiny"))


def test_a_run_in_another_folder_gives_equal_files(finished_storage, fresh):
    """Otherwise the comparisons below would be meaningless; they do cover weights, losses and evidence."""
    actual = contents(RunFolder(finished_storage / "tiny"))
    assert actual == fresh
    assert {
        "trials/all-C1/model/model.safetensors",
        "evaluation/losses.parquet",
        "report/evidence.json",
    } < actual.keys()
    assert sum(isinstance(content, bytes) for content in actual.values()) > 20


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ("mask", "all") else pytest.mark.slow) for name in FORCED]
)
def test_a_forced_stage_or_trial_equals_a_fresh_run(done_run, tiny_run, fresh, name):
    """Whichever stage or trial is made again, with everything that rests on it."""
    executor = CountingExecutor()
    run = tiny_run(forced=[name], executor=executor)
    made = [run.folder.report_html, run.folder.documents]
    before = [path.stat().st_mtime_ns for path in made]
    assert run.do() == []
    assert contents(run.folder) == fresh
    assert executor.work or [path.stat().st_mtime_ns for path in made] != before


def test_the_comparison_detects_any_changed_bit_or_digit(done_run, fresh):
    """A single bit of a weight or digit of the evidence is noticed."""
    evidence = json.loads(done_run.folder.evidence.read_text())
    evidence["findings"][0]["documents"] += 1
    assert without_times(evidence) != fresh["report/evidence.json"]
    shutil.rmtree(done_run.folder.trial("A1").root)
    assert contents(done_run.folder).keys() != fresh.keys()
