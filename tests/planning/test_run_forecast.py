"""How long a run is expected to take on this machine and on others."""

from pathlib import Path

import pytest

from raysweep.config.loading import parse_config
from raysweep.planning.plan_file import plan_of
from raysweep.planning.run_forecast import forecast_run, settle_trials_per_gpu
from raysweep.scheduling.trials import expand_trials
from raysweep.storage.run_folder import RunFolder

GPU = "Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ: 1\n"


@pytest.fixture(autouse=True)
def no_calibration(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSWEEP_CALIBRATION", str(tmp_path / "calibration.json"))


@pytest.fixture
def big(tmp_path):
    """Make the planned experiment's settings: GPT-2 base, six trials and five fine-tunes."""
    levels = ["A1", "A2", "B1", "B2", "C1"]
    own = {level: {"levels": [level], "steps": 10_000 * (rank + 1)} for rank, level in enumerate(reversed(levels))}
    tunes = {f"all-{level}": {"from": "all", "levels": [level], "steps": 1000} for level in levels}
    values = {
        "model": {"size": "gpt2"},
        "trials": {**own, "all": {"levels": levels, "steps": 60_000}, **tunes},
        "prices": {"gpu_types": {"A100": 2.0}, "currency": "EUR"},
    }
    config = parse_config(values)
    return config, expand_trials(config), RunFolder(tmp_path / "big")


def test_the_forecast_bytes_of_a_trial_equal_its_checkpoints_and_models(tmp_path):
    """Steps 30, 60, 90 and 100 are saved with two moments of AdamW; 40, 80 and 100 may each be a better model."""
    search = {"samples": 2, "space": {"learning_rate": {"low": 1e-5, "high": 1e-4}}}
    training = {"steps": 100, "checkpoint_every": 30, "evaluate_every": 40, "warmup_steps": 0, "search": search}
    config = parse_config({"data": {"levels": ["A1"]}, "trials": {"A1": {"levels": ["A1"], **training}}})
    forecast = forecast_run(config, expand_trials(config), RunFolder(tmp_path / "run"), gpus=1)
    a_model = 4 * forecast.rates.parameters
    bytes_expected = 4 * 3 * a_model + 3 * a_model + a_model  # checkpoints, better models, the last model
    assert forecast.trials["A1"].written_bytes == 2 * bytes_expected
    assert forecast.trials["A1"].disk_bytes == 2 * a_model


@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
def test_more_gpus_take_less_time_and_never_less_than_the_lower_bound(big, gpus):
    """The bound is max(longest chain, work / GPUs); this graph's makespan is within 5 % of it."""
    config, trials, folder = big
    span = forecast_run(config, trials, folder, gpus=gpus).makespan
    assert span.lower_bound_s <= span.makespan_s <= 1.05 * span.lower_bound_s
    assert span.critical_path_s <= span.lower_bound_s


def test_a_price_counts_gpus_for_as_long_as_they_are_held(big):
    """A rented GPU costs the same when idle; the share of the trainings is given separately."""
    config, trials, folder = big
    seen = forecast_run(config, trials, folder, gpus=8)
    plan = plan_of(seen)
    assert plan["cost"]["amount"] == pytest.approx(2.0 * plan["gpu_hours"], rel=1e-3)
    assert plan["makespans"][0]["cost"]["amount"] == pytest.approx(2.0 * 8 * seen.makespan.makespan_s / 3600, rel=1e-3)
    assert plan["source"] == "assumed"


def test_gpu_sharing_is_decided_before_ray_starts(big, monkeypatch, tmp_path):
    """`trials_per_gpu: auto` becomes a number by this machine's GPU calibration, or 1 without one."""
    driver = tmp_path / "gpus" / "0000:01:00.0"
    driver.mkdir(parents=True)
    (driver / "information").write_text(GPU)
    monkeypatch.setattr("raysweep.planning.devices.DRIVER", tmp_path / "gpus")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    config, *_ = big
    assert settle_trials_per_gpu(config).trials_per_gpu == 1


def test_a_plan_for_more_gpus_than_exist_assumes_them(big):
    """Only the run refuses it when it starts."""
    config, *_ = big
    values = config.model_dump(mode="json", by_alias=True)
    values["trials"]["all"]["gpus"] = 4.0
    wide = parse_config(values)
    span = forecast_run(wide, expand_trials(wide), RunFolder(Path("nowhere")), gpus=2).makespan
    assert span.gpus == 4
    assert span.makespan_s >= span.lower_bound_s


def test_a_cluster_driver_forecasts_gpus_and_not_its_own_cores(big, tmp_path):
    """Its wall time is at least the longest chain; the number of GPUs that will come is unknown here."""
    config, *_ = big
    values = {**config.model_dump(mode="json", by_alias=True), "resources": {"address": "auto"}}
    there = parse_config(values)
    trials = expand_trials(there)
    seen = forecast_run(there, trials, RunFolder(tmp_path))
    assert seen.device.name == "A100"
    spending = seen.spending
    assert spending.wall_hours == pytest.approx(seen.makespan.critical_path_s / 3600)
    assert spending.gpu_hours > spending.wall_hours


@pytest.mark.parametrize(
    ("resources", "own_gpus", "expected"),
    [
        ({}, None, (1.0, 20.0)),
        ({"gpus_per_trial": 0}, None, (1.0, 15.0)),
        ({"train_workers": "own"}, None, (30.0, 35.0)),
        ({"train_workers": "own", "gpus_per_trial": 0}, None, (13.5, 20.0)),
        ({}, 2, (30.0, 35.0)),
        ({}, 0, (1.0, 20.0)),
        ({"gpus_per_trial": 2}, None, (30.0, 35.0)),
        ({"address": "10.0.0.1:6379"}, None, (30.0, 35.0)),
    ],
)
def test_the_forecast_start_time_depends_on_how_the_training_starts(
    monkeypatch, tmp_path, resources, own_gpus, expected
):
    """An own process takes longer on a GPU than a shared one; seconds are for later starts and the first one."""
    driver = tmp_path / "gpus" / "0000:01:00.0"
    driver.mkdir(parents=True)
    (driver / "information").write_text(GPU)
    monkeypatch.setattr("raysweep.planning.devices.DRIVER", tmp_path / "gpus")
    for name in ("CUDA_VISIBLE_DEVICES", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    own = {} if own_gpus is None else {"gpus": own_gpus}
    config = parse_config(
        {"trials": {"A1": {"levels": ["A1"]}, "B1": {"levels": ["B1"], **own}}, "resources": resources}
    )
    overheads = forecast_run(config, expand_trials(config), RunFolder(tmp_path / "run")).rates.overheads
    assert (overheads.trial_start_s, overheads.first_trial_start_s) == expected


@pytest.mark.parametrize("searched", [{"low": 100, "high": 4000}, {"choices": [4000, 100]}])
def test_a_search_over_steps_is_forecast_with_the_maximum(tmp_path, searched):
    """The forecast was that of the trial's own steps, which no sample has."""

    def forecast(steps, space):
        search = {"samples": 4, "asha": {}, "space": {"learning_rate": {"low": 1e-5, "high": 1e-3}, **space}}
        trial = {"levels": ["A1"], "steps": steps, "warmup_steps": 0, "evaluate_every": 50, "search": search}
        config = parse_config({"data": {"levels": ["A1"]}, "trials": {"A1": trial}})
        return forecast_run(config, expand_trials(config), RunFolder(tmp_path / "run")).trials["A1"]

    assert forecast(200, {"steps": searched}) == forecast(4000, {})
