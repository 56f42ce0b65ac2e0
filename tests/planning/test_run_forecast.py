"""What a run is expected to take, written down before it begins, and held against its budget."""

import json
from pathlib import Path

import pytest

from raysweep.config.loading import parse_config
from raysweep.errors import ConfigError
from raysweep.pipeline.inline_executor import InlineExecutor
from raysweep.planning.budget import Purse, Spent
from raysweep.planning.run_forecast import expected_spending, foresee, plan_of, with_packing
from raysweep.scheduling.records import State, read_record
from raysweep.scheduling.trials import expand_trials
from raysweep.storage.run_folder import RunFolder

GPU = "Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ: 1\n"


@pytest.fixture(autouse=True)
def no_calibration(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSWEEP_CALIBRATION", str(tmp_path / "calibration.json"))


def test_a_run_writes_down_what_it_is_expected_to_take(tiny_run):
    """Before it begins, so that planned and actual times can be laid side by side at its end."""
    run = tiny_run()
    run.do("prepare")
    plan = json.loads(run.folder.plan.read_text())
    assert set(plan["trials"]) == set(run.trials)
    stages = plan["expected_wall_s"]
    assert stages["total"] == pytest.approx(
        sum(seconds for stage, seconds in stages.items() if stage != "total"), abs=0.05
    )
    for trial in plan["trials"].values():
        parts = [trial[part] for part in ("start_s", "step_s", "evaluation_s", "checkpoint_s")]
        assert trial["expected_s"] == pytest.approx(sum(parts), abs=0.01)
    assert plan["trials"]["all-C1"]["starts_at_s"] >= plan["trials"]["all"]["ends_at_s"]
    before = run.folder.plan.stat().st_mtime_ns
    again = tiny_run()
    again.do("mask")
    assert again.folder.plan.stat().st_mtime_ns == before


def test_a_plan_above_the_budget_is_refused_with_its_figures(tiny_run):
    """Nothing is started, and the message says how to go on."""
    run = tiny_run({"budget": {"wall_hours": 1e-6}})
    with pytest.raises(ConfigError, match=r"budget\.wall_hours: found 1e-06; the plan expects 0\.\d+ hours.*start_any"):
        run.everything()
    assert not run.folder.splits.exists()


def test_at_the_cap_trainings_stop_and_only_a_raised_budget_goes_on(tiny_run, finished_storage):
    """A checkpoint is saved, what is done is kept, and the weights in the end are those of an undisturbed run."""
    first = tiny_run({"budget": {"wall_hours": 1.0, "start_anyway": True}})
    first.executor = InlineExecutor(purse=Leaps(first, looks=6))
    lost = first.everything()
    assert [each.state for each in lost] == [State.STOPPED, *[State.PENDING] * (len(lost) - 1)]
    assert lost[0].reason.startswith("budget: ")
    assert Spent.read(first.folder).wall_hours >= 1.0
    with pytest.raises(ConfigError, match=r"budget\.wall_hours: 1\.\d+ of 1 hours are used; raise it to go on"):
        tiny_run({"budget": {"wall_hours": 1.0, "start_anyway": True}}).everything()

    second = tiny_run({"budget": {"wall_hours": 1000.0}})
    assert second.everything() == []
    undisturbed = RunFolder(finished_storage / "tiny")
    for name in second.trials:
        weights = [run.trial(name).model / "model.safetensors" for run in (second.folder, undisturbed)]
        assert weights[0].read_bytes() == weights[1].read_bytes()
    assert read_record(second.folder.trial(lost[0].trial)).attempts == 2


class Leaps(Purse):
    """A purse whose clock leaps by an hour at one of its looks."""

    def __init__(self, run, *, looks):
        super().__init__(run.folder, run.config.budget, run.config.prices, device="cpu")
        self.left = looks

    def look(self, now, *, gpus, cores):
        self.left -= 1
        return super().look(now + (3600.0 if self.left <= 0 else 0.0), gpus=gpus, cores=cores)


@pytest.fixture
def big(tmp_path):
    """The planned experiment's shape: GPT-2 base, six trials and five fine-tunes."""
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


@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
def test_more_gpus_take_less_time_and_never_less_than_the_bound(big, gpus):
    """max(longest chain, work divided by GPUs); the makespan of this graph stays within 5 % of it."""
    config, trials, folder = big
    span = foresee(config, trials, folder, gpus=gpus).makespan
    assert span.lower_bound_s <= span.makespan_s <= 1.05 * span.lower_bound_s
    assert span.critical_path_s <= span.lower_bound_s


def test_a_price_is_that_of_the_gpus_for_as_long_as_they_are_held(big):
    """An idle GPU that is rented costs as much as a busy one; the trainings' own share is told apart."""
    config, trials, folder = big
    seen = foresee(config, trials, folder, gpus=8)
    plan = plan_of(config, seen)
    assert plan["cost"]["amount"] == pytest.approx(2.0 * plan["gpu_hours"], rel=1e-3)
    assert plan["makespans"][0]["cost"]["amount"] == pytest.approx(2.0 * 8 * seen.makespan.makespan_s / 3600, rel=1e-3)
    assert plan["source"] == "assumed"


def test_packing_is_settled_before_ray_is_asked(big, monkeypatch, tmp_path):
    """`pack: auto` becomes a number by the calibration of this machine's GPU; 1 without one."""
    driver = tmp_path / "gpus" / "0000:01:00.0"
    driver.mkdir(parents=True)
    (driver / "information").write_text(GPU)
    monkeypatch.setattr("raysweep.planning.devices.DRIVER", tmp_path / "gpus")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    config, *_ = big
    assert with_packing(config).pack == 1


def test_a_plan_for_more_gpus_than_there_are_is_made_as_if_they_were_there(big):
    """The run refuses it when it starts; until then a plan is only a plan."""
    config, *_ = big
    values = config.model_dump(mode="json", by_alias=True)
    values["trials"]["all"]["gpus"] = 4.0
    wide = parse_config(values)
    span = foresee(wide, expand_trials(wide), RunFolder(Path("nowhere")), gpus=2).makespan
    assert span.gpus == 4
    assert span.makespan_s >= span.lower_bound_s


def test_a_machine_that_only_drives_a_cluster_foretells_gpus_not_its_own_cores(big, tmp_path):
    """Its wall time is at least the longest chain; how many GPUs will come is not known here."""
    config, *_ = big
    values = {**config.model_dump(mode="json", by_alias=True), "resources": {"address": "auto"}}
    there = parse_config(values)
    trials = expand_trials(there)
    seen = foresee(there, trials, RunFolder(tmp_path))
    assert seen.device.name == "A100"
    spending = expected_spending(there, trials, RunFolder(tmp_path))
    assert spending.wall_hours == pytest.approx(seen.makespan.critical_path_s / 3600)
    assert spending.gpu_hours > spending.wall_hours
