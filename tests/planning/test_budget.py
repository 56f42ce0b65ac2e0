"""Limits on what a run may spend: the decision before it starts, and the checks while it runs."""

import pytest

from raysweep.config.budget_settings import BudgetConfig, PricesConfig
from raysweep.errors import InputError
from raysweep.planning.budget import KEEP_EVERY_S, BudgetWatch, Spent, reached_cap, refuse_start
from raysweep.storage.run_folder import RunFolder

PRICES = PricesConfig(gpu_hour=2.0, currency="EUR")


@pytest.mark.parametrize(
    ("budget", "spent", "expected", "problems"),
    [
        ({"gpu_hours": 10.0}, Spent(), Spent(gpu_hours=9.5), []),
        ({}, Spent(gpu_hours=1e6), Spent(gpu_hours=1e6), []),
        (
            {"gpu_hours": 10.0},
            Spent(),
            Spent(gpu_hours=12.345),
            [
                "budget.gpu_hours: found 10; the plan expects 12.35 GPU-hours. "
                "raise it, or set budget.start_anyway: true to train until the cap"
            ],
        ),
        ({"gpu_hours": 10.0, "start_anyway": True}, Spent(), Spent(gpu_hours=12.345), []),
        (
            {"wall_hours": 2.0, "start_anyway": True},
            Spent(wall_hours=2.0),
            Spent(wall_hours=1.0),
            ["budget.wall_hours: 2.00 of 2 hours are used; raise it to go on"],
        ),
        (
            {"cost": 5.0},
            Spent(cost=4.0),
            Spent(cost=1.5),
            [
                "budget.cost: found 5; the plan expects 1.50 EUR besides 4.00 used. "
                "raise it, or set budget.start_anyway: true to train until the cap"
            ],
        ),
    ],
    ids=["enough", "no cap", "too little", "starts anyway", "used up", "not enough left"],
)
def test_a_run_starts_only_within_its_budget(budget, spent, expected, problems):
    """The message has the figures and the options that help; a cap that is used up does not depend on estimates."""
    assert refuse_start(BudgetConfig(**budget), spent, expected, currency="EUR") == problems


@pytest.mark.parametrize(
    "content", ["[1]", '{"gpu_hour": 1}', '{"gpu_hours": "abc"}', '{"cost": null}', '{"cost": -1}', '{"cost": NaN}']
)
def test_an_edited_record_of_the_spending_is_named(tmp_path, content):
    """It is not read as 0, which would let a run spend its budget again."""
    folder = RunFolder(tmp_path)
    folder.spent.write_text(content)
    with pytest.raises(InputError, match=r"spent.json: is damaged or was edited; delete it to count from 0 again"):
        Spent.read(folder)


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ({"gpu_hours": 3.0}, ""),
        ({"gpu_hours": 2.0}, "budget: 2.00 of 2 GPU-hours are used (budget.gpu_hours)"),
        ({"wall_hours": 0.5}, "budget: 1.00 of 0.5 hours are used (budget.wall_hours)"),
        ({"cost": 4.0}, "budget: 4.00 of 4 EUR are used (budget.cost)"),
    ],
    ids=["below", "GPU-hours", "wall", "cost"],
)
def test_trainings_stop_when_a_cap_is_reached(budget, reason):
    """The reason names the cap, since it is written to the record."""
    spent = Spent(gpu_hours=2.0, wall_hours=1.0, cost=4.0)
    assert reached_cap(BudgetConfig(**budget), spent, currency="EUR") == reason


def test_the_budget_watch_adds_to_the_spending_of_earlier_runs(tmp_path):
    """By a fake clock, two GPUs run for half an hour, none for an hour, and then a second run uses the same folder."""
    folder = RunFolder(tmp_path)
    budget = BudgetConfig(gpu_hours=1.2)
    watch = BudgetWatch(folder, budget, PRICES, device="NVIDIA A100")
    assert watch.record_usage(0.0, gpus=0.0, cores=0.0) == ""
    assert watch.record_usage(1800.0, gpus=2.0, cores=0.0) == ""
    assert watch.record_usage(5400.0, gpus=0.0, cores=0.0) == ""
    watch.close()
    assert Spent.read(folder) == Spent(gpu_hours=1.0, wall_hours=0.5, cost=2.0)
    again = BudgetWatch(folder, budget, PRICES, device="NVIDIA A100")
    assert again.record_usage(99_000.0, gpus=1.0, cores=0.0) == ""
    assert again.record_usage(99_000.0 + 720.0, gpus=1.0, cores=0.0).startswith("budget: 1.20 of 1.2 GPU-hours")


def test_a_kill_loses_only_seconds_of_recorded_spending(tmp_path):
    """Spending is written to disk while trainings run."""
    folder = RunFolder(tmp_path)
    watch = BudgetWatch(folder, BudgetConfig(), PRICES, device="cpu")
    for second in range(3 * int(KEEP_EVERY_S)):
        watch.record_usage(float(second), gpus=0.0, cores=2.0)
    assert Spent.read(folder).wall_hours * 3600 >= 2 * KEEP_EVERY_S


def test_the_gpu_price_depends_on_the_gpu_type(tmp_path):
    """A100s have a price of their own; other GPUs have the general one."""
    prices = PricesConfig(gpu_hour=1.0, gpu_types={"A100": 3.0}, core_hour=0.1)
    amounts = {}
    for device, use in (("NVIDIA A100-SXM4", (1.0, 0.0)), ("Tesla T4", (1.0, 0.0)), ("cpu", (0.0, 4.0))):
        folder = RunFolder(tmp_path / device.split()[0])
        watch = BudgetWatch(folder, BudgetConfig(), prices, device=device)
        watch.record_usage(0.0, gpus=0.0, cores=0.0)
        watch.record_usage(3600.0, gpus=use[0], cores=use[1])
        watch.close()
        amounts[device] = Spent.read(folder).cost
    assert amounts == pytest.approx({"NVIDIA A100-SXM4": 3.0, "Tesla T4": 1.0, "cpu": 0.4})
