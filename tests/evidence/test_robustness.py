"""All scores, what would change the verdicts, new learners of unknown level, and the cost of each choice."""

from math import log
from types import SimpleNamespace

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr

from raysweep.evidence.choices import describe_choices
from raysweep.evidence.evidence_schema import Cost, Strategy
from raysweep.report.writing import write_report
from raysweep.statistics.contrasts import Estimate
from tests.report.rendering import render_page as page_of
from tests.report.rendering import tables_of
from tests.simulated_run import LEVELS, make_config, truth_of

SPACE = "\N{NO-BREAK SPACE}"


def scores_of(evidence, level, metric="infill"):
    return next(score for score in evidence["scores"] if (score["level"], score["metric"]) == (level, metric))


def test_a_score_is_reported_for_every_weighting(reported):
    """They are compared with pandas: by token, by document, and in bits per byte of the answers' text."""
    folder, evidence = reported
    table = pq.read_table(folder.losses).to_pandas()
    rows = table[(table["model"] == "B1") & (table["level"] == "B1") & table["part"].isin(["answer", "end"])]
    by_document = rows.groupby("document")[["nats", "tokens"]].sum()
    scores = scores_of(evidence, "B1")
    assert scores["perplexity"]["B1"] == pytest.approx(np.exp(rows["nats"].sum() / rows["tokens"].sum()))
    assert scores["document_perplexity"]["B1"] == pytest.approx(
        np.exp((by_document["nats"] / by_document["tokens"]).mean())
    )
    assert scores["documents"] == len(by_document)
    # The ends of answers have no text, so only the answers' text has bits per byte.
    assert scores["bytes"] is None
    assert scores["bits_per_byte"] == {}
    text = rows[rows["part"] == "answer"]
    bits = scores_of(evidence, "B1", "infill_textonly")["bits_per_byte"]["B1"]
    assert bits == pytest.approx(text["nats"].sum() / log(2) / text["bytes"].sum())
    (row,) = [row for row in tables_of(evidence)["weightings"].rows if row[0].text == "B1"]
    assert row[3].values[1] == bits


def test_the_published_metric_is_the_loss_on_sentence_blanks(reported):
    """It is compared with pandas: the measure of the infilling paper's tables, beside the report's metric."""
    folder, evidence = reported
    table = pq.read_table(folder.losses).to_pandas()
    rows = table[(table["model"] == "B1") & (table["level"] == "B1") & (table["part"] == "answer")]
    rows = rows[rows["kind"] == "sentence"]
    expected = np.exp(rows["nats"].sum() / rows["tokens"].sum())
    assert scores_of(evidence, "B1", "sentence_textonly")["perplexity"]["B1"] == pytest.approx(expected)
    (row,) = [row for row in tables_of(evidence)["published_metric"].rows if row[0].text == "B1"]
    assert row[3].values == (pytest.approx(expected), scores_of(evidence, "B1")["perplexity"]["B1"])


def test_a_gain_that_correlates_with_answer_length_is_reported(reported):
    """It is compared with scipy on the table itself; the sentence has the direction and the strength."""
    folder, evidence = reported
    table = pq.read_table(folder.losses).to_pandas()
    table = table[table["part"].isin(["answer", "end"])]
    correlations = []
    for level in evidence["levels"]:
        by_document = table[table["level"] == level].groupby(["model", "document"])[["nats", "tokens"]].sum()
        general, own = by_document.loc["all"], by_document.loc[level]
        saved = (general["nats"] - own["nats"]) / own["tokens"]
        correlations.append(spearmanr(own["tokens"], saved).statistic)
    assert evidence["length_effect"]["correlation"] == pytest.approx(np.mean(correlations))
    longer = {**evidence, "length_effect": {"correlation": 0.35, "documents": 225}}
    assert "grows with the length of a document's answers: the rank correlation is +0.35 (225" in page_of(longer)
    assert "falls with the length" in page_of({**evidence, "length_effect": {"correlation": -0.35, "documents": 225}})
    assert "hardly depends on" in page_of({**evidence, "length_effect": {"correlation": 0.05, "documents": 225}})
    assert "rank correlation" not in page_of({**evidence, "length_effect": None})


def test_scores_are_listed_for_every_model_seed_level_and_metric(make_run):
    """The CSV file has them, too, so that no score needs to be computed again."""
    folder, config, trials = make_run(make_config(("A1", "B1"), seeds=(0, 1)))
    evidence = write_report(folder, config, trials)
    assert len(evidence["scores"]) == 4 * 2
    assert {len(score["perplexity"]) for score in evidence["scores"]} == {11}
    lines = (folder.tables / "scores.csv").read_text().splitlines()
    assert len(lines) == 1 + 4 * 11 * 2
    assert lines[0].endswith("ppl,document_ppl,bits_per_byte")


def test_scores_without_bytes_have_no_bits_per_byte(make_run):
    """Losses of an earlier version lack bytes; everything else is reported."""
    folder, config, trials = make_run()
    pq.write_table(pq.read_table(folder.losses).drop_columns(["bytes"]), folder.losses)
    assert all(score["bits_per_byte"] == {} for score in write_report(folder, config, trials)["scores"])


def test_the_best_score_is_marked_only_among_scores_of_the_same_texts(evidence):
    """These are the columns of the matrix, and the rows of a table whose rows are about different texts."""
    tables = tables_of(evidence)
    marked = {
        name: [[cell.mark == "best" for cell in row] for row in table.rows]
        for name, table in tables.items()
        if any(cell.mark == "best" for row in table.rows for cell in row)
    }
    # It must be the best by the interval of every ratio; parts of the documents have no intervals.
    assert set(marked) <= {"matrix", "confusion"}
    columns = dict(zip(evidence["levels"], list(zip(*marked["matrix"], strict=True))[1:], strict=True))
    assert {level: sum(column) for level, column in columns.items()} == {
        level: int(level in evidence["matrix"]["leaders"]) for level in evidence["levels"]
    }


def test_no_best_model_is_marked_if_models_differ_only_by_chance(make_run):
    """If two models differ only by chance, neither is bold or outlined."""
    config = make_config(("A1", "B1"), transfer=False)
    evidence = write_report(*make_run(config, truth=lambda trial, level, levels: 7.0 if trial is None else 2.6))
    assert evidence["matrix"]["leaders"] == {}
    assert not any(cell.mark == "best" for row in tables_of(evidence)["matrix"].rows for cell in row)
    clear = write_report(*make_run(config, truth=behind(0.5), name="clear"))
    assert clear["matrix"]["leaders"] == {"A1": "A1", "B1": "B1"}


def variations(evidence):
    return {row["name"]: row for row in evidence["sensitivity"]["variations"]}


def behind(general):
    """Make a general model `general` nats behind the specialised ones, which are as good as the fine-tuned."""

    def truth(trial, level, levels):
        own = trial is not None and trial.settings.levels == (level,)
        return truth_of(None, level, levels) if trial is None else 2.6 - (general if own else 0.0)

    return truth


def test_robustness_varies_every_choice_of_the_analysis(evidence):
    """Margins, weighting, metrics, kinds of mask and first languages vary; the report's own choice is not listed."""
    groups = {}
    for row in evidence["sensitivity"]["variations"]:
        groups.setdefault(row["group"], []).append(row["name"])
    assert groups["margin"] == [f"H2's margin {margin} %" for margin in ("5", "7.5", "12.5", "15")]
    assert groups["weighting"] == ["every document the same weight"]
    assert groups["metric"] == ["infill_textonly", "context"]
    assert len(groups["kind of mask"]) == 5
    assert 3 <= len(groups["first language"]) <= 5


def test_a_margin_that_decides_the_verdict_is_reported(make_run):
    """The general model is 6 % behind, which is enough at 10 % but not at 5 %; the answer says so."""
    config = make_config(("A1", "B1"), resamples=1000)
    folder, config, trials = make_run(config, documents=1200, truth=behind(0.06))
    evidence = write_report(folder, config, trials)
    by_name = variations(evidence)
    assert evidence["answer"]["headline"].startswith("Leaning to: one general model is enough")
    assert by_name["H2's margin 15 %"]["outcome"] == "holds"
    assert by_name["H2's margin 5 %"]["outcome"] == "changes"
    assert by_name["H2's margin 5 %"]["verdicts"]["H2"]["verdict"] == "refuted"
    assert {"hypothesis": "H2", "scope": "overall", "was": "confirmed", "verdict": "refuted"} in by_name[
        "H2's margin 5 %"
    ]["changed"]
    margins = evidence["sensitivity"]["margins"]
    assert 1.05 < margins["refuted_below"] < 1.06 < margins["confirmed_above"] < 1.10
    assert "changes in" in evidence["sensitivity"]["sentence"]
    assert "H2's margin 5 %" in evidence["sensitivity"]["sentence"]
    text = folder.report_html.read_text(encoding="utf-8")
    assert text.count("What would change the recommendation: of") == 2  # in the answer, and beside the table


def test_a_robust_answer_is_reported_as_robust(make_run):
    """The general model is far behind by every measure, so no variation changes the advice."""
    evidence = write_report(*make_run(make_config(transfer=False, resamples=1000), documents=150, truth=behind(0.5)))
    assert {row["outcome"] for row in evidence["sensitivity"]["variations"]} == {"holds"}
    # With one seed, the result of another training is unknown.
    assert evidence["sensitivity"]["sentence"].startswith("The recommendation holds in all")
    assert evidence["sensitivity"]["sentence"].endswith("Other seeds were not tried.")


def test_an_answer_with_several_seeds_is_reported_as_robust(make_run):
    """The intervals include the seeds, so the sentence may say so."""
    config = make_config(("A1", "B1"), transfer=False, resamples=1000, seeds=(0, 1))
    evidence = write_report(*make_run(config, documents=90, truth=behind(0.5)))
    assert "Other seeds" not in evidence["sensitivity"]["sentence"]
    assert all(finding["seeds"] in (0, 2) for finding in evidence["findings"])


def test_a_variation_counts_only_its_own_documents(evidence):
    """A variation counts its own documents: those of all languages but one, or of one kind of mask."""
    by_name = variations(evidence)
    total = by_name["every document the same weight"]["documents"]
    languages = {language["l1"]: language["documents"] for language in evidence["first_languages"]}
    assert by_name["without Portuguese"]["documents"] == total - languages["Portuguese"]
    assert by_name["word masks only"]["documents"] <= total


def test_robustness_is_empty_if_nothing_was_tested(make_run):
    """Without a general model there is no claim, and the section says so."""
    failed = {"all": "failed: disk full"} | {f"all-{level}": "blocked: all failed" for level in LEVELS}
    folder, config, trials = make_run(failed=failed)
    evidence = write_report(folder, config, trials)
    assert evidence["sensitivity"]["variations"] == []
    assert "there is nothing to vary" in folder.report_html.read_text(encoding="utf-8")


def test_texts_of_unknown_level_are_served_by_either_family(evidence):
    """Every document is counted once; the mixture is close to the oracle; the level is mostly found."""
    assert [result["family"] for result in evidence["cold_start"]] == ["specialised", "transfer"]
    for family in evidence["cold_start"]:
        assert sum(map(sum, family["confusion"])) == family["documents"] - family["unseen"]
        assert sum(group["documents"] for group in family["by_level"]) == family["documents"]
        assert sum(group["documents"] for group in family["by_length"]) == family["documents"]
        perplexity = family["overall"]["perplexity"]
        assert perplexity["mixture"]["value"] == pytest.approx(perplexity["oracle"]["value"], rel=0.2)
        assert family["accuracy"]["low"] <= family["accuracy"]["value"] <= family["accuracy"]["high"]
    assert evidence["cold_start"][0]["accuracy"]["value"] > 0.8


def test_level_accuracy_excludes_documents_without_visible_text(evidence):
    """One of fifteen documents has no visible text: its group has perplexities, but no accuracy."""
    none = evidence["cold_start"][0]["by_length"][0]
    assert none["accuracy"] is None
    assert none["documents"] == evidence["cold_start"][0]["unseen"] > 0


def test_documents_without_a_token_of_the_metric_have_levels_too(make_run):
    """By the perplexity of the context, a report ended in a fault if a document was blanked as a whole."""
    folder, config, trials = make_run(make_config(report={"resamples": 100, "metric": "context"}), learners=False)
    table = pq.read_table(folder.losses)
    blanked = pc.and_(pc.equal(table["part"], "context"), pc.less(table["document"], 3))
    pq.write_table(table.filter(pc.invert(blanked)), folder.losses)
    evidence = write_report(folder, config, trials)
    assert evidence["cold_start"][0]["documents"] == 45 * len(LEVELS)
    assert evidence["cold_start"][0]["calibration"] is not None


def test_a_level_accuracy_of_100_percent_has_an_exact_interval(make_run):
    """All draws of correct documents are correct, so the exact limit for as many writers is given instead of 100 %."""

    def truth(trial, level, levels):
        return 2.0 if trial is not None and trial.settings.levels == (level,) else 6.0

    accuracy = write_report(*make_run(truth=truth))["cold_start"][0]["accuracy"]
    assert accuracy["value"] == accuracy["high"] == 1.0
    assert 0.9 < accuracy["low"] < 1.0


def test_a_family_of_level_models_needs_two_levels(make_run):
    """A single specialised model leaves no choice."""
    folder, config, trials = make_run(make_config(("B1",), transfer=False))
    assert write_report(folder, config, trials)["cold_start"] == []
    assert "Fewer than two levels have models of their own" in folder.report_html.read_text(encoding="utf-8")


TIMED = {"latency_p50_s": 0.038, "latency_p95_s": 0.05, "tokens_per_second": 421.0}
TOGETHER = {"models": 5, "bytes": 9e7, "batches": {"1": {**TIMED, "latency_p50_s": 0.171}}}


def strategy(name, perplexity, models, hours):
    cost = Cost(models=models, trainings=models, bytes=models * 13_500_000, parameters=None, hours=hours)
    value = Estimate(value=perplexity, low=None, high=None)
    return Strategy(name=name, entries=(), levels=(), perplexity=value, cost=cost if models else None)


def test_each_choice_of_models_has_its_cost_in_words():
    """Costs are training, disk, and answer time; a model per level has two times, since the level may be unknown."""
    strategies = [
        strategy("start", 50_000.0, 0, 0.0),
        strategy("general", 20.0, 1, 2.0),
        strategy("specialised", 16.0, 5, 6.0),
    ]
    speed = {"all": {"device": "cpu", "batches": {"1": TIMED}, "ensemble": TOGETHER}}
    general, specialised = describe_choices(strategies, speed, [SimpleNamespace(hours_of="GPU", hours=2.0)])
    assert general.replace(SPACE, " ") == (
        "One general model: 1 model of 13.5 MB; 2.0 h of GPU time to train; 38.0 ms for an answer."
    )
    assert specialised.replace(SPACE, " ") == (
        "A model per level: 5 models of 67.5 MB together; 6.0 h of GPU time to train; 38.0 ms for an answer if the "
        "level is known and 171 ms if it must be found first; on these test documents the general model's "
        "perplexity is 25.0 % higher."
    )
    untimed, _ = describe_choices(strategies[1:], None, [])
    assert "for an answer" not in untimed


def test_one_model_and_five_models_have_the_same_cost_columns(evidence):
    """Five models that choose among themselves have the same columns."""
    timed = {"device": "cpu", "models": 1, "bytes": 2e7, "batches": {"1": TIMED}, "ensemble": TOGETHER}
    table = tables_of({**evidence, "speed": {"all": timed}})["speed"]
    assert [row[0].text for row in table.rows] == ["all", "5 levels' models, chosen by the text"]
    assert [row[6].text for row in table.rows] == [f"38.0{SPACE}ms", f"0.2{SPACE}s"]
