"""Control trials in a real run: they train on their part of the documents, are scored, and reach the report."""

import json
import re

import numpy as np
import pytest

from raysweep.masking.example_store import ExampleStore
from raysweep.pipeline.jobs import training_job
from raysweep.scheduling.records import State, read_record
from raysweep.training.attempt import select_training

NAMES = [f"control-{kind}-{level}" for kind in ("size", "steps", "placebo") for level in ("A1", "C1")]


def documents_of(run, trial):
    """The documents that a trial trains on, as its training would choose them."""
    store = ExampleStore.open(run.folder.examples)
    job = training_job(run.config, run.folder, run.trials[trial], "")
    return set(store.documents_of(select_training(store, job)).tolist())


def test_controls_are_trained_scored_and_reported_beside_what_was_done_already(run_with_controls):
    """Asking for them later trains them alone."""
    run = run_with_controls
    said = run.listener.lines
    assert any(re.fullmatch(r"A1: skip, done \d+ min ago with the same config", line) for line in said)
    assert [line for line in said if line.endswith(": training")] == [f"{name}: training" for name in NAMES]
    for name in NAMES:
        record = read_record(run.folder.trial(name))
        assert record is not None
        assert record.state is State.DONE
    evidence = json.loads(run.folder.evidence.read_text())
    assert [row["name"] for row in evidence["controls"]["rows"]] == NAMES
    assert all(set(row["cells"]) == {"A1", "C1"} for row in evidence["controls"]["rows"])
    assert [one["scope"] for one in evidence["controls"]["findings"]] == ["overall", "A1", "C1"] * 3
    assert all(name in run.folder.report_html.read_text(encoding="utf-8") for name in NAMES)


def test_controls_train_on_as_many_documents_as_their_level(run_with_controls):
    """Size controls draw from all levels, placebo groups share no document, step controls see everything."""
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


def test_leaks_that_are_only_reported_refuse_the_verdict_until_they_are_allowed(tiny_run):
    """From the CSV to the headline, in a run whose near duplicates stay where they are."""
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
    assert {one["name"] for one in evidence["leaks"]["effects"]} >= {"start", "all"}
