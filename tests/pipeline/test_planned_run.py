"""A run writes its forecast down before it begins, and keeps to its budget."""

import json

import pytest

from raysweep.errors import ConfigError
from raysweep.pipeline.inline_executor import InlineExecutor
from raysweep.planning.budget import BudgetWatch, Spent
from raysweep.scheduling.records import State, read_record
from raysweep.storage.run_folder import RunFolder


def test_a_run_records_its_forecast_before_it_begins(tiny_run):
    """Before it begins, so that planned and actual times can be compared at its end."""
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


def test_a_forecast_above_the_budget_is_refused_with_its_figures(tiny_run):
    """Nothing is started, and the message gives the alternatives."""
    run = tiny_run({"budget": {"wall_hours": 1e-6}})
    with pytest.raises(ConfigError, match=r"budget\.wall_hours: found 1e-06; the plan expects 0\.\d+ hours.*start_any"):
        run.do()
    assert not run.folder.splits.exists()


def test_trainings_stop_at_the_budget_cap_and_resume_with_a_raised_budget(tiny_run, finished_storage):
    """A checkpoint is saved, finished work is kept, and the final weights equal those of an uninterrupted run."""
    first = tiny_run({"budget": {"wall_hours": 1.0, "start_anyway": True}})
    first.executor = InlineExecutor(budget=JumpingBudget(first, looks=4))
    lost = first.do()
    assert [record.state for record in lost] == [State.STOPPED, *[State.PENDING] * (len(lost) - 1)]
    assert lost[0].reason.startswith("budget: ")
    assert Spent.read(first.folder).wall_hours >= 1.0
    with pytest.raises(ConfigError, match=r"budget\.wall_hours: 1\.\d+ of 1 hours are used; raise it to go on"):
        tiny_run({"budget": {"wall_hours": 1.0, "start_anyway": True}}).do()

    second = tiny_run({"budget": {"wall_hours": 1000.0}})
    assert second.do() == []
    undisturbed = RunFolder(finished_storage / "tiny")
    for name in second.trials:
        weights = [run.trial(name).model / "model.safetensors" for run in (second.folder, undisturbed)]
        assert weights[0].read_bytes() == weights[1].read_bytes()
    assert read_record(second.folder.trial(lost[0].trial)).attempts == 2


class JumpingBudget(BudgetWatch):
    """A budget whose clock jumps by an hour at one of its checks."""

    def __init__(self, run, *, looks):
        super().__init__(run.folder, run.config.budget, run.config.prices, device="cpu")
        self.left = looks

    def record_usage(self, now, *, gpus, cores):
        self.left -= 1
        return super().record_usage(now + (3600.0 if self.left <= 0 else 0.0), gpus=gpus, cores=cores)
