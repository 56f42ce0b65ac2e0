"""Many seeds of an entry are one row and one line; the CSV files have every training."""

import csv

import pytest

from raysweep.report import tables
from raysweep.report.sections.training_runs import MOST_LINES
from raysweep.report.writing import write_report
from tests.report.test_page import Page
from tests.simulated_run import make_config, make_run

SEEDS = MOST_LINES + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    config = make_config(("A1", "C1"), seeds=tuple(range(SEEDS)), transfer=False, resamples=100)
    folder, config, trials = make_run(
        tmp_path_factory.mktemp("folded"), config, documents=30, failed={"A1-seed5": "failed: out of memory"}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "LONGEST_TABLE", 17)
        write_report(folder, config, trials)
    return folder


def rows(folder, name):
    with (folder.tables / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_an_entry_is_one_row_with_the_range_of_its_seeds(folder):
    """There are three entries of six trainings each; failures are counted."""
    by_entry = {row["entry"]: row for row in rows(folder, "trainings_by_entry")}
    assert set(by_entry) == {"A1", "C1", "all"}
    assert {row["seeds"] for row in by_entry.values()} == {str(SEEDS)}
    assert (by_entry["A1"]["state"], by_entry["C1"]["state"]) == ("5 done, 1 failed", "done")
    assert float(by_entry["C1"]["hours"]) == pytest.approx(SEEDS * 0.22)
    assert by_entry["C1"]["loss"] == by_entry["C1"]["loss_low"] == "2.5"


def test_the_linked_csv_lists_every_training(folder):
    """A folded table that is too long to read is replaced by a link."""
    assert len(rows(folder, "trainings")) == 3 * SEEDS
    html = folder.report_html.read_text(encoding="utf-8")
    assert '<a href="tables/trainings.csv">' in html
    assert 'id="table-trainings"' not in html
    assert 'id="table-trainings_by_entry"' in html
    assert not (folder.tables / "trainings.tex").exists()
    assert (folder.tables / "trainings_by_entry.tex").exists()
    Page(html)


def test_the_subtitle_counts_entries_and_their_seeds(folder):
    """Readers see fourteen or more trainings as four models."""
    html = folder.report_html.read_text(encoding="utf-8")
    assert f"4 models with up to {SEEDS} seeds each" in html


def test_a_figure_has_one_line_or_bar_for_all_seeds(folder):
    """Curves are means, and hours are sums."""
    level = (folder.figures / "curve-2.svg").read_text(encoding="utf-8")
    assert level.count("<polyline") == 1
    assert f"C1, mean of {SEEDS} seeds: best" in level
    assert f"({SEEDS} seeds)" in (folder.figures / "hours.svg").read_text(encoding="utf-8")
    models = [row["model"] for row in rows(folder, "generation")]
    assert f"A1, mean of {SEEDS - 1} seeds" in models


def test_a_mean_generation_score_has_the_range_of_its_seeds(folder):
    """The words are right of seed 0 and of the last seed; a measure that no seed has is empty."""
    row = next(row for row in rows(folder, "generation") if row["model"].startswith("C1"))
    ends = (float(row["top1_accuracy_lowest_seed"]), float(row["top1_accuracy_highest_seed"]))
    assert ends == pytest.approx((0.412, 0.412 + 0.01 * (SEEDS - 1)))
    assert ends[0] < float(row["top1_accuracy"]) < ends[1]
    text = " ".join(folder.report_html.read_text(encoding="utf-8").replace("\u202f", " ").split())
    assert "its lowest and highest seed, where they differ" in text
    assert "41.2 % to" in text
    assert "31.0 % to" not in text  # every seed has the same value
