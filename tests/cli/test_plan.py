"""`raysweep plan` on a terminal and as JSON."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from raysweep.cli.gantt import BESIDE, ON_CHAIN, critical_chain, draw_gantt
from raysweep.cli.plan_output import print_plan, read_counts
from raysweep.cli.settings import Settings
from raysweep.cli.terminal import amount, duration, size
from raysweep.errors import ConfigError
from raysweep.planning.run_forecast import forecast_run
from raysweep.scheduling.trials import expand_trials

EXPERIMENTS = Path(__file__).parents[2] / "experiments.yaml"


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSWEEP_CALIBRATION", str(tmp_path / "calibration.json"))
    return Settings(file=EXPERIMENTS, storage=str(tmp_path / "runs"))


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("gpus", [None, [1.0, 2.0, 4.0, 8.0]])
def test_the_plan_fits_the_terminal_width(settings, capsys, monkeypatch, width, gpus):
    """No line of the table or the picture is wrapped."""
    monkeypatch.setenv("COLUMNS", str(width))
    print_plan(settings, as_json=False, gpus=gpus)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    bars = [line for line in lines if "│" in line and (ON_CHAIN in line or BESIDE in line)]
    assert len(bars) == 11
    assert any("assumed, not measured" in line for line in lines)


def test_stages_that_depend_on_a_missing_corpus_are_not_forecast(capsys, tmp_path):
    """How long it takes to score an unknown number of documents is unknown."""
    overrides = (f"data.csv={tmp_path}/none.csv",)
    settings = Settings(file=EXPERIMENTS, asked_profile="efcamdat", storage=str(tmp_path), overrides=overrides)
    print_plan(settings, as_json=False, gpus=None)
    output = " ".join(capsys.readouterr().out.split())
    assert "the other stages depend on the corpus, which is not here" in output
    assert "the whole run" not in output


def test_the_gantt_chart_is_readable_without_colours(settings):
    """The chain that ends last is drawn with other bars."""
    trials = expand_trials(settings.config)
    span = forecast_run(settings.config, trials, settings.folder, gpus=8).makespan
    out = io.StringIO()
    Console(file=out, width=80, no_color=True).print(draw_gantt(trials, span, width=80))
    solid = {line.split()[0] for line in out.getvalue().splitlines() if "│" in line and ON_CHAIN in line}
    assert solid == critical_chain(trials, span)
    assert "all" in solid


def test_plan_json_has_makespans_and_trial_durations(settings, capsys):
    """Makespans are given for this machine first, then for 1, 2, 4 and 8 GPUs."""
    print_plan(settings, as_json=True, gpus=None)
    plan = json.loads(capsys.readouterr().out)
    assert [span["gpus"] for span in plan["makespans"][1:]] == [1, 2, 4, 8]
    for span in plan["makespans"]:
        assert span["critical_path_s"] <= span["lower_bound_s"] <= span["makespan_s"]
    assert set(plan["expected_wall_s"]) == {"prepare", "mask", "train", "evaluate", "report", "total"}
    for trial in plan["trials"]:
        assert trial["forecast"]["expected_s"] > 0
        assert trial["starts_at_s"] < trial["ends_at_s"]


def test_a_trial_that_needs_more_gpus_has_no_makespan(settings, capsys, tmp_path):
    """A number would be meaningless."""
    asked = Settings(file=EXPERIMENTS, storage=str(tmp_path / "runs"), overrides=("trials.all.gpus=4",))
    print_plan(asked, as_json=True, gpus=[2.0, 4.0])
    _, two, four = json.loads(capsys.readouterr().out)["makespans"]
    assert two["makespan_s"] is None
    assert four["makespan_s"] > 0


@pytest.mark.parametrize("text", ["0", "1,two", "", "1.5", "-1", "1,,2"])
def test_an_invalid_number_of_gpus_is_refused(text):
    """The message has an example of a valid value."""
    with pytest.raises(ConfigError, match=r"--gpus: found '.*'; must be whole numbers above 0, such as 1,2,4,8"):
        read_counts(text)


def test_times_sizes_and_costs_are_formatted_for_people():
    """Figures are times, sizes and money."""
    assert [duration(seconds) for seconds in (0, 59.4, 185, 7800)] == ["0 s", "59 s", "3 min 05 s", "2 h 10 min"]
    assert [size(count) for count in (12, 13_300_740, 1.5e9, 5e11)] == ["12 B", "13 MB", "1.5 GB", "500 GB"]
    assert [amount({"amount": number, "currency": "EUR"}) for number in (1234.5, 0.0008)] == [
        "1,234.50 EUR",
        "0.0008 EUR",
    ]
    assert amount(None) == "-"


def test_rates_of_an_unknown_gpu_are_marked_as_a_guess(tmp_path, capsys, monkeypatch):
    """Its times are those of another kind of GPU."""
    monkeypatch.setattr("raysweep.planning.devices._gpu_names", lambda _: ["NVIDIA Z9"])
    print_plan(Settings(file=EXPERIMENTS, storage=str(tmp_path)), as_json=False, gpus=None)
    assert "GPU 'Z9': its kind is not known here; where nothing is measured, taken as A100" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_plan_of_days_on_a_cpu_suggests_alternatives(tmp_path, capsys, monkeypatch):
    """GPT-2 base for 225,000 steps is too much for a CPU."""
    monkeypatch.setattr("raysweep.planning.devices._gpu_names", lambda _: [])
    size = ("model.start=scratch", "model.size=gpt2", "data.csv=null")
    print_plan(
        Settings(file=EXPERIMENTS, asked_profile="efcamdat", storage=str(tmp_path), overrides=size),
        as_json=False,
        gpus=None,
    )
    output = " ".join(capsys.readouterr().out.split())
    assert "days. Use GPUs (cluster.yaml; `plan --gpus 1,2,4`), or a smaller model" in output
    print_plan(Settings(file=EXPERIMENTS, storage=str(tmp_path)), as_json=False, gpus=None)
    assert "days. Use GPUs" not in capsys.readouterr().out


def test_the_plan_with_sequential_seeds_is_stated_as_an_upper_bound(tmp_path, capsys):
    """All 55 trainings are counted, but only 22 are trained first."""
    asked = Settings(file=EXPERIMENTS, storage=str(tmp_path / "runs"), overrides=("seeds={max: 5, stop: sequential}",))
    print_plan(asked, as_json=False, gpus=None)
    output = " ".join(capsys.readouterr().out.split())
    assert "all 55 trials are counted, which is an upper bound. 22 are trained first" in output
    print_plan(asked, as_json=True, gpus=[1.0])
    assert json.loads(capsys.readouterr().out)["is_upper_bound"] is True
