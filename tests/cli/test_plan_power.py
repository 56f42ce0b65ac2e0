"""`raysweep plan --power` computes from a finished pilot how large an experiment must be."""

import json

import pytest

from raysweep.cli.power_output import print_power
from raysweep.cli.settings import Settings
from raysweep.errors import ConfigError, InputError
from raysweep.report.writing import write_report
from raysweep.storage.run_folder import RunFolder
from tests import simulated_run
from tests.cli.test_plan import EXPERIMENTS


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """Make a pilot with three seeds and known prompts."""
    root = tmp_path_factory.mktemp("runs")
    config = simulated_run.make_config(seeds=(0, 1, 2), resamples=200)
    write_report(*simulated_run.make_run(root, config, prompts=5))
    return root


@pytest.fixture
def settings(storage, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSWEEP_CALIBRATION", str(tmp_path / "calibration.json"))
    return Settings(file=EXPERIMENTS, storage=str(storage), overrides=("prices.core_hour=0.1",))


def planned(settings, capsys, **options):
    print_power(settings, "pilot", as_json=True, **{"effect": 1.1, **options})
    return json.loads(capsys.readouterr().out)


def test_plan_power_gives_learners_per_level_for_several_numbers_of_seeds(settings, capsys):
    """The JSON also has the trainings, hours and price that the seeds take."""
    plan = planned(settings, capsys)
    assert [option["seeds"] for option in plan["options"]] == [1, 3, 5, 10]
    assert [option["trainings"] for option in plan["options"]] == [11, 33, 55, 110]
    hours = [option["cpu_hours"] for option in plan["options"]]
    assert hours[1] == pytest.approx(3 * hours[0], rel=0.2)
    assert all(option["cost"]["amount"] > 0.0 for option in plan["options"])
    levels = plan["options"][3]["levels"]
    assert [(level["level"], level["other"]) for level in levels][:5] == [
        (level, "specialised") for level in simulated_run.LEVELS
    ]
    assert all(level["documents"] >= level["learners"] >= 10 for level in levels if level["learners"] is not None)


def test_a_smaller_effect_needs_more_learners(settings, capsys):
    """Without --effect, the config's smallest effect of interest is used: 5 %."""
    large, small, default = (planned(settings, capsys, effect=effect) for effect in (1.3, 1.05, None))

    def learners(plan):
        return [level["learners"] or 10**9 for level in plan["options"][0]["levels"]]

    assert all(few < many for few, many in zip(learners(large), learners(small), strict=True))
    assert learners(default) == learners(small)
    assert default["effect"] == 1.05


def test_plan_power_prints_tables_and_their_limits(settings, capsys, monkeypatch, tmp_path):
    """A pilot with one seed cannot show how trainings differ."""
    monkeypatch.setenv("COLUMNS", "100")
    print_power(settings, "pilot", effect=1.1, as_json=False)
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 100
    assert "For 80 % power at a ratio of perplexities of 1.1" in output
    assert "Writing prompts: as many as the pilot had." in output
    assert "Give it seeds: 3" not in output
    folder, config, trials = simulated_run.make_run(tmp_path, name="one")
    write_report(folder, config, trials)
    print_power(settings, str(folder.root), effect=1.1, as_json=False)
    assert "Give it seeds: 3." in " ".join(capsys.readouterr().out.split())


def test_an_unusable_pilot_is_refused_with_the_fix(settings, tmp_path):
    """Cases: no report, a report of an earlier version, and one without a comparison."""
    folder = RunFolder(tmp_path / "runs" / "old")
    folder.report.mkdir(parents=True)
    for text, expected in (
        (None, "not there; finish the pilot"),
        ("{}", "is of an earlier version; do `raysweep report --name old --storage .*runs --force report`"),
        ('{"spreads": []}', "a pilot needs these"),
    ):
        if text is not None:
            folder.evidence.write_text(text)
        with pytest.raises(InputError, match=expected):
            print_power(settings, str(folder.root), effect=None, as_json=False)
    with pytest.raises(ConfigError, match=r"--effect: found 0\.9; must be a ratio of perplexities above 1"):
        print_power(settings, "pilot", effect=0.9, as_json=False)
