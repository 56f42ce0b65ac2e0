"""Guards in the report: a leaky split gets no verdict unless allowed, and controls may explain a gain."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysweep.config.loading import dump_config
from raysweep.publishing.bundle import write_bundle
from raysweep.publishing.verify import verify_bundle
from raysweep.report.writing import write_report
from tests import simulated_run

CONTROLS = {"size_matched": True, "step_matched": True, "placebo": True, "placebo_draws": 1}
KINDS = ("size_matched", "step_matched", "placebo")
ALLOWED = {"resamples": 200, "allow_leaks": True}
GAIN = 0.2


def truth_with(control_gain, *, transfer=False):
    """Let level models gain, controls gain `control_gain`, and fine-tuning gain nothing."""

    def truth(trial, level, levels):
        if trial is None:
            return 7.0
        base = 2.6 + 0.08 * levels.index(level)
        if trial.control is not None:
            return base - control_gain
        return base - GAIN if trial.settings.levels == (level,) and trial.parent is None else base

    return truth


def leak(folder, *, given_away=0.0, count=40):
    """Record that train contains some test documents, as the prepare stage does; 'all' finds them easier."""
    corpus = pq.read_table(folder.documents, columns=["document", "split"])
    tested = corpus["document"].to_numpy()[corpus["split"].to_numpy(zero_copy_only=False) == "test"]
    numbers = np.random.default_rng(0).choice(tested, count, replace=False)
    rows = {"document": numbers, "split": ["test"] * count, "kind": ["near"] * count, "known_to": ["train"] * count}
    pq.write_table(pa.table(rows), folder.leaks)
    record = json.loads(folder.leakage.read_text()) | {
        "near_duplicates": 2 * count,
        "near_duplicates_in_two_splits": 2 * count,
        "test_documents": len(tested),
        "leaky_test_documents": count,
        "leaky_by_kind": {"id": 0, "text": 0, "near": count, "learner": 0},
    }
    folder.leakage.write_text(json.dumps(record))
    losses = pq.read_table(folder.losses)
    frame = {name: losses[name].to_numpy(zero_copy_only=False) for name in ("model", "document", "nats", "tokens")}
    known = (frame["model"] == "all") & np.isin(frame["document"], numbers)
    nats = np.where(known, np.maximum(frame["nats"] - given_away * frame["tokens"], 0.0), frame["nats"])
    pq.write_table(losses.set_column(losses.column_names.index("nats"), "nats", pa.array(nats)), folder.losses)


@pytest.fixture(scope="module")
def by_truth(tmp_path_factory):
    """Make reports of two simulations: levels differ only in size and steps in one, and in language in the other."""
    reports = {}
    for name, control_gain in (("size", GAIN), ("language", -0.05)):
        config = simulated_run.make_config(transfer=False, controls=CONTROLS, resamples=1000)
        root = tmp_path_factory.mktemp(name)
        folder, config, trials = simulated_run.make_run(root, config, truth=truth_with(control_gain), documents=60)
        reports[name] = folder, write_report(folder, config, trials)
    return reports


def h1(evidence, scope="overall"):
    return next(
        finding for finding in evidence["findings"] if (finding["hypothesis"], finding["scope"]) == ("H1", scope)
    )


def test_controls_explain_a_gain_due_only_to_corpus_size(by_truth):
    """Headline, finding and control agree that the level is not the cause."""
    evidence = by_truth["size"][1]
    overall = h1(evidence)
    assert overall["verdict"] == "confirmed"
    assert overall["low"] > 1.1
    assert overall["explained_by"] == ["size_matched", "step_matched", "placebo"]
    assert overall["note"] == (
        "the level does not explain the gain: so much is gained by the size control, the step control, the placebo"
    )
    verdicts = {(finding["kind"], finding["scope"]): finding["verdict"] for finding in evidence["controls"]["findings"]}
    assert {verdicts[kind, "overall"] for kind in KINDS} == {"explained"}
    assert evidence["advice"][0]["text"].endswith(
        "; but not because of the level: so much is gained by the size control, the step control, the placebo."
    )
    answer = evidence["answer"]
    assert answer["headline"].startswith("A model per level gains, but not because of the level: a model on as many")
    assert any(warning.startswith("The placebo explains the gain (") for warning in answer["warnings"])
    assert any("The level does not explain the gain" in reason["text"] for reason in answer["reasons"])


def test_a_gain_due_to_language_survives_the_controls(by_truth):
    """The recommendation stands, and the report says what it was compared with."""
    evidence = by_truth["language"][1]
    assert h1(evidence)["verdict"] == "confirmed"
    assert h1(evidence)["explained_by"] == []
    assert all(finding["verdict"] == "survives" for finding in evidence["controls"]["findings"])
    assert evidence["answer"]["headline"] == "Leaning to: train a model of its own for each level."
    sentence = (
        "The size control does not explain the gain overall and on A1, A2, B1, B2, C1. "
        "Overall it explains \N{MINUS SIGN}"
    )
    assert any(warning.startswith(sentence) for warning in evidence["answer"]["warnings"])


def test_controls_are_shown_apart_from_candidate_models(by_truth):
    """No control is the best model of a level or a way to serve anyone."""
    folder, evidence = by_truth["size"]
    rows = [row["name"] for row in evidence["matrix"]["rows"]]
    controls = [row["name"] for row in evidence["controls"]["rows"]]
    assert not any(name.startswith("control-") for name in rows)
    assert len(controls) == 15
    assert [row["role"] for row in evidence["controls"]["rows"]] == [kind for kind in KINDS for _ in range(5)]
    assert not any(row["name"].startswith("control-") for row in evidence["for_everyone"])
    for name in ("report.html", "report.md"):
        text = (folder.report / name).read_text(encoding="utf-8")
        assert all(control in text for control in controls)
    header = (folder.tables / "controls.csv").read_text().splitlines()[0]
    assert header.startswith("control,verdict,raw,raw_low,raw_high,own,own_low")


def test_a_compute_matched_general_model_may_explain_the_gain(make_run):
    """One model is compared with every level's own; the headline says why the level models gain."""
    controls = {"compute_matched": True, "exposure_matched": True}
    config = simulated_run.make_config(transfer=False, controls=controls, resamples=1000)
    evidence = write_report(*make_run(config, truth=truth_with(GAIN), documents=60))
    verdicts = {(finding["kind"], finding["scope"]): finding["verdict"] for finding in evidence["controls"]["findings"]}
    assert verdicts["compute_matched", "overall"] == verdicts["exposure_matched", "overall"] == "explained"
    assert verdicts["compute_matched", "B1"] in ("explained", "open")
    assert evidence["answer"]["headline"].endswith(
        "not because of the level: a general model that is trained as long as all level models together does as well."
    )


def test_every_placebo_draw_is_shown(make_run):
    """Each level has three groups with a model each; if one fails, two remain."""
    config = simulated_run.make_config(transfer=False, controls={"placebo": True}, resamples=300)
    run = make_run(config, failed={"control-placebo-2-B1": "failed: disk full"}, truth=truth_with(0.0), documents=60)
    evidence = write_report(*run)
    draws = {finding["scope"]: len(finding["draws"]) for finding in evidence["controls"]["findings"]}
    assert draws == {"overall": 2, "A1": 3, "A2": 3, "B1": 2, "B2": 3, "C1": 3}
    assert len(evidence["controls"]["rows"]) == 15
    overall = evidence["controls"]["findings"][0]
    assert overall["verdict"] == "survives"
    assert min(finding["value"] for finding in overall["draws"]) < overall["own"]["value"] * 1.01


def test_adding_controls_does_not_change_other_numbers(make_run, tmp_path):
    """Controls are scored like other models, but take no part in the hypotheses."""
    truth = truth_with(0.0)
    folder, config, trials = make_run(simulated_run.make_config(controls={"placebo": True}), truth=truth)
    with_controls = write_report(folder, config, trials)
    plain_config = simulated_run.make_config()
    losses = pq.read_table(folder.losses)
    kept = pa.array([not name.startswith("control-") for name in losses["model"].to_pylist()])
    pq.write_table(losses.filter(kept), folder.losses)
    plain = write_report(folder, plain_config, {name: trial for name, trial in trials.items() if not trial.control})
    for part in ("findings", "matrix", "gains", "strategies", "for_everyone", "kinds"):
        assert with_controls[part] == plain[part]
    assert plain["controls"] == {"findings": [], "rows": []}


def test_a_failed_control_is_named_without_losing_other_results(make_run):
    """The other levels still get verdicts."""
    config = simulated_run.make_config(transfer=False, controls={"size_matched": True})
    failed = {"control-size-B1": "failed: out of memory"}
    folder, config, trials = make_run(config, failed=failed, truth=truth_with(GAIN), documents=180)
    evidence = write_report(folder, config, trials)
    findings = {finding["scope"]: finding for finding in evidence["controls"]["findings"]}
    assert findings["B1"]["note"] == "control-size-B1 not trained: failed, out of memory"
    assert findings["overall"]["levels"] == ["A1", "A2", "B2", "C1"]
    assert findings["overall"]["verdict"] == "explained"


def test_a_leaky_split_gets_no_verdict(make_run):
    """Nothing is tested; the report says why, and how to test in spite of it."""
    folder, config, trials = make_run()
    leak(folder)
    evidence = write_report(folder, config, trials)
    assert {finding["verdict"] for finding in evidence["findings"]} == {"not tested"}
    assert {finding["value"] for finding in evidence["findings"]} == {None}
    sentence = "40 of 225 test documents are known to train or valid (almost the same text: 40)"
    assert evidence["answer"]["headline"] == f"No verdict: {sentence}."
    assert h1(evidence)["note"] == f"refused: {sentence}; --allow-leaks tests it all the same"
    page = folder.report_html.read_text(encoding="utf-8")
    assert f"No verdict: {sentence}." in page
    assert "No verdict is given, because test documents leak from the training or validation split." in page
    assert f"No verdict: {sentence}." in folder.report_markdown.read_text(encoding="utf-8")


def test_an_allowed_leaky_split_is_marked_everywhere(make_run):
    """It is marked in the headline, in the warnings and in every cell of the verdict table."""
    folder, config, trials = make_run(simulated_run.make_config(report=ALLOWED))
    clean = write_report(folder, config, trials)
    leak(folder)
    evidence = write_report(folder, config, trials)
    assert [finding["verdict"] for finding in evidence["findings"]] == [
        finding["verdict"] for finding in clean["findings"]
    ]
    assert evidence["answer"]["headline"] == f"On a leaky split: {clean['answer']['headline']}"
    assert evidence["answer"]["warnings"][0].startswith("The split is leaky: 40 of 225 test documents")
    page = folder.report_html.read_text(encoding="utf-8")
    grid = page.split('id="table-verdicts"')[1].split("</table>")[0]
    assert grid.count("leaky split") == 18
    assert "these trained models" in grid
    assert "every verdict of this report rests on a leaky split" in page
    assert "leaky split" not in clean["answer"]["headline"]


def test_the_leakage_effect_is_reported_for_each_model(make_run):
    """Only 'all' has losses that are 0.3 nats per token lower on documents it knew."""
    folder, config, trials = make_run(simulated_run.make_config(report=ALLOWED), documents=120)
    leak(folder, given_away=0.3, count=150)
    evidence = write_report(folder, config, trials)
    effects = {effect["name"]: effect for effect in evidence["leaks"]["effects"]}
    assert effects["all"]["documents"] == 150
    assert effects["all"]["against_start"]["value"] == pytest.approx(np.exp(-0.3), abs=0.05)
    assert effects["all"]["against_start"]["high"] < 1.0
    assert effects["start"]["against_start"] is None
    assert effects["B1"]["level"] == "B1"
    assert effects["B1"]["against_start"]["value"] == pytest.approx(1.0, abs=0.1)
    table = (folder.tables / "leak_effects.csv").read_text()
    assert table.splitlines()[0].startswith("model,ppl_leaky,ppl_clean,leaky_over_clean,")


def test_a_leakage_record_of_an_older_version_is_read(make_run):
    """It counts ids, learners and texts; without a list of documents, no effect can be computed."""
    folder, config, trials = make_run()
    assert write_report(folder, config, trials)["leaks"]["is_leaky"] is False
    record = json.loads(folder.leakage.read_text()) | {"texts_in_two_splits": 2}
    folder.leakage.write_text(json.dumps(record))
    evidence = write_report(folder, config, trials)
    assert evidence["leaks"]["is_refused"] is True
    assert evidence["answer"]["headline"] == "No verdict: documents of the test split are known to another split."


def test_controls_are_not_judged_on_a_leaky_split(make_run):
    """Their gains are measured on the same documents."""
    config = simulated_run.make_config(transfer=False, controls={"size_matched": True})
    folder, config, trials = make_run(config, truth=truth_with(GAIN))
    leak(folder)
    evidence = write_report(folder, config, trials)
    assert {finding["verdict"] for finding in evidence["controls"]["findings"]} == {"not tested"}
    assert h1(evidence)["explained_by"] == []


@pytest.mark.parametrize("is_leaky", [False, True])
def test_a_bundle_contains_all_inputs_of_the_leak_and_control_checks(make_run, is_leaky):
    """Verifying it gives the same refusals, effects and explanations, without any text."""
    options = {"report": ALLOWED} if is_leaky else {"controls": CONTROLS, "transfer": False}
    folder, config, trials = make_run(simulated_run.make_config(**options), truth=truth_with(GAIN))
    if is_leaky:
        leak(folder, given_away=0.2)
    folder.config.write_text(dump_config(config), encoding="utf-8")
    write_report(folder, config, trials)
    write_bundle(folder, folder.root / "evidence.zip")
    assert verify_bundle(folder.root / "evidence.zip").differences == ()
