"""A thousand trials fit on a screen or two, since the seeds of an entry share a row."""

import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from raysweep.cli.app import app
from raysweep.cli.progress_view import status_table
from raysweep.cli.seed_rows import MOST_ROWS, count_words, rows_of
from raysweep.pipeline.status import TrialStatus
from raysweep.scheduling.records import State
from raysweep.scheduling.trials import expand_trials
from tests.simulated_run import LEVELS, make_config

ENTRIES = [*LEVELS, "all", *(f"all-{level}" for level in LEVELS)]


@pytest.fixture(scope="module")
def trials():
    """Return thirteen seeds of eleven trials."""
    return expand_trials(make_config(seeds=tuple(range(13))))


def test_few_trials_have_one_row_each():
    """Each seed has a row, too."""
    trials = expand_trials(make_config(seeds=(0, 1)))
    assert len(trials) <= MOST_ROWS
    assert rows_of(trials) == {name: [name] for name in trials}


def test_the_seeds_of_an_entry_share_a_row(trials):
    """All entries are present, in their order."""
    rows = rows_of(trials)
    assert list(rows) == ENTRIES
    assert rows["A1"] == [f"A1-seed{seed}" for seed in range(13)]
    assert sorted(name for names in rows.values() for name in names) == sorted(trials)


def test_trial_states_are_counted():
    assert count_words(["pending", "done", "pending"]) == "2 pending, 1 done"
    assert count_words(["done"]) == "done"


def test_a_plan_of_many_trials_fits_one_screen(tmp_path, monkeypatch):
    """The table and the picture have a row per entry; time and disk are totals of its seeds."""
    monkeypatch.chdir(tmp_path)
    trials = {level: {"levels": [level], "steps": 50} for level in LEVELS}
    trials |= {"all": {"levels": list(LEVELS), "steps": 100}, "all-A1": {"levels": ["A1"], "from": "all", "steps": 9}}
    profiles = {str(seeds): {"seeds": seeds, "trials": trials} for seeds in (1, 13)}
    (tmp_path / "experiments.yaml").write_text(json.dumps({"default": "13", "profiles": profiles}))
    few, many = (
        CliRunner().invoke(app, ["plan", "--profile", profile], env={"COLUMNS": "200"}).output.splitlines()
        for profile in ("1", "13")
    )
    assert len(many) == len(few)
    assert many[0].startswith("13: 91 trials on ")
    row = next(line for line in many if "A1 (13 seeds)" in line)
    assert row.startswith("├─ A1 (13 seeds) ")
    assert row.rstrip().endswith("13 pending")
    assert sum(line.startswith("   └─ all-A1 (13 seeds)") for line in many) == 1
    picture = [line for line in many if line.startswith(("all-A1 │", "all-A1  │"))]
    assert len(picture) == 1
    assert any("from the start of its first seed to the end of its last" in line for line in many)


def test_the_status_of_many_trials_aggregates_each_entrys_seeds(trials):
    """Steps and times are summed, losses averaged, and the first reasons shown."""
    base = {"steps": 400, "tokens_per_second": None, "seconds_left": None}
    rows = [
        TrialStatus(trial=name, state=State.DONE, step=400, loss=2.0 + trial.seed, busy_seconds=60.0, reason="", **base)
        if trial.seed < 3
        else TrialStatus(
            trial=name, state=State.BLOCKED, step=0, loss=None, busy_seconds=0.0, reason=f"its parent {name}", **base
        )
        for name, trial in trials.items()
    ]
    console = Console(width=120, record=True)
    console.print(status_table(rows, trials))
    lines = console.export_text().splitlines()
    (row,) = [line for line in lines if line.lstrip().startswith("A1 (13 seeds)")]
    assert "3 ✔ done, 10 ⊘ blocked" in row
    assert "1,200/5,200" in row
    assert "3.000" in row
    assert "⊘ A1-seed3: its parent A1-seed3" in lines
    assert lines[-1] == "… 50 more have a reason; --json lists every trial"
