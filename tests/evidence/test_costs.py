"""Planned and actual costs."""

from raysweep.report.writing import write_report
from raysweep.storage.digests import read_sealed, write_sealed
from tests.report.rendering import tables_of
from tests.simulated_run import make_run, write_json


def planned_run(root, **kwargs):
    folder, config, trials = make_run(root, **kwargs)
    seconds = {name: 3600 * (0.5 if name == "all" else 0.1) for name in trials}
    write_sealed(
        folder.plan,
        {
            "source": "measured",
            "device": "NVIDIA <script>H200</script>",
            "gpu_hours": 1.25,
            "cost": {"amount": 3.5, "currency": "EUR"},
            "expected_wall_s": {"prepare": 2.0, "mask": 10.0, "train": 4000.0, "total": 4012.0},
            "makespans": [{"lower_bound_s": 3000.0}],
            "trials": {name: {"expected_s": value} for name, value in seconds.items()},
        },
    )
    total = {"useful": 90.0, "starting": 6.0, "wasted": 4.0}
    write_json(folder.ledger, {"unit": "gpu", "total": total, "searches": {}, "trials": {}})
    return folder, config, trials


def test_planned_and_actual_times_are_shown_side_by_side(tmp_path):
    """Otherwise a wrong plan would never be corrected."""
    folder, config, trials = planned_run(tmp_path)
    evidence = write_report(folder, config, trials)
    rows = {row[0].text: [cell.values[0] for cell in row[1:]] for row in tables_of(evidence)["planned"].rows}
    planned, actual, ratio = rows["all"]
    assert (planned, actual) == (0.5, 0.4)
    assert ratio == 0.8
    assert rows["stage mask"][1] == 12.5 / 3600
    assert rows["stage prepare"][1] is None
    page = folder.report_html.read_text()
    assert "Planned and actual" in page
    assert "3.50 EUR" in page
    assert "<script>" not in page


def test_an_unfinished_trial_has_no_actual_time(tmp_path):
    """The time of a failed trial says nothing about the plan."""
    folder, config, trials = planned_run(tmp_path, failed={"A1": "failed: out of memory"})
    evidence = write_report(folder, config, trials)
    (row,) = (trial for trial in evidence["costs"]["trials"] if trial["trial"] == "A1")
    assert row["actual_s"] is None
    (train,) = (stage for stage in evidence["costs"]["stages"] if stage["stage"] == "train")
    assert train["actual_s"] is None


def test_the_wall_time_of_trainings_is_given_only_without_interruptions(tmp_path):
    """A second attempt may have started a week later, and that week was not work."""
    folder, config, trials = planned_run(tmp_path)
    (train,) = (o for o in write_report(folder, config, trials)["costs"]["stages"] if o["stage"] == "train")
    assert train["actual_s"] == 0.4 * 3600
    write_sealed(folder.trial("A1").record, {**read_sealed(folder.trial("A1").record, fix=""), "attempts": 2})
    (train,) = (o for o in write_report(folder, config, trials)["costs"]["stages"] if o["stage"] == "train")
    assert train["actual_s"] is None


def test_the_ledgers_categories_sum_to_the_total(tmp_path):
    """They show how the GPU's time was used, as shares of all of it."""
    evidence = write_report(*planned_run(tmp_path))
    parts = {part["part"]: part["share"] for part in evidence["costs"]["ledger"]["parts"]}
    assert parts == {"useful": 0.9, "starting": 0.06, "wasted": 0.04}


def test_a_run_without_a_plan_has_no_table_of_planned_times(evidence):
    """Examples: runs of earlier versions, and stages run individually."""
    assert tables_of(evidence)["planned"].rows == []
