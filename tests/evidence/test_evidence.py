"""The collected evidence: numbers, verdicts and gaps."""

import json

import pyarrow.parquet as pq
import pytest

from raysweep.errors import InputError
from raysweep.evaluation.matrix import build_matrix
from raysweep.report.writing import write_report
from raysweep.storage.atomic_files import read_json
from raysweep.storage.digests import read_sealed, write_sealed
from tests.simulated_run import LEVELS, make_config, truth_of


def finding(evidence, code, scope="overall"):
    return next(
        finding for finding in evidence["findings"] if (finding["hypothesis"], finding["scope"]) == (code, scope)
    )


def row_of(evidence, name):
    return next(row for row in evidence["matrix"]["rows"] if row["name"] == name)


def test_the_matrix_equals_that_of_the_evaluation(reported):
    """It is compared with another implementation: pandas, with the same losses."""
    folder, evidence = reported
    expected = build_matrix(folder.losses, metric="infill")
    for row in evidence["matrix"]["rows"]:
        for level in LEVELS:
            # Nats are rounded to about 1e-9 so that the bootstrap's sums are exact.
            assert row["cells"][level]["value"] == pytest.approx(expected.loc[row["name"], level], rel=1e-6)
            assert row["cells"][level]["low"] < row["cells"][level]["value"] < row["cells"][level]["high"]


def test_verdicts_follow_the_simulated_truth(make_run):
    """Specialised models help on A1 and harm on C1, and fine-tuning is best everywhere; the report says so."""
    evidence = write_report(*make_run(make_config(resamples=1000), documents=300))
    assert finding(evidence, "H1", "A1")["verdict"] == "confirmed"
    assert finding(evidence, "H1", "C1")["verdict"] == "refuted"
    assert finding(evidence, "H2")["verdict"] == "refuted"
    assert {finding(evidence, "H3", level)["verdict"] for level in ("A2", "B2", "C1")} == {"confirmed"}
    # On A1, the level's own model is nearly as good, so it is open which of the two is better.
    assert evidence["answer"]["headline"] == (
        "Leaning to: fine-tune the general model for A2, B1, B2 and C1; use a model adapted to the level on A1 (its "
        "own or a fine-tuned one: open)."
    )


def test_a_levels_gain_equals_its_h1_ratio(evidence):
    """A level's gain is H1's ratio there, in both places."""
    for gain in evidence["gains"]:
        assert gain["specialised"]["value"] == pytest.approx(finding(evidence, "H1", gain["level"])["value"])
        general, special = (row_of(evidence, name)["cells"][gain["level"]]["value"] for name in ("all", gain["level"]))
        assert gain["specialised"]["value"] == pytest.approx(general / special)


def test_a_failed_trial_leaves_a_gap_with_its_reason(make_run):
    """Its hypotheses are not tested, other levels' are; ways are compared on the levels where all have a model."""
    reason = "failed: out of memory"
    blocked = "blocked: its parent all failed"
    folder, config, trials = make_run(failed={"B1": reason, "all-C1": blocked})
    evidence = write_report(folder, config, trials)
    assert finding(evidence, "H1", "B1")["verdict"] == "not tested"
    assert "out of memory" in finding(evidence, "H1", "B1")["note"]
    assert finding(evidence, "H1", "C1")["verdict"] != "not tested"
    assert finding(evidence, "H3", "C1")["verdict"] == "not tested"
    assert finding(evidence, "H1")["levels"] == ["A1", "A2", "B2", "C1"]
    assert row_of(evidence, "B1")["cells"] == {}
    assert evidence["common_levels"] == ["A1", "A2", "B2"]
    assert any("B1, C1" in warning for warning in evidence["answer"]["warnings"])


def test_without_a_general_model_nothing_is_decided_and_other_results_are_shown(make_run):
    """The general training failed and blocked its fine-tunes; five specialised models remain."""
    failed = {"all": "failed: disk full"} | {f"all-{level}": "blocked: all failed" for level in LEVELS}
    evidence = write_report(*make_run(failed=failed))
    assert {finding["verdict"] for finding in evidence["findings"]} == {"not tested"}
    assert evidence["answer"]["headline"].startswith("This run cannot answer")
    assert len(evidence["gaps"]) == 5


def test_several_seeds_are_one_row_with_their_geometric_mean(make_run):
    """Variance between trainings widens the interval."""
    config = make_config(("A1", "B1"), seeds=(0, 1, 2))
    shift = {0: -0.2, 1: 0.0, 2: 0.2}

    def lucky(trial, level, levels):
        return truth_of(trial, level, levels) + (shift[trial.seed] if trial and not trial.parent else 0.0)

    folder, config, trials = make_run(config, truth=lucky)
    evidence = write_report(folder, config, trials)
    alone = build_matrix(folder.losses, metric="infill")["A1"]
    mean = (alone["all-seed0"] * alone["all-seed1"] * alone["all-seed2"]) ** (1 / 3)
    assert row_of(evidence, "all")["cells"]["A1"]["value"] == pytest.approx(mean, rel=1e-6)
    assert len(row_of(evidence, "all")["models"]) == 3
    one_seed = write_report(*make_run(make_config(("A1", "B1")), name="one"))
    width = {
        name: h3["high"] - h3["low"]
        for name, h3 in (("three", finding(evidence, "H3")), ("one", finding(one_seed, "H3")))
    }
    assert width["three"] > width["one"]


def test_a_failed_seed_is_left_out_and_named(make_run):
    """Two of three seeds are still evidence."""
    config = make_config(("A1", "B1"), seeds=(0, 1, 2))
    evidence = write_report(*make_run(config, failed={"A1-seed1": "failed: out of memory"}))
    row = row_of(evidence, "A1")
    assert row["models"] == ["A1-seed0", "A1-seed2"]
    assert "out of memory" in row["missing"]["A1-seed1"]
    assert finding(evidence, "H1", "A1")["verdict"] != "not tested"


@pytest.mark.parametrize(
    "config",
    [
        make_config(transfer=False),
        make_config(("B1",), transfer=False),
        make_config(trials={"odd": {"levels": ("A1", "B2"), "steps": 10}}),
        make_config(report={"metric": "context"}),
        make_config(report={"metric": "infill_textonly", "confidence": 0.9}),
    ],
    ids=["no transfer", "one level", "no roles", "context", "text only"],
)
def test_other_experiment_layouts_get_a_report(make_run, config):
    """Parts that cannot exist are stated to be absent; nothing crashes."""
    folder, config, trials = make_run(config)
    evidence = write_report(folder, config, trials)
    assert len(evidence["findings"]) == 3 * (1 + len(config.data.levels))
    assert folder.report_html.stat().st_size > 10_000


def test_the_first_of_two_entries_in_a_role_enters_the_verdicts(make_run):
    """The second is only shown in the matrix."""
    entries = {"A1": ("A1",), "B1": ("B1",), "all": ("A1", "B1"), "again": ("A1", "B1")}
    trials = {name: {"levels": levels, "steps": 40} for name, levels in entries.items()}
    evidence = write_report(*make_run(make_config(("A1", "B1"), transfer=False, trials=trials)))
    assert row_of(evidence, "all")["role"] == "general"
    assert row_of(evidence, "again")["role"] == "other"


def test_the_same_run_folder_gives_bitwise_equal_evidence(make_run):
    """The bootstrap is seeded, nothing else is random, and no clock is read."""
    folder, config, trials = make_run()
    write_report(folder, config, trials)
    first = folder.evidence.read_bytes(), folder.report_html.read_bytes()
    write_report(folder, config, trials)
    assert (folder.evidence.read_bytes(), folder.report_html.read_bytes()) == first


def test_evidence_contains_no_learner_texts_documents_or_paths(reported):
    """The evidence can be published beside a paper."""
    folder, _ = reported
    saved = folder.evidence.read_text()
    assert "I <b>like</b> it." not in saved
    assert "script>w" not in saved
    assert str(folder.root.parent) not in saved


def test_evidence_is_written_only_with_the_whole_report(make_run):
    """A partly written report does not look finished, even if an older one was."""
    folder, config, trials = make_run()
    write_report(folder, config, trials)
    assert read_json(folder.evidence)["version"] == 2
    folder.report_markdown.unlink()
    folder.report_markdown.mkdir()
    with pytest.raises(OSError, match=r"report\.md"):
        write_report(folder, config, trials)
    assert not folder.evidence.exists()


def test_missing_inputs_are_reported_with_the_stage_that_makes_them(make_run):
    """Losses come from evaluate, and documents from prepare."""
    folder, config, trials = make_run()
    folder.documents.unlink()
    with pytest.raises(InputError, match="run the prepare stage first"):
        write_report(folder, config, trials)
    folder.losses.unlink()
    with pytest.raises(InputError, match="run the evaluate stage first"):
        write_report(folder, config, trials)


def test_without_learners_documents_are_resampled(make_run):
    """The intervals say so, and are narrower if learners wrote several documents."""
    by_learner = write_report(*make_run())
    folder, config, trials = make_run(learners=False, name="other")
    by_document = write_report(folder, config, trials)
    assert by_learner["settings"]["clusters"] == "learner"
    assert by_document["settings"]["clusters"] == "document"
    assert finding(by_learner, "H1")["clusters"] * 3 == finding(by_document, "H1")["clusters"]
    unknown = "Learners are unknown, so every document counts as independent."
    assert by_document["answer"]["warnings"][0].startswith("The intervals cover the choice of test documents only")
    assert by_document["answer"]["warnings"][1].startswith(unknown)
    for page in (folder.report_html, folder.report_markdown):
        assert unknown in page.read_text(encoding="utf-8")
    unchecked = "Learners unknown: it was not checked whether a learner wrote in two splits."
    assert unchecked in folder.report_html.read_text(encoding="utf-8")
    assert not any("Learners are unknown" in warning for warning in by_learner["answer"]["warnings"])


def test_evidence_accepts_counts_above_a_billion(make_run):
    """Counts in the evidence above 1,000,000,000, the maximum of a setting, used to be refused."""
    folder, config, trials = make_run()
    record = read_sealed(folder.trial("all").record, fix="")
    used = 80_000_000_000
    write_sealed(folder.trial("all").record, {**record, "result": {**record["result"], "peak_memory_bytes": used}})
    rows = {row["trial"]: row for row in write_report(folder, config, trials)["trainings"]}
    assert rows["all"]["peak_memory_bytes"] == used


def test_the_cost_of_fine_tunes_includes_the_general_model(evidence):
    """Five fine-tunes need the general model as well: six trainings, and five models to keep."""
    cost = {strategy["name"]: strategy["cost"] for strategy in evidence["strategies"]}
    assert (cost["general"]["trainings"], cost["general"]["models"]) == (1, 1)
    assert (cost["transfer"]["trainings"], cost["transfer"]["models"]) == (6, 5)
    assert cost["transfer"]["hours"] == pytest.approx(0.4 + 5 * 0.05)
    assert cost["specialised"]["hours"] == pytest.approx(5 * 0.2)


def test_training_curves_are_thinned_but_keep_their_last_point(reported):
    """A training of 60,000 steps must not make a page of 3 MB."""
    folder, evidence = reported
    curve = next(curve for curve in evidence["curves"] if curve["trial"] == "all")
    assert len(curve["train"]) <= 120
    assert curve["train"][-1][0] == 800
    lines = [json.loads(line) for line in folder.trial("all").metrics.read_text().splitlines()]
    last = [line["infill"] for line in lines if line["kind"] == "evaluation"][-1]
    assert curve["valid"][-1] == [800, pytest.approx(last)]


def test_an_undertrained_general_model_gives_a_warning(make_run):
    """Verdicts about untrained models mean nothing, however certain."""

    def unlearned(trial, level, levels):
        return 6.0 - (0.01 if trial else 0.0)

    evidence = write_report(*make_run(truth=unlearned))
    assert any("hardly learned" in warning for warning in evidence["answer"]["warnings"])


def test_tokens_of_mask_kinds_sum_to_all_tokens(reported):
    """Each answer is of one kind."""
    folder, evidence = reported
    table = pq.read_table(folder.losses).to_pandas()
    general = table[(table["model"] == "all") & (table["kind"] != "")]
    assert sum(kind["tokens"] for kind in evidence["kinds"]) == general["tokens"].sum()
    word = general[general["kind"] == "word"]
    (shown,) = (kind["general"] for kind in evidence["kinds"] if kind["kind"] == "word")
    assert shown == pytest.approx(2.718281828459045 ** (word["nats"].sum() / word["tokens"].sum()))


def test_text_length_groups_partition_the_test_documents(make_run):
    """Each test document is in one group, and a group's perplexity is that of its documents."""
    folder, config, trials = make_run()
    table = pq.read_table(folder.documents)
    texts = ["x" * (100 if number % 3 == 0 else 700) for number in table["document"].to_pylist()]
    pq.write_table(table.set_column(table.column_names.index("text"), "text", [texts]), folder.documents)
    groups = write_report(folder, config, trials)["lengths"]
    assert [(group["from"], group["below"]) for group in groups] == [(0, 200), (400, 800)]
    assert [group["documents"] for group in groups] == [75, 150]
    losses = pq.read_table(folder.losses).to_pandas()
    short = losses[(losses["model"] == "all") & (losses["kind"] != "") & (losses["document"] % 3 == 0)]
    assert groups[0]["tokens"] == short["tokens"].sum()
    expected = 2.718281828459045 ** (short["nats"].sum() / short["tokens"].sum())
    assert groups[0]["general"] == pytest.approx(expected)


def test_a_pretrained_start_is_identified_by_the_digest_of_its_content(make_run):
    """It is the digest in the records of trained models; the path is not stored anywhere."""
    folder, config, trials = make_run(make_config(("A1", "C1")))
    for name in ("A1", "C1", "all"):
        path = folder.trial(name).record
        record = read_sealed(path, fix="")
        write_sealed(path, {**record, "identity": {**record["identity"], "model": {"start": "d1" * 16}}})
    evidence = write_report(folder, config, trials)
    assert evidence["run"]["start_digest"] == "d1" * 16
    for file in (folder.report_html, folder.report_markdown, folder.tables / "versions.csv"):
        assert "d1" * 16 in file.read_text()


def test_a_start_from_random_weights_has_no_digest(evidence):
    """The settings contain their size."""
    assert evidence["run"]["start_digest"] is None
