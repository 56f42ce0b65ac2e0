"""Looks at the claims of a run with sequential seeds, in the evidence and on the page."""

import json

import pytest

from raysweep.config.schema import Config
from raysweep.evidence import formats
from raysweep.evidence.seed_release import take_look
from raysweep.report.writing import write_report
from raysweep.statistics.group_sequential import MOST_MEASURED_ERROR
from tests.simulated_run import make_run

LEVELS = ("A1", "B1")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Train two of at most four seeds; the specialised models gain on A1, and hardly on B1."""
    trials = {level: {"levels": (level,), "steps": 400} for level in LEVELS}
    trials |= {"all": {"levels": LEVELS, "steps": 800}}
    trials |= {f"all-{level}": {"levels": (level,), "steps": 100, "from": "all"} for level in LEVELS}
    sections = {"data": {"levels": LEVELS}, "report": {"resamples": 2000}}
    two = Config.model_validate({"trials": trials, "seeds": 2, **sections})
    folder, _, _ = make_run(tmp_path_factory.mktemp("looks"), two)
    config = Config.model_validate({"trials": trials, "seeds": {"max": 4, "stop": "sequential"}, **sections})
    from raysweep.scheduling.trials import expand_trials

    return folder, config, expand_trials(config)


def test_a_look_lists_the_trainings_that_come_next(run):
    """Every claim has its basis; nothing counts as saved while claims are open."""
    folder, config, trials = run
    (look,) = take_look(folder, config, trials)
    looks = json.loads(folder.looks.read_text())
    assert len(looks["claims"]) == 9
    assert {claim["seeds"] for claim in looks["claims"]} == {2}
    is_open = [claim for claim in looks["claims"] if not claim["is_settled"]]
    assert is_open
    assert all(claim["seed_power"] >= 0.2 for claim in is_open)
    released = set(looks["released"])
    assert {"A1-seed1", "all-seed1"} < released
    assert any(name.endswith("-seed2") for name in released)
    assert not any(name.endswith("-seed3") for name in released)
    assert looks["not_needed"] == []
    assert "next are" in look


def test_the_report_states_looks_and_trainings_spent(run):
    """Each claim has p-values that allow for the looks; trainings that were not begun are not listed."""
    folder, config, trials = run
    values = write_report(folder, config, trials)
    overall = next(finding for finding in values["findings"] if finding["scope"] == "overall")
    (look,) = overall["looks"]
    assert look["seeds"] == 2
    assert look["time"] == 0.5
    assert look["spent"] == pytest.approx(0.0125)
    assert overall["seeds"] == 2
    assert values["settings"]["most_seeds"] == 4
    assert len(values["trainings"]) == 10
    page = folder.report_html.read_text()
    assert "Seeds were trained one after another, up to 4" in page
    assert f"erred in at most {formats.share(MOST_MEASURED_ERROR)} of 5,000" in page
    assert "The looks at each claim" in page
    rows = (folder.tables / "seed_looks.csv").read_text().splitlines()
    assert len(rows) == 1 + 9
