"""A budget runs out in the middle of a real sweep: checkpoints, records, and the continued sweep."""

import pytest

from raysweep.config.budget_settings import BudgetConfig, PricesConfig
from raysweep.planning.budget import BudgetWatch, Spent
from raysweep.scheduling.records import State, read_record
from tests.sweep_tasks import make_task

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def sweep(session, run, listener, budget):
    from raysweep.cluster.sweep import run_sweep

    tasks = [make_task(run, "A1", steps=30), make_task(run, "A1-B1", parent="A1", steps=30)]
    budget = BudgetWatch(run, budget, PricesConfig(core_hour=3600.0), device="cpu")
    run_sweep(
        session,
        tasks,
        listener,
        storage=run.ray,
        train="tests.cluster.fake_trainings:train_until_asked",
        budget=budget,
    )
    return {task.job.trial: read_record(task.folder) for task in tasks}


def test_at_the_budget_cap_trainings_are_checkpointed_and_resume_with_a_raised_budget(session, run, listener):
    """The price makes a core-second cost 1; waiting trials do not start, and nothing is done twice."""
    records = sweep(session, run, listener, BudgetConfig(cost=1.0))
    assert records["A1"].state is State.STOPPED
    assert records["A1"].reason.startswith("budget: ")
    assert records["A1-B1"] is None
    saved = int((run.trial("A1").root / "checkpoint").read_text())
    assert 0 < saved < 30
    assert Spent.read(run).cost >= 1.0
    assert any(line.startswith(f"A1: stopped after step {saved}/30: budget: ") for line in listener.lines)

    records = sweep(session, run, listener, BudgetConfig(cost=1000.0))
    assert {record.state for record in records.values()} == {State.DONE}
    assert records["A1"].attempts == 2
