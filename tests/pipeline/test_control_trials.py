"""Control trials in a real run: they train on their part of the documents, are scored, and reach the report."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from raysweep.errors import TrainingError
from raysweep.masking.example_store import ExampleStore
from raysweep.pipeline.jobs import training_job
from raysweep.scheduling.records import State, read_record
from raysweep.training.attempt import select_training

NAMES = [
    *(f"control-{kind}-{level}" for kind in ("size", "steps", "placebo", "placebo-2") for level in ("A1", "C1")),
    "control-compute",
    "control-exposure",
]


def documents_of(run, trial):
    """Return the documents that a trial trains on, as its training would choose them."""
    store = ExampleStore.open(run.folder.examples)
    job = training_job(run.config, run.folder, run.trials[trial], "")
    return set(store.documents_of(select_training(store, job)).tolist())


def test_controls_added_later_are_trained_scored_and_reported_without_repeating_other_trials(run_with_controls):
    """Requesting controls later trains only the controls."""
    run = run_with_controls
    lines = run.listener.lines
    assert any(re.fullmatch(r"A1: skip, done \d+ min ago with the same config", line) for line in lines)
    assert sorted(line for line in lines if line.endswith(": training")) == sorted(
        f"{name}: training" for name in NAMES
    )
    for name in NAMES:
        record = read_record(run.folder.trial(name))
        assert record is not None
        assert record.state is State.DONE
    evidence = json.loads(run.folder.evidence.read_text())
    assert [row["name"] for row in evidence["controls"]["rows"]] == NAMES
    assert all(set(row["cells"]) == {"A1", "C1"} for row in evidence["controls"]["rows"])
    assert [finding["scope"] for finding in evidence["controls"]["findings"]] == ["overall", "A1", "C1"] * 5
    assert all(name in run.folder.report_html.read_text(encoding="utf-8") for name in NAMES)


def test_the_exposure_control_sees_as_many_examples_of_each_level_as_the_level_models(run_with_controls):
    """Examples are repeated or drawn to the exact number; the record keeps the counts, and the report shows them."""
    run = run_with_controls
    store = ExampleStore.open(run.folder.examples)
    asked = {level: run.trials[level].settings.steps * run.trials[level].settings.batch_size for level in ("A1", "C1")}
    chosen = select_training(store, training_job(run.config, run.folder, run.trials["control-exposure"], ""))
    levels, counts = np.unique(store.levels_of(store.documents_of(chosen)), return_counts=True)
    assert dict(zip(levels.tolist(), counts.tolist(), strict=True)) == asked
    record = read_record(run.folder.trial("control-exposure"))
    assert record.result["pool"] == asked
    assert record.result["examples"] == sum(asked.values())
    assert sum(read_record(run.folder.trial("all")).result["pool"].values()) == len(store.select(("A1", "C1"), "train"))
    rows = json.loads(run.folder.evidence.read_text())["exposure"]
    seen = {(row["entry"], row["level"]): row["examples"] for row in rows}
    kept = record.result["best_step"] / record.result["steps"]
    assert seen["control-exposure", "A1"] == pytest.approx(asked["A1"] * kept)
    assert seen["A1", "C1"] == 0.0
    assert seen["all-C1", "C1"] > seen["all", "C1"] > 0.0


def test_a_level_without_examples_for_the_exposure_control_is_refused(run_with_controls):
    """A level may be empty after cleaning."""
    run = run_with_controls
    job = training_job(run.config, run.folder, run.trials["control-exposure"], "")
    empty = replace(job, levels=(*job.levels, "B9"), examples_per_level={"B9": 10})
    with pytest.raises(TrainingError, match="no examples in the train split of B9, and 10 are asked for"):
        select_training(ExampleStore.open(run.folder.examples), empty)
    none = replace(job, levels=(*job.levels, "B9"), examples_per_level={})
    assert len(select_training(ExampleStore.open(run.folder.examples), none)) > 0


def test_controls_train_on_as_many_documents_as_their_level(run_with_controls):
    """Size controls draw from all levels, placebo groups are disjoint, and step controls see everything."""
    run = run_with_controls
    everything, level = documents_of(run, "all"), {name: documents_of(run, name) for name in ("A1", "C1")}
    for name in ("A1", "C1"):
        size, placebo = documents_of(run, f"control-size-{name}"), documents_of(run, f"control-placebo-{name}")
        assert len(size) == len(placebo) == len(level[name])
        assert size != level[name]
        assert size < everything
        assert documents_of(run, f"control-steps-{name}") == everything
        card = (run.folder.trial(f"control-size-{name}").model / "README.md").read_text()
        assert f"(a random part of their documents, as many as {name} has)" in card
    groups = [documents_of(run, f"control-placebo-{name}") for name in ("A1", "C1")]
    assert not groups[0] & groups[1]
    assert groups[0] | groups[1] == everything
    assert np.mean([document in level["A1"] for document in groups[0]]) == pytest.approx(0.5, abs=0.3)


def test_leaks_that_are_only_reported_withhold_the_verdict_unless_allowed(tiny_run):
    """From the CSV to the headline, in a run whose near duplicates were not moved to one split."""
    near = {
        "data": {
            "levels": ["A1", "C1"],
            "sample": {"rows": 600, "level_shares": {"A1": 5, "C1": 1}},
            "near_duplicates": {"action": "report", "threshold": 0.7},
        },
        "masking": {"examples_per_document": 1, "shard_documents": 1024},
    }
    run = tiny_run(near)
    assert run.do() == []
    evidence = json.loads(run.folder.evidence.read_text())
    assert evidence["leakage"]["leaky_test_documents"] > 0
    assert evidence["answer"]["headline"].startswith("No verdict: ")
    allowed = tiny_run({**near, "report": {"resamples": 100, "allow_leaks": True}})
    assert allowed.do() == []
    evidence = json.loads(run.folder.evidence.read_text())
    assert evidence["answer"]["headline"].startswith("On a leaky split: ")
    assert {effect["name"] for effect in evidence["leaks"]["effects"]} >= {"start", "all"}
